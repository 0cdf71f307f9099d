import { expect, test } from 'vitest';
import { printable, printableJson, printableLines } from './printable.ts';

const STEERING = '\u001b[2J\u009b2J\u007f\n\tä';

test('no control character of a text is left, of those that JSON leaves as they are neither', () => {
  expect(printable(STEERING)).toBe('\\u001b[2J\\u009b2J\\u007f\\n\\tä');
  expect(printableLines('\u0007one\ntwo\r')).toBe('\\u0007one\ntwo\\r');
});

test('what is printed as JSON is the same JSON, without control characters', () => {
  const line = printableJson({ text: STEERING });
  expect(line).not.toMatch(/[\u007f-\u009f]/);
  expect(JSON.parse(line)).toEqual({ text: STEERING });
  expect(printableJson(undefined)).toBe('null');
});
