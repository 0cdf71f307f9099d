/** Payloads and results as a person reads them. */
export type Shown =
  | { kind: 'json'; text: string }
  | { kind: 'text'; text: string }
  | { kind: 'bytes'; bytes: Uint8Array };

export function shownContent({ encoding, data }: { encoding: 'utf8' | 'base64'; data: string }): Shown {
  if (encoding === 'base64') return { kind: 'bytes', bytes: bytesOf(data) };
  try {
    JSON.parse(data);
  } catch {
    return { kind: 'text', text: data };
  }
  return { kind: 'json', text: indent(data) };
}

export function bytesOf(base64: string): Uint8Array {
  const text = atob(base64);
  return Uint8Array.from(text, (character) => character.charCodeAt(0));
}

const TOKENS = /"(?:[^"\\]|\\.)*"|[{}[\],:]|[^\s{}[\],:"]+/gs;

/**
 * Valid JSON on lines of its own. What stands in it is not parsed and printed again, which would round large numbers, drop
 * what is there twice, and change the order of keys that look like numbers.
 */
export function indent(json: string): string {
  const tokens = json.match(TOKENS) ?? [];
  let text = '';
  let depth = 0;
  const line = (): string => `\n${'  '.repeat(depth)}`;
  tokens.forEach((token, index) => {
    if (token === '{' || token === '[') {
      const isEmpty = tokens[index + 1] === '}' || tokens[index + 1] === ']';
      depth += 1;
      text += isEmpty ? token : token + line();
    } else if (token === '}' || token === ']') {
      depth -= 1;
      const isEmpty = tokens[index - 1] === '{' || tokens[index - 1] === '[';
      text += isEmpty ? token : line() + token;
    } else if (token === ',') text += token + line();
    else if (token === ':') text += ': ';
    else text += token;
  });
  return text;
}

const ROW_BYTES = 16;

/** `00000010  48 65 …  |He…|`, like `hexdump -C`. */
export function hexDump(bytes: Uint8Array): string {
  const rows: string[] = [];
  for (let at = 0; at < bytes.length; at += ROW_BYTES) {
    const row = [...bytes.subarray(at, at + ROW_BYTES)];
    const hex = row.map((byte) => byte.toString(16).padStart(2, '0')).join(' ');
    const text = row.map((byte) => (byte >= 0x20 && byte < 0x7f ? String.fromCharCode(byte) : '.')).join('');
    rows.push(`${at.toString(16).padStart(8, '0')}  ${hex.padEnd(ROW_BYTES * 3 - 1)}  |${text}|`);
  }
  return rows.join('\n');
}
