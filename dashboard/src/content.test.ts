import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { hexDump, indent, shownContent } from './content.ts';

describe('what a task carries', () => {
  test('JSON comes on lines of its own', () => {
    expect(shownContent({ encoding: 'utf8', data: '{"a":[1,{}],"b":"x,y: {z}"}' })).toEqual({
      kind: 'json',
      text: '{\n  "a": [\n    1,\n    {}\n  ],\n  "b": "x,y: {z}"\n}',
    });
  });

  test('other text stays as it is, also if it looks like markup', () => {
    const data = '<img src=x onerror=alert(1)>';
    expect(shownContent({ encoding: 'utf8', data })).toEqual({ kind: 'text', text: data });
  });

  test('bytes are dumped', () => {
    expect(shownContent({ encoding: 'base64', data: 'AP8=' })).toEqual({
      kind: 'bytes',
      bytes: new Uint8Array([0, 255]),
    });
  });
});

test('large numbers, repeated keys and their order are shown as they were sent', () => {
  const json = '{"2":1e400,"1":90071992547409931,"1":0.10}';
  expect(indent(json).replaceAll(/\s/g, '')).toBe(json);
});

test('indented JSON is the same JSON', () => {
  fc.assert(
    fc.property(fc.json(), (json) => {
      expect(JSON.parse(indent(json))).toEqual(JSON.parse(json));
    }),
  );
});

test('a dump has sixteen bytes a row, with what can be printed beside them', () => {
  const rows = hexDump(new TextEncoder().encode('millrace\n0123456789')).split('\n');
  expect(rows).toEqual([
    '00000000  6d 69 6c 6c 72 61 63 65 0a 30 31 32 33 34 35 36  |millrace.0123456|',
    '00000010  37 38 39                                         |789|',
  ]);
});
