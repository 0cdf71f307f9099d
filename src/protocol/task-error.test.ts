import { describe, expect, test } from 'vitest';
import { LIMITS } from '../limits.ts';
import { encodeTaskError } from './settlement-writer.ts';
import { keptTaskError, parseAttemptFailure, parseTaskError } from './task-error.ts';

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

  test.each([
    ['{"message":5,"worker":"w","startedAtMs":7}', { worker: 'w', startedAtMs: 7 }],
    ['{"name":"E","message":"m","code":"C"}', {}],
    ['{"message":"m","worker":5,"startedAtMs":"7"}', {}],
    ['{"message":"m","worker":"","startedAtMs":1e400}', {}],
    ['{"message":"m","startedAtMs":-1}', {}],
    ['boom', {}],
  ])('tells who ran the attempt where it says so: %s', (text, run) => {
    const { error: _, ...told } = parseAttemptFailure(Buffer.from(text));
    expect(told).toEqual(run);
    const { error: __, ...kept } = parseAttemptFailure(keptTaskError(Buffer.from(text)));
    expect(kept).toEqual(run);
  });

  test('is cut to its bound with who ran it', () => {
    const run = { worker: 'w'.repeat(100), startedAtMs: 7 };
    const error = { name: 'E', message: '\u0001'.repeat(5000), code: 'C', stack: '\u0001'.repeat(5000) };
    const json = encodeTaskError(error, run);
    expect(Buffer.byteLength(json)).toBeLessThanOrEqual(LIMITS.errorBytesMax);
    expect(parseAttemptFailure(Buffer.from(json))).toMatchObject(run);
  });

  test('is kept byte by byte when it is one', () => {
    const bytes = Buffer.from('{ "name": "E", "message": "m", "code": "C", "stack": "s", "line": 5 }');
    expect(keptTaskError(bytes)).toBe(bytes);
  });
});
