import { z } from '@hono/zod-openapi';
import { expect, test } from 'vitest';
import { ISSUES_MAX, listOf, textsOf } from './lists.ts';

test('of a list that is wrong from end to end only the first items are looked at, and said of', () => {
  let looks = 0;
  const item = z.custom<number>(() => {
    looks++;
    return false;
  });
  const { error } = listOf('Wrong', item, { max: 100_000 }).safeParse(new Array(65_000).fill(1));
  expect(looks).toBe(ISSUES_MAX);
  expect(error?.issues.map(({ path }) => path)).toEqual(Array.from({ length: ISSUES_MAX }, (_, index) => [index]));
});

test('what is wrong deep in an item is found far behind right ones', () => {
  const item = z.strictObject({ name: z.string() });
  const list = listOf('Named', item, { max: 10_000 });
  const given: unknown[] = Array.from({ length: 5000 }, (_, i) => ({ name: `${i}` }));
  expect(list.parse(given)).toEqual(given);
  given[4321] = { name: 5 };
  expect(list.safeParse(given).error?.issues).toMatchObject([{ code: 'invalid_type', path: [4321, 'name'] }]);
});

test('a list that is too long is not looked at', () => {
  const item = z.custom<number>(() => {
    throw new Error('looked at');
  });
  const { error } = listOf('Many', item, { max: 3 }).safeParse([1, 2, 3, 4]);
  expect(error?.issues).toMatchObject([{ code: 'too_big', maximum: 3 }]);
});

test('texts are counted before they are looked at', () => {
  const headers = textsOf('headers', 2);
  expect(headers.parse({ a: 'x', b: 'y' })).toEqual({ a: 'x', b: 'y' });
  expect(headers.safeParse({ a: 1, b: 2, c: 3 }).error?.issues).toMatchObject([
    { message: '3 headers are given; at most 2 are allowed' },
  ]);
  expect(headers.safeParse({ a: 1 }).error?.issues).toMatchObject([{ path: ['a'], code: 'invalid_type' }]);
  expect(headers.safeParse('a').success).toBe(false);
});
