import { expect, test } from 'vitest';
import { LIMITS } from '../limits.ts';
import { commonMessage, containsText, errorKind, groupOf } from './error-kind.ts';

test('messages that differ in numbers, hex ids, UUIDs and quoted ids only are one', () => {
  const alike: [string, string, string][] = [
    ['user 17 not found', 'user 18 not found', 'user # not found'],
    ['order "a-17x" is gone', 'order "b-9" is gone', 'order "#" is gone'],
    ["no 'ord_81' here", "no 'ord_99z' here", "no '#' here"],
    ['blob deadbee1 is torn', 'blob 0099aaff is torn', 'blob # is torn'],
    ['at 0xff', 'at 0x7f0012', 'at #'],
    [
      'job 123e4567-e89b-12d3-a456-426614174000 failed',
      'job 99999999-E89B-42D3-B456-000000000000 failed',
      'job # failed',
    ],
    ['connect ECONNREFUSED 127.0.0.1:5432', 'connect ECONNREFUSED 10.0.0.27:5433', 'connect ECONNREFUSED #'],
    ['took 1.5 s', 'took 12,345 s', 'took # s'],
  ];
  for (const [one, other, common] of alike) {
    expect(commonMessage(one)).toBe(common);
    expect(commonMessage(other)).toBe(common);
  }
});

test('words stay, also in quotes, and also those that could be hex', () => {
  for (const message of ["reading 'foo' of undefined", 'the facade is defaced', '«ü» is no letter', '']) {
    expect(commonMessage(message)).toBe(message);
  }
});

test('a message of any length takes little time and room', () => {
  for (const part of ['x', '1', '"', '"1', "'a1 ", 'abc1']) {
    expect(commonMessage(part.repeat(100_000)).length).toBeLessThanOrEqual(LIMITS.groupMessageCharactersMax);
  }
});

test('a group has the same name always, and another for each part that differs', () => {
  const error = { name: 'Error', message: 'user 17 not found', code: 'HANDLER_FAILED' };
  const group = groupOf(errorKind('q', 'n', error));
  // It may stand in links that somebody has kept.
  expect(group).toBe('78ceaca153cafda6');
  expect(groupOf(errorKind('q', 'n', { ...error, message: 'user 99 not found' }))).toBe(group);
  const others = [
    errorKind('r', 'n', error),
    errorKind('q', 'm', error),
    errorKind('qn', '', error),
    errorKind('q', 'n', { ...error, name: 'TypeError' }),
    errorKind('q', 'n', { ...error, code: 'TASK_TIMEOUT' }),
    errorKind('q', 'n', { ...error, message: 'order 17 not found' }),
  ].map(groupOf);
  expect(new Set([group, ...others]).size).toBe(others.length + 1);
  const many = Array.from({ length: 100_000 }, (_, i) => groupOf(errorKind(`queue ${i}`, 'n', error)));
  expect(new Set(many).size).toBe(many.length);
});

test('text is found in the name, the message or the code, whatever its case', () => {
  const error = { name: 'TypeError', message: 'Über 100 % of_it', code: 'HANDLER_FAILED', stack: 'hidden' };
  for (const text of ['typeerror', 'über', '100 % of_', 'handler']) expect(containsText(error, text)).toBe(true);
  for (const text of ['hidden', '%of', '1.0', '.*']) expect(containsText(error, text)).toBe(false);
});
