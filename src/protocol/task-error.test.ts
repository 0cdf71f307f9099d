import { describe, expect, test } from 'vitest';
import { LIMITS } from '../limits.ts';
import { keptTaskError, parseTaskError } from './task-error.ts';

const PLAIN = { name: 'Error', code: 'HANDLER_FAILED' };

describe('an error that a worker sent', () => {
  test.each([
    ['boom', { ...PLAIN, message: 'boom' }],
    ['', { ...PLAIN, message: '' }],
    ['"boom"', { ...PLAIN, message: 'boom' }],
    ['5', { ...PLAIN, message: '5' }],
    ['null', { ...PLAIN, message: 'null' }],
    ['[1]', { ...PLAIN, message: '[1]' }],
    ['{"message":5}', { ...PLAIN, message: '5' }],
    ['{"name":"E","message":"m","code":"C","stack":5}', { name: 'E', message: 'm', code: 'C' }],
    ['{"name":{"toString":1},"message":"m"}', { ...PLAIN, message: 'm' }],
    ['{"detail":"d"}', { ...PLAIN, message: '{"detail":"d"}' }],
    ['['.repeat(16_000), { ...PLAIN, message: '['.repeat(1000) }],
    ['\u0001'.repeat(LIMITS.errorBytesMax), { ...PLAIN, message: '\u0001'.repeat(1000) }],
  ])('is read and kept as one: %.30s', (text, error) => {
    expect(parseTaskError(Buffer.from(text))).toEqual(error);
    const kept = keptTaskError(Buffer.from(text));
    expect(JSON.parse(kept.toString())).toEqual(error);
    expect(kept.length).toBeLessThanOrEqual(LIMITS.errorBytesMax);
  });

  test('is kept byte by byte when it is one', () => {
    const bytes = Buffer.from('{ "name": "E", "message": "m", "code": "C", "stack": "s", "line": 5 }');
    expect(keptTaskError(bytes)).toBe(bytes);
  });
});
