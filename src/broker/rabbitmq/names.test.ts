import { expect, test } from 'vitest';
import { SystemClock } from '../../io/clock.ts';
import { SystemRandom } from '../../io/random.ts';
import { MessageIds } from './message-ids.ts';
import { Names } from './names.ts';

test('different queues have different names, whatever they are called', () => {
  const names = new Names('millrace');
  const seen = new Map<string, string>();
  const queues = [
    'a',
    'a.high',
    'a%2Ehigh',
    'A',
    'ü',
    'a b',
    '~',
    '日本語/…:*?#%20 ',
    'x'.repeat(128),
    `${'ü'.repeat(63)}x`,
  ];
  for (const queue of [...queues, 'ü'.repeat(64), '🦄'.repeat(32), `${'🦄'.repeat(31)}abcd`, '.'.repeat(128)]) {
    for (const name of [
      ...[names.band(queue, 'high'), names.band(queue, 'normal'), names.band(queue, 'low')],
      ...[names.dead(queue), names.suspect(queue)],
    ]) {
      expect(seen.get(name)).toBeUndefined();
      seen.set(name, queue);
      expect(name).toMatch(/^millrace\.[\w%~-]+(\.\w+)?$/);
      // A routing key of the ladder has 62 more.
      expect(name.length).toBeLessThanOrEqual(255 - 62);
    }
  }
});

test('ids are in the order in which they were made, and say whose they are', () => {
  const ids = new MessageIds(new SystemClock(), new SystemRandom());
  const other = new MessageIds(new SystemClock(), new SystemRandom());
  const made = Array.from({ length: 10_000 }, () => ids.next());
  expect(made.toSorted()).toEqual(made);
  expect(new Set(made).size).toBe(made.length);
  expect(made.every((id) => ids.isOwn(id) && !other.isOwn(id) && id.length === 26)).toBe(true);
  expect(ids.isOwn('somebody else’s')).toBe(false);
});
