import fc from 'fast-check';
import { expect, test } from 'vitest';
import { LIMITS } from '../../limits.ts';
import { levelMs, routeOf } from './delay.ts';

/** How long a message waits whose routing key this is, when each level is as early as it can be. */
function shortestMs(routingKey: string): number {
  const bits = routingKey.split('.').slice(0, LIMITS.amqpDelayLevels);
  let ms = 0;
  bits.forEach((bit, index) => {
    if (bit === '1') ms += levelMs(LIMITS.amqpDelayLevels - 1 - index) - 1;
  });
  return ms;
}

test('no delay is shorter than what was asked for, and none longer than it by more than two steps and a level’s rounding', () => {
  fc.assert(
    fc.property(fc.double({ min: 0.001, max: LIMITS.delayMsMax, noNaN: true }), (delayMs) => {
      const route = routeOf(delayMs, 'q');
      const ms = shortestMs(route?.routingKey ?? '');
      expect(ms).toBeGreaterThanOrEqual(delayMs);
      expect(ms).toBeLessThanOrEqual(delayMs + 4 * LIMITS.amqpDelayStepMs);
    }),
  );
});

test('a message enters the ladder at its highest level', () => {
  expect(routeOf(1, 'millrace.default')).toEqual({ level: 0, routingKey: `${'0.'.repeat(30)}1.millrace.default` });
  expect(routeOf(40, 'q')?.level).toBe(1);
  expect(routeOf(LIMITS.delayMsMax * 10, 'q')).toMatchObject({ level: 30, routingKey: `${'1.'.repeat(31)}q` });
});

test('what is due goes straight to its queue', () => {
  expect(routeOf(0, 'q')).toBeUndefined();
  expect(routeOf(-5, 'q')).toBeUndefined();
});
