import fc from 'fast-check';
import { expect, test } from 'vitest';
import { itemTexts, memberSpans, memberText } from './json-members.ts';

test('the members of any JSON object are found where they lie', () => {
  fc.assert(
    fc.property(fc.dictionary(fc.string(), fc.jsonValue()), fc.constantFrom(undefined, 1, '\t'), (object, indent) => {
      const text = JSON.stringify(object, undefined, indent);
      const spans = memberSpans(text);
      expect([...spans.keys()].toSorted()).toEqual(Object.keys(object).toSorted());
      for (const [key, [start, end]] of spans) {
        expect(JSON.parse(text.slice(start, end))).toEqual(JSON.parse(JSON.stringify(object))[key]);
      }
    }),
  );
});

test('the items of any array are found, however it is written', () => {
  fc.assert(
    fc.property(fc.array(fc.jsonValue()), fc.constantFrom(undefined, 1, '\t'), (items, indent) => {
      const texts = itemTexts(` ${JSON.stringify(items, undefined, indent)}\n`);
      expect(texts.map((text) => JSON.parse(text))).toEqual(JSON.parse(JSON.stringify(items)));
    }),
  );
});

test('a member is given as it is written, and of two the last', () => {
  expect(memberText('{"a": 1.0, "b": [ 1e400 ], "\\u0061": 12345678901234567890}', 'a')).toBe('12345678901234567890');
  expect(memberText('{"a": 1, "b": [ 1e400 ]}', 'b')).toBe('[ 1e400 ]');
  expect(memberText('{}', 'a')).toBeUndefined();
});
