// @ts-check
export const BEGIN = '<!-- rivals:begin: written by `npm run bench:rivals`, not by hand -->';
export const END = '<!-- rivals:end -->';

/**
 * The page with what stands between the marks replaced; without marks it comes at the end.
 *
 * @param {string} page
 * @param {string} part
 */
export function withPart(page, part) {
  const begin = page.indexOf(BEGIN);
  const end = page.indexOf(END);
  if ((begin === -1) !== (end === -1) || end < begin)
    throw new Error(`the page has ${BEGIN} without ${END}, or after it`);
  const written = `${BEGIN}\n\n${part.trim()}\n\n${END}`;
  if (begin === -1) return `${page.trimEnd()}\n\n${written}\n`;
  return page.slice(0, begin) + written + page.slice(end + END.length);
}
