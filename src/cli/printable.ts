/** Names, errors and payloads come from anybody: a control character in them must not steer the terminal. */
export function printable(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for.
  return text.replaceAll(/[\u0000-\u001f\u007f-\u009f]/g, escapeControl);
}

/** The same of a text with several lines. */
export function printableLines(text: string): string {
  return text.split('\n').map(printable).join('\n');
}

/** As JSON, which leaves some control characters as they are; what JSON does not have is null. */
export function printableJson(value: unknown): string {
  return (JSON.stringify(value) ?? 'null').replaceAll(/[\u007f-\u009f]/g, escapeControl);
}

/** As JSON escapes it, also where JSON need not. */
function escapeControl(char: string): string {
  return char < ' ' ? JSON.stringify(char).slice(1, -1) : `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`;
}
