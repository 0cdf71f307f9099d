import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { checkPart, markdownTable, replacePart, writePart } from './document.ts';

const PAGE = '# Page\n\n<!-- a:begin -->\nold\n<!-- a:end -->\n\n<!-- b:begin --><!-- b:end -->\n';

describe('a part of a page', () => {
  test('is replaced and nothing else, as often as one likes', () => {
    const once = replacePart(PAGE, 'a', 'new $1 $&\n');
    expect(once).toBe('# Page\n\n<!-- a:begin -->\n\nnew $1 $&\n\n<!-- a:end -->\n\n<!-- b:begin --><!-- b:end -->\n');
    expect(replacePart(once, 'a', 'new $1 $&')).toBe(once);
  });

  test('may say at its begin who writes it, which stays', () => {
    const page = '<!-- a:begin: written by `npm run x`, not by hand -->\nold\n<!-- a:end -->\n';
    expect(replacePart(page, 'a', 'new')).toBe(
      '<!-- a:begin: written by `npm run x`, not by hand -->\n\nnew\n\n<!-- a:end -->\n',
    );
  });

  test('is not mistaken for one whose name begins alike', () => {
    expect(() => replacePart('<!-- ab:begin -->\n<!-- ab:end -->\n', 'a', 'new')).toThrow('no <!-- a:begin -->');
  });
});

describe('a file', () => {
  let directory = '';
  let file = '';
  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'millrace-test-'));
    file = join(directory, 'page.md');
  });
  afterEach(() => rmSync(directory, { recursive: true }));

  test('gets its part', () => {
    writeFileSync(file, PAGE);
    checkPart(file, 'a');
    expect(readFileSync(file, 'utf8')).toBe(PAGE);
    writePart(file, 'a', 'new');
    expect(readFileSync(file, 'utf8')).toBe(replacePart(PAGE, 'a', 'new'));
  });

  test.each([
    ['', 'no <!-- a:begin -->'],
    ['<!-- a:end -->', 'no <!-- a:begin -->'],
    ['<!-- a:begin -->', 'no <!-- a:end -->'],
    ['<!-- a:end --><!-- a:begin -->', '<!-- a:end --> comes before <!-- a:begin -->'],
    [`${PAGE}<!-- a:begin: again -->`, 'more than one <!-- a:begin -->'],
    [`${PAGE}<!-- a:end -->`, 'more than one <!-- a:end -->'],
  ])('that is %j is left alone, and the error says what is wrong and where', (page, reason) => {
    writeFileSync(file, page);
    for (const attempt of [() => checkPart(file, 'a'), () => writePart(file, 'a', 'new')]) {
      expect(attempt).toThrow(file);
      expect(attempt).toThrow(reason);
    }
    expect(readFileSync(file, 'utf8')).toBe(page);
  });

  test('that is not there is not made', () => {
    expect(() => writePart(file, 'a', 'new')).toThrow(/page\.md cannot take the part "a": ENOENT/);
    expect(() => readFileSync(file)).toThrow('ENOENT');
  });
});

test('a table has its figures on the right', () => {
  const columns = [{ title: 'what' }, { title: 'tasks/s', align: 'right' }] as const;
  expect(markdownTable(columns, [['one', '1']])).toBe('| what | tasks/s |\n| --- | ---: |\n| one | 1 |');
});
