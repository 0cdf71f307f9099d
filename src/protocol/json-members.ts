/**
 * Where the parts of a JSON text lie, so that a value can be passed on as it was written: parsing and writing it again
 * would change numbers that JavaScript cannot hold. The text must be valid JSON: parse it first.
 */
type Span = readonly [start: number, end: number];

/** Of an object; of a member that is there twice the last, as when it is parsed. */
export function memberSpans(text: string): Map<string, Span> {
  const spans = new Map<string, Span>();
  let at = skipSpace(text, skipSpace(text, 0) + 1);
  while (text[at] === '"') {
    const keyEnd = skipString(text, at);
    const key = JSON.parse(text.slice(at, keyEnd)) as string;
    const start = skipSpace(text, skipSpace(text, keyEnd) + 1);
    const end = skipValue(text, start);
    spans.set(key, [start, end]);
    at = skipNext(text, end);
  }
  return spans;
}

/** A member of an object, as it was written. */
export function memberText(text: string, name: string): string | undefined {
  const span = memberSpans(text).get(name);
  return span === undefined ? undefined : text.slice(...span);
}

/** The items of an array, as they were written. */
export function itemTexts(text: string): string[] {
  const items: string[] = [];
  let at = skipSpace(text, skipSpace(text, 0) + 1);
  while (at < text.length && text[at] !== ']') {
    const end = skipValue(text, at);
    items.push(text.slice(at, end));
    at = skipNext(text, end);
  }
  return items;
}

/** From behind a value to the next one, or to the bracket that ends them. */
function skipNext(text: string, end: number): number {
  const at = skipSpace(text, end);
  return text[at] === ',' ? skipSpace(text, at + 1) : at;
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
