import { describe, expect, expectTypeOf, test } from 'vitest';
import { z } from 'zod';
import { LIMITS } from '../limits.ts';
import { decodeResult, encodePayload, encodeResult } from './codec.ts';
import { defineTask } from './definition.ts';
import { resolveWhen, SpecTable } from './options.ts';
import { validate, validateNow } from './schema.ts';

describe('options', () => {
  test('resolve to one object for all enqueues that change nothing, and one for each combination', () => {
    const specs = new SpecTable('n', { priority: 7 });
    expect(specs.resolve(undefined)).toBe(specs.base);
    expect(specs.resolve({ queue: undefined })).toBe(specs.base);
    expect(specs.base).toMatchObject({
      queue: 'default',
      name: 'n',
      priority: 7,
      maxAttempts: 3,
      timeoutMs: 1_800_000,
    });
    const changed = specs.resolve({ maxAttempts: 1, backoff: { delayMs: 5 } });
    expect(changed).toMatchObject({
      priority: 7,
      maxAttempts: 1,
      backoff: { type: 'exponential', delayMs: 5, jitter: true },
    });
    expect(specs.resolve({ maxAttempts: 1, backoff: { delayMs: 5 } })).toBe(changed);
    expect(specs.base.maxAttempts).toBe(3);
  });

  test('a first pause beyond the inherited longest one raises that', () => {
    const { backoff } = new SpecTable('n', { backoff: { delayMs: 3_600_000 } }).base;
    expect(backoff.maxDelayMs).toBe(3_600_000);
  });

  test.each([
    [{ priority: 10 }, /priority is 10; allowed are whole numbers from 0 to 9/],
    [{ maxAttempts: 0 }, /maxAttempts is 0; allowed are whole numbers from 1 to 1000/],
    [{ timeoutMs: '5' }, /timeoutMs is "5"/],
    [{ queue: 'x'.repeat(129) }, /has 129 bytes; allowed are 1 to 128/],
    [{ queue: 5 }, /queue must be text, not 5/],
    [{ backoff: 'fixed' }, /backoff must be an object/],
    [{ backoff: { type: 'linear' } }, /allowed are "fixed" and "exponential"/],
    [{ backoff: { delay: 5 } }, /backoff has no option "delay" \(did you mean "delayMs"\?\)/],
  ])('%j is refused with its value and bound', (options, message) => {
    expect(() => new SpecTable('n', options as object)).toThrow(message);
    expect(() => new SpecTable('n', {}).resolve(options as object)).toThrow(message);
  });

  test('say when', () => {
    expect(resolveWhen(undefined)).toEqual({ kind: 'now' });
    expect(resolveWhen({ priority: 1 })).toEqual({ kind: 'now' });
    expect(resolveWhen({ delayMs: 5 })).toEqual({ kind: 'delay', ms: 5 });
    expect(resolveWhen({ runAt: new Date(7) })).toEqual({ kind: 'at', ms: 7 });
    expect(resolveWhen({ runAt: 7 })).toEqual({ kind: 'at', ms: 7 });
  });

  test.each([
    [{ delayMs: -1 }, /delayMs is -1; allowed are 0 to/],
    [{ delayMs: LIMITS.delayMsMax + 1 }, /use runAt for a later start/],
    [{ delayMs: Number.NaN }, /delayMs is NaN/],
    [{ runAt: new Date('nonsense') }, /runAt is Invalid Date/],
    [{ runAt: '2026-01-01' }, /runAt is "2026-01-01"; it must be a Date/],
    [{ delayMs: 1, runAt: 1 }, /both given/],
    [{ dealyMs: 1 }, /enqueue has no option "dealyMs" \(did you mean "delayMs"\?\)/],
  ])('the time %j is refused', (options, message) => {
    expect(() => resolveWhen(options as object)).toThrow(message);
  });
});

describe('payloads', () => {
  test.each([
    [{ a: [1, 'ä'] }, '{"a":[1,"ä"]}'],
    [undefined, 'null'],
    [null, 'null'],
    ['text', '"text"'],
    [Number.NaN, 'null'],
  ])('%j becomes %s', (value, json) => {
    expect(encodePayload(value, 'the input')).toBe(json);
  });

  test('bytes stay what they are', () => {
    const bytes = Uint8Array.of(1, 2);
    expect(encodePayload(bytes, 'the input')).toBe(bytes);
  });

  const circle: Record<string, unknown> = {};
  circle.self = circle;
  test.each([
    ['a BigInt', 1n, /the input cannot be written as JSON/],
    ['a function', () => 1, /the input is a function/],
    ['a symbol', Symbol('s'), /the input is a symbol/],
    ['a circle', circle, /circular/i],
  ])('%s is refused', (_what, value, message) => {
    expect(() => encodePayload(value, 'the input')).toThrow(message);
  });

  test('a result over its limit is refused with its size', () => {
    const fits = 'x'.repeat(LIMITS.resultBytesMax - 2);
    expect(encodeResult(fits, 'json')).toHaveLength(LIMITS.resultBytesMax);
    expect(() => encodeResult(`${fits}x`, 'json')).toThrow(/the result has 1048577 bytes; at most 1048576/);
  });

  test('a result that is not JSON says how to define the task', () => {
    expect(() => decodeResult(Buffer.from('no'), 'json')).toThrow(/'bytes'/);
  });
});

describe('schemas', () => {
  const schema = z.object({ url: z.url(), width: z.number() });
  const later = z.string().refine(async (value) => value !== 'no');

  test('name every issue with its place', () => {
    expect(() => validate(schema, { url: 'x', width: '1' }, 'the input')).toThrow(/url: .*; width: /);
  });

  test('may answer later, but not to a batch handler', async () => {
    await expect(validate(later, 'yes', 'the input')).resolves.toBe('yes');
    await expect(validate(later, 'no', 'the input')).rejects.toMatchObject({ code: 'INVALID_PAYLOAD' });
    expect(() => validateNow(later, 'yes', 'the input')).toThrow(/asynchronously/);
  });
});

describe('definitions', () => {
  test('carry the types of their schemas', () => {
    const task = defineTask('t', { input: z.object({ n: z.string().transform(Number) }), output: z.number() });
    expectTypeOf(task.types).toEqualTypeOf<{ input: { n: string }; result: number }>();
    task.handle((input) => {
      expectTypeOf(input).toEqualTypeOf<{ n: number }>();
      return 1;
    });
    const bytes = defineTask('b', { payload: 'bytes' });
    expectTypeOf<(typeof bytes)['types']['input']>().toEqualTypeOf<Uint8Array>();
    const plain = defineTask<{ a: 1 }, string>('p');
    expectTypeOf(plain.types).toEqualTypeOf<{ input: { a: 1 }; result: string }>();
  });

  test.each([
    ['', {}, /task name "" has 0 bytes/],
    ['t', { retries: 3 }, /has no option "retries"/],
    ['t', { input: {} }, /input must be a Standard Schema/],
    ['t', { payload: 'xml' }, /payload is "xml"; allowed are "json" and "bytes"/],
  ])('%j with %j is refused', (name, options, message) => {
    expect(() => defineTask(name, options as object)).toThrow(message);
  });

  test('take functions', () => {
    expect(() => defineTask('t').handle(undefined as never)).toThrow(/handle of t takes a function, not undefined/);
    expect(() => defineTask('t').handleBatch(() => {}, { batchSize: 0 })).toThrow(/batchSize is 0/);
  });
});
