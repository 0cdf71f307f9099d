import { describe, expect, test } from 'vitest';
import { MillraceError, shown, shownValue } from './errors.ts';
import { bodyBytesMax, errorBody, FRAME } from './protocol/frames.ts';

const DEEP: unknown = JSON.parse('['.repeat(100_000) + ']'.repeat(100_000));
const revoked = Proxy.revocable([], {});
revoked.revoke();

describe('what was given', () => {
  const cases: [unknown, string][] = [
    ['x', '"x"'],
    ['x'.repeat(201), `"${'x'.repeat(200)}…" (201 characters)`],
    [5, '5'],
    [Number.NaN, 'NaN'],
    [undefined, 'undefined'],
    [null, 'null'],
    [1n, '1'],
    [Symbol('s'), 'Symbol(s)'],
    [() => 1, 'a function'],
    [{ a: 1 }, 'an object'],
    [DEEP, 'an array'],
    [{ toString: 1, valueOf: 1 }, 'an object'],
    [revoked.proxy, 'an object'],
  ];
  test.each(cases.map(([value, text]) => ({ value: () => value, text })))('is shown as $text', ({ value, text }) => {
    expect(shown(value())).toBe(text);
    expect(JSON.stringify(shownValue(value()) ?? null).length).toBeLessThan(250);
  });
});

describe('an error that crosses the wire', () => {
  test.each([
    ['long message', new MillraceError('INVALID_ARGUMENT', '\u0001'.repeat(2_000_000))],
    ['long details', new MillraceError('INVALID_ARGUMENT', 'no', { details: { value: 'x'.repeat(2_000_000) } })],
    ['deep details', new MillraceError('INVALID_ARGUMENT', 'no', { details: { value: DEEP } })],
  ])('fits into its frame although it has a %s', (_what, error) => {
    const body = errorBody(error);
    expect(Buffer.byteLength(body)).toBeLessThan(bodyBytesMax(FRAME.ERROR));
    expect(JSON.parse(body)).toMatchObject({ code: 'INVALID_ARGUMENT', details: {} });
  });
});
