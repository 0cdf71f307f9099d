/**
 * Where the members of a JSON object lie in its text, so that a value can be passed on as it was written: parsing and
 * writing it again would change numbers that JavaScript cannot hold. The text must be valid JSON: parse it first.
 */
export function memberSpans(text: string): Map<string, readonly [start: number, end: number]> {
  const spans = new Map<string, readonly [number, number]>();
  let at = skipSpace(text, skipSpace(text, 0) + 1);
  while (text[at] === '"') {
    const keyEnd = skipString(text, at);
    const key = JSON.parse(text.slice(at, keyEnd)) as string;
    const start = skipSpace(text, skipSpace(text, keyEnd) + 1);
    const end = skipValue(text, start);
    spans.set(key, [start, end]);
    at = skipSpace(text, end);
    if (text[at] === ',') at = skipSpace(text, at + 1);
  }
  return spans;
}

function skipValue(text: string, start: number): number {
  const first = text[start];
  if (first === '"') return skipString(text, start);
  let at = start;
  if (first !== '{' && first !== '[') {
    while (at < text.length && !' \t\r\n,}]'.includes(text[at] as string)) at++;
    return at;
  }
  let depth = 0;
  do {
    const character = text[at];
    if (character === '"') at = skipString(text, at) - 1;
    else if (character === '{' || character === '[') depth++;
    else if (character === '}' || character === ']') depth--;
    at++;
  } while (depth > 0);
  return at;
}

/** From the opening quote to behind the closing one. */
function skipString(text: string, start: number): number {
  let at = start + 1;
  while (text[at] !== '"') at += text[at] === '\\' ? 2 : 1;
  return at + 1;
}

function skipSpace(text: string, start: number): number {
  let at = start;
  while (at < text.length && ' \t\r\n'.includes(text[at] as string)) at++;
  return at;
}
