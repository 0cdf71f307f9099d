import { beforeEach, expect, test } from 'vitest';
import { OutputLines } from './output-lines.ts';

let lines: string[];
let output: OutputLines;

beforeEach(() => {
  lines = [];
  output = new OutputLines(10, (line) => lines.push(line));
});

function push(...chunks: (string | Buffer)[]): void {
  for (const chunk of chunks) output.push(Buffer.from(chunk));
}

const CUT = '… (a line of more than 10 characters: the rest is left out)';

test('lines may come in any pieces and end as on any system; the last need not end', () => {
  const letter = Buffer.from('é');
  push('one\ntw', 'o\r', '\nthr', letter.subarray(0, 1), letter.subarray(1), '\n\n10 %\r20 %\rend');
  output.end();
  expect(lines).toEqual(['one', 'two', 'thré', '', '10 %', '20 %', 'end']);
});

test('a line that never ends is cut as soon as it is too long, once, and the next one is whole', () => {
  push('x'.repeat(8), 'x'.repeat(8));
  expect(lines).toEqual([`${'x'.repeat(10)}${CUT}`]);
  for (let round = 0; round < 100; round++) push('x'.repeat(1000));
  push('xx\nnext\n');
  output.end();
  expect(lines.slice(1)).toEqual(['next']);
});

test('a line that is too long is cut though it came whole', () => {
  push(`${'y'.repeat(11)}\n${'z'.repeat(10)}\n`);
  output.end();
  expect(lines).toEqual([`${'y'.repeat(10)}${CUT}`, 'z'.repeat(10)]);
});

test('an end of which only the first half has come is none of the line, and is not lost with it', () => {
  push(`${'y'.repeat(10)}\r`, '\n', `${'x'.repeat(20)}\r`, 'next\n');
  output.end();
  expect(lines).toEqual(['y'.repeat(10), `${'x'.repeat(10)}${CUT}`, 'next']);
});
