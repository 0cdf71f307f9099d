import { expect, test } from 'vitest';
import { markdownTable, replaceBetween } from './document.ts';

const PAGE = '# Page\n\n<!-- a:begin -->\nold\n<!-- a:end -->\n\n<!-- b:begin --><!-- b:end -->\n';

test('only what stands between the markers is replaced, as often as one likes', () => {
  const once = replaceBetween(PAGE, 'a', 'new $1 $&\n');
  expect(once).toBe('# Page\n\n<!-- a:begin -->\n\nnew $1 $&\n\n<!-- a:end -->\n\n<!-- b:begin --><!-- b:end -->\n');
  expect(replaceBetween(once, 'a', 'new $1 $&')).toBe(once);
});

test.each(['', '<!-- a:end --><!-- a:begin -->', '<!-- a:begin -->', `${PAGE}<!-- a:begin -->`])(
  'a page without both markers once, in order, is left alone: %j',
  (page) => {
    expect(() => replaceBetween(page, 'a', 'x')).toThrow(/<!-- a:begin -->/);
  },
);

test('a table has its figures on the right', () => {
  expect(markdownTable(['what', 'tasks/s'], [['one', '1']])).toBe('| what | tasks/s |\n| --- | ---: |\n| one | 1 |');
});
