import { readFileSync, writeFileSync } from 'node:fs';

/**
 * Puts measured figures into a page, in place of what stands between `<!-- NAME:begin -->` and `<!-- NAME:end -->`. Throws
 * when the page does not have each of the two once, in this order.
 */
export function replaceBetween(page: string, name: string, body: string): string {
  const [begin, end] = [`<!-- ${name}:begin -->`, `<!-- ${name}:end -->`];
  const from = page.indexOf(begin);
  const to = page.indexOf(end);
  const isOnce = page.lastIndexOf(begin) === from && page.lastIndexOf(end) === to;
  if (from === -1 || to < from || !isOnce) {
    throw new Error(`the page must have ${begin} and, after it, ${end}, once each: figures go between them`);
  }
  return `${page.slice(0, from + begin.length)}\n\n${body.trim()}\n\n${page.slice(to)}`;
}

export function replaceInFile(path: string, name: string, body: string): void {
  writeFileSync(path, replaceBetween(readFileSync(path, 'utf8'), name, body));
}

/** A table of Markdown. The first column is text, the others are figures. */
export function markdownTable(titles: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`;
  const rule = titles.map((_, index) => (index === 0 ? '---' : '---:'));
  return [line(titles), line(rule), ...rows.map(line)].join('\n');
}
