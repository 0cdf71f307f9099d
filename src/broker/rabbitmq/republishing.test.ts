import { beforeEach, expect, test } from 'vitest';
import { ManualClock } from '../../../test/twins/manual-clock.ts';
import { SystemRandom } from '../../io/random.ts';
import { LIMITS } from '../../limits.ts';
import type { Republish, Store } from '../store.ts';
import { MessageIds } from './message-ids.ts';
import { Names } from './names.ts';
import type { Outbound } from './outbound.ts';
import type { Parcel } from './parcel.ts';
import { Republishing } from './republishing.ts';

let clock: ManualClock;
let sent: Parcel[];
let takes: boolean;
let published: { entries: readonly string[]; left: readonly string[] }[];
let republishing: Republishing;

beforeEach(() => {
  clock = new ManualClock();
  sent = [];
  takes = true;
  published = [];
  const outbound = {
    get takes(): boolean {
      return takes;
    },
    send: (parcel: Parcel) => void sent.push(parcel),
    withdraw(parcels: ReadonlySet<Parcel>, error: Parameters<Parcel['settled']>[0]) {
      sent = sent.filter((parcel) => !parcels.has(parcel));
      for (const parcel of parcels) parcel.settled(error);
    },
  } as unknown as Outbound;
  const store = {
    published: ({ entries }: { entries: string[] }, left: string[]) =>
      void published.push({ entries, left: [...left] }),
  } as unknown as Store;
  const ids = new MessageIds(clock, new SystemRandom());
  republishing = new Republishing({ clock, store, ids, names: new Names('test'), outbound });
});

function due(entry: string, tasks: Record<string, string>): Republish {
  const backoff = { type: 'fixed', delayMs: 0, maxDelayMs: 0, jitter: false } as const;
  return {
    entries: [entry],
    tasks: Object.entries(tasks).map(([id, queue]) => ({
      id,
      spec: { queue, name: 'work', priority: 4, maxAttempts: 3, timeoutMs: 60_000, backoff },
      payload: Buffer.from('1'),
      attempt: 1,
      enqueuedAtMs: 1,
      runAtMs: undefined,
    })),
  };
}

test('what is not confirmed in time is left to the outbox, and the rest of its entry is not', async () => {
  const done = republishing.publish(due('e', { a: 'quick', b: 'stuck' }));
  sent.splice(0, 1)[0]?.settled(undefined);
  clock.advance(LIMITS.amqpPublishMs);
  expect(await done).toBe(undefined);
  expect(sent).toEqual([]);
  expect(published).toEqual([{ entries: ['e'], left: ['b'] }]);
});

test('a queue that took nothing in time is given nothing for a while; others are', async () => {
  const late = republishing.publish(due('e', { a: 'stuck' }));
  clock.advance(LIMITS.amqpPublishMs);
  await late;
  const done = republishing.publish(due('f', { b: 'stuck', c: 'quick' }));
  expect(sent.map(({ ids }) => ids[0])).toEqual(['c']);
  sent[0]?.settled(undefined);
  await done;
  expect(published[1]).toEqual({ entries: ['f'], left: ['b'] });
  clock.advance(60_000);
  void republishing.publish(due('g', { d: 'stuck' }));
  expect(sent.at(-1)?.ids).toEqual(['d']);
});

test('a broker that is away says nothing of its queues', async () => {
  takes = false;
  const late = republishing.publish(due('e', { a: 'queue' }));
  clock.advance(LIMITS.amqpPublishMs);
  await late;
  takes = true;
  void republishing.publish(due('f', { b: 'queue' }));
  expect(sent.map(({ ids }) => ids[0])).toEqual(['b']);
});
