import { readFileSync, writeFileSync } from 'node:fs';

/*
 * Parts of pages that programs write. One stands between `<!-- NAME:begin -->` and `<!-- NAME:end -->`; the marks stay as
 * they are, and may say more after the name, as in `<!-- NAME:begin: written by …, not by hand -->`.
 */

/** Throws, and names the file, when `writePart` could not put the part there: to be asked before minutes of measuring. */
export function checkPart(path: string, name: string): void {
  replaceIn(path, name, '');
}

/** Replaces the part in this file. When the file has no such part, or not exactly one, throws and leaves the file alone. */
export function writePart(path: string, name: string, body: string): void {
  writeFileSync(path, replaceIn(path, name, body));
}

function replaceIn(path: string, name: string, body: string): string {
  try {
    return replacePart(readFileSync(path, 'utf8'), name, body);
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new Error(`${path} cannot take the part ${JSON.stringify(name)}: ${reason}`, { cause: error });
  }
}

/** The page with the part replaced. Throws when it does not have each of the two marks once, in this order. */
export function replacePart(page: string, name: string, body: string): string {
  const begin = theOne(page, name, 'begin');
  const end = theOne(page, name, 'end');
  if (end.at < begin.at) throw new Error(`${end.mark} comes before ${begin.mark}`);
  return `${page.slice(0, begin.at + begin.mark.length)}\n\n${body.trim()}\n\n${page.slice(end.at)}`;
}

function theOne(page: string, name: string, side: 'begin' | 'end'): { at: number; mark: string } {
  const found = [...page.matchAll(new RegExp(`<!-- ${name}:${side}(?::.*?)? -->`, 'g'))];
  const [first] = found;
  if (first === undefined) throw new Error(`there is no <!-- ${name}:${side} -->`);
  if (found.length > 1) throw new Error(`there is more than one ${first[0]}`);
  return { at: first.index, mark: first[0] };
}

export interface DocumentColumn {
  readonly title: string;
  /** Figures stand on the right. */
  readonly align?: 'left' | 'right';
}

/** A table of Markdown. */
export function markdownTable(columns: readonly DocumentColumn[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`;
  const rule = columns.map(({ align }) => (align === 'right' ? '---:' : '---'));
  return [line(columns.map(({ title }) => title)), line(rule), ...rows.map(line)].join('\n');
}
