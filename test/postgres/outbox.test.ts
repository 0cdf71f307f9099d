import { describe, expect, test } from 'vitest';
import { LIMITS } from '../../src/limits.ts';
import {
  arrival,
  beat,
  fallSilent,
  HurriedClock,
  OOPS,
  proxyTo,
  type Scene,
  SURE_MS,
  shared,
  spec,
  tasks,
  within,
} from './scene.ts';

const NOTHING = { entries: [], tasks: [] };

describe.skipIf(shared === undefined)('the outbox', () => {
  test(
    'what was published is swept by nobody',
    within(async (scene) => {
      const store = await scene.store();
      const ids = scene.ids(3);
      store.published(await store.insert([tasks(ids)]));
      await expect.poll(async () => (await scene.sql`SELECT entry FROM outbox`).length).toBe(0);
      expect(await store.sweep(0)).toEqual(NOTHING);
    }),
  );

  test(
    'a sweep gives what has waited for long enough, as it is to be published',
    within(async (scene) => {
      const store = await scene.store();
      const [id] = scene.ids(1) as [string];
      await store.insert([tasks([id], { enqueuedAtMs: 1_700_000_000_001, payloads: ['"payload"'] })]);
      expect(await store.sweep(60_000)).toEqual(NOTHING);
      const { entries, tasks: found } = await store.sweep(0);
      expect(entries).toHaveLength(1);
      expect(found).toEqual([
        {
          id,
          spec: spec(),
          payload: Buffer.from('"payload"'),
          attempt: 1,
          enqueuedAtMs: 1_700_000_000_001,
          runAtMs: undefined,
        },
      ]);
    }),
  );

  test(
    'two processes never get the same portion',
    within(async (scene) => {
      const stores = await Promise.all([scene.store(), scene.store(), scene.store(), scene.store()]);
      const ids = scene.ids(4000);
      for (let from = 0; from < ids.length; from += 50) await stores[0]?.insert([tasks(ids.slice(from, from + 50))]);
      const portions = await Promise.all(
        stores.map(async (store) => {
          const mine: string[] = [];
          for (;;) {
            const portion = await store.sweep(0);
            if (portion.tasks.length === 0) return mine;
            mine.push(...portion.tasks.map(({ id }) => id));
          }
        }),
      );
      expect(portions.flat().sort()).toEqual(ids);
    }),
  );

  test(
    'what somebody claimed and never published can be claimed again after a while',
    within(async (scene) => {
      const [one, other] = [await scene.store(), await scene.store()];
      const ids = scene.ids(2);
      await one.insert([tasks(ids)]);
      const claimed = await one.sweep(0);
      expect(claimed.tasks).toHaveLength(2);
      expect(await other.sweep(0)).toEqual(NOTHING);
      await passes(scene, LIMITS.storeClaimMs);
      expect(await other.sweep(0)).toEqual(claimed);
    }),
  );

  test(
    'what the broker did not take stays in its entry, without the rest of it',
    within(async (scene) => {
      const store = await scene.store();
      const ids = scene.ids(5);
      const [full, ...others] = ids as [string, ...string[]];
      store.published(await store.insert([tasks([full, ...others.slice(0, 2)])]), [full]);
      store.published(await store.insert([tasks(others.slice(2))]));
      const left = async () => (await scene.sql<{ ids: string[] }[]>`SELECT ids FROM outbox`).map((row) => row.ids);
      await expect.poll(left).toEqual([[full]]);
      const swept = await store.sweep(0);
      expect(swept.tasks.map(({ id }) => id)).toEqual([full]);
      store.published(swept);
      await expect.poll(left).toEqual([]);
    }),
  );

  test(
    'a task that runs or has ended meanwhile is not republished, and its entry is cleared',
    within(async (scene) => {
      const store = await scene.store();
      const ids = scene.ids(4);
      const [ended, running, cancelled, waiting] = ids as [string, string, string, string];
      await store.insert([tasks([ended, running]), tasks([cancelled])]);
      await store.insert([tasks([waiting])]);
      await store.begin('w1', [arrival(ended), arrival(running)]);
      await store.end('w1', [{ id: ended, attempt: 1, kind: 'completed', result: undefined }]);
      await store.cancelTask(cancelled);
      const swept = await store.sweep(0);
      expect(swept.tasks.map(({ id }) => id)).toEqual([waiting]);
      store.published(swept);
      await store.begin('w1', [arrival(waiting)]);
      expect(await store.sweep(0)).toEqual(NOTHING);
      await expect.poll(async () => (await scene.sql`SELECT entry FROM outbox`).length).toBe(0);
    }),
  );

  test(
    'a retried task is the retrier’s to publish, and another’s when he does not',
    within(async (scene) => {
      const [one, other] = [await scene.store(), await scene.store()];
      const [id] = scene.ids(1) as [string];
      one.published(await one.insert([tasks([id])]));
      await one.begin('w1', [arrival(id)]);
      await one.end('w1', [{ id, attempt: 1, kind: 'dead', error: OOPS, atMs: 1 }]);
      await expect.poll(async () => (await scene.sql`SELECT entry FROM outbox`).length).toBe(0);
      const retried = await one.retryTask(id);
      expect(retried.tasks).toMatchObject([{ id, attempt: 1 }]);
      expect(await other.sweep(0)).toEqual(NOTHING);
      await passes(scene, LIMITS.storeClaimMs);
      expect(await other.sweep(0)).toEqual(retried);
    }),
  );
});

describe.skipIf(shared === undefined)('workers that are not heard of', () => {
  test(
    'their tasks go to others, charged, and what they send later is refused',
    within(async (scene) => {
      const [one, other] = [await scene.store(), await scene.store()];
      const ids = scene.ids(4);
      const [running, last, asked, done] = ids as [string, string, string, string];
      await one.insert([tasks([running, asked, done]), tasks([last], { spec: spec({ maxAttempts: 1 }) })]);
      await one.begin(
        'lost',
        ids.map((id) => arrival(id)),
      );
      await one.end('lost', [{ id: done, attempt: 1, kind: 'completed', result: undefined }]);
      await one.cancelTask(asked);
      await scene.sql`DELETE FROM outbox`;
      expect(await other.sweep(0)).toEqual(NOTHING);
      await fallSilent(scene);
      // Each process looks now and then: this one has not yet.
      const clock = new HurriedClock();
      const third = await scene.store({ clock });
      expect(await third.sweep(0)).toEqual(NOTHING);
      clock.aheadMs += SURE_MS;
      const { tasks: swept } = await third.sweep(0);
      expect(swept.map(({ id, attempt }) => [id, attempt]).sort()).toEqual([
        [running, 2],
        [last, 1],
      ]);
      expect(await third.getTask(running)).toMatchObject({
        state: 'ready',
        attempt: 1,
        failures: [{ attempt: 1, error: { code: 'WORKER_LOST' } }],
      });
      expect(await third.getTask(asked)).toMatchObject({ state: 'cancelled' });
      expect(await third.begin('w2', [arrival(running, { redelivered: true })])).toEqual(['drop']);
      expect(await third.begin('w2', [arrival(running, { attempt: 2 })])).toEqual(['run']);
      const late = await one.end('lost', [{ id: running, attempt: 1, kind: 'completed', result: undefined }]);
      expect(late.verdicts).toEqual(['lease-lost']);
      expect((await third.status()).queues[0]).toMatchObject({
        ...{ ready: 1, active: 1, completed: 1, cancelled: 1 },
        totals: { enqueued: 4, failed: 3, completed: 1, cancelled: 1 },
      });
    }),
  );

  test(
    'whoever lives when the database is back after long keeps what runs',
    within(async (scene) => {
      const clock = new HurriedClock();
      const [one, other] = [await scene.store(), await scene.store({ clock })];
      const [first, second] = scene.ids(2) as [string, string];
      one.published(await one.insert([tasks([first, second])]));
      await one.begin('w1', [arrival(first)]);
      await fallSilent(scene);
      expect(await other.sweep(0)).toEqual(NOTHING);
      expect(await one.begin('w1', [arrival(second)])).toEqual(['run']);
      one.heartbeat(beat('w1'));
      await one.status();
      clock.aheadMs += SURE_MS;
      expect(await other.sweep(0)).toEqual(NOTHING);
      const ends = [first, second].map((id) => ({ id, attempt: 1, kind: 'completed', result: undefined }) as const);
      expect((await one.end('w1', ends)).verdicts).toEqual(['taken', 'taken']);
    }),
  );

  test(
    'what a worker begins after it was believed lost is its own, also when it has beaten since',
    within(async (scene) => {
      const clock = new HurriedClock();
      const [one, other] = [await scene.store(), await scene.store({ clock })];
      const ids = scene.ids(4);
      const [before, failing, late, later] = ids as [string, string, string, string];
      await one.insert([tasks(ids)]);
      await one.begin('w1', [arrival(before)]);
      await fallSilent(scene);
      await other.sweep(0);
      clock.aheadMs += SURE_MS;
      await other.sweep(0);
      expect(await other.getTask(before)).toMatchObject({ failures: [{ error: { code: 'WORKER_LOST' } }] });
      await one.begin('w1', [arrival(failing), arrival(late)]);
      one.heartbeat(beat('w1'));
      await one.status();
      await one.begin('w1', [arrival(later)]);
      const ends = [before, late, later].map(
        (id) => ({ id, attempt: 1, kind: 'completed', result: undefined }) as const,
      );
      const failed = { id: failing, attempt: 1, kind: 'failed', error: OOPS, atMs: 1, retryAtMs: 0 } as const;
      expect((await one.end('w1', [...ends, failed])).verdicts).toEqual(['lease-lost', 'taken', 'taken', 'taken']);
      // An answer that was lost is given again.
      expect((await one.end('w1', [...ends, failed])).verdicts).toEqual(['lease-lost', 'taken', 'taken', 'taken']);
      expect((await one.status()).queues[0]).toMatchObject({ active: 0, ready: 2, completed: 2 });
    }),
  );

  test(
    'the minute in which a worker must be silent is one in which the database was there',
    within(async (scene) => {
      const clock = new HurriedClock();
      const { proxy, url } = await proxyTo(scene);
      const [one, other] = [await scene.store(), await scene.store({ clock, url })];
      const [id] = scene.ids(1) as [string];
      one.published(await one.insert([tasks([id])]));
      await one.begin('w1', [arrival(id)]);
      await fallSilent(scene);
      expect(await other.sweep(0)).toEqual(NOTHING);
      proxy.refuse();
      proxy.cut();
      clock.aheadMs += SURE_MS;
      const swept = other.sweep(0);
      await expect.poll(() => proxy.refused).toBeGreaterThan(0);
      proxy.pass();
      expect(await swept).toEqual(NOTHING);
      clock.aheadMs += SURE_MS;
      expect((await other.sweep(0)).tasks).toMatchObject([{ id, attempt: 2 }]);
      await proxy.stop();
    }),
  );

  test(
    'a worker that beats keeps its tasks, however long they take',
    within(async (scene) => {
      const store = await scene.store();
      const [id] = scene.ids(1) as [string];
      store.published(await store.insert([tasks([id])]));
      await store.begin('w1', [arrival(id)]);
      await expect.poll(async () => (await scene.sql`SELECT entry FROM outbox`).length).toBe(0);
      await scene.sql`UPDATE tasks SET enqueued_at = enqueued_at - interval '1 day'`;
      expect(await store.sweep(0)).toEqual(NOTHING);
      expect(await store.getTask(id)).toMatchObject({ state: 'active' });
    }),
  );
});

/** As if so much time had passed since the outbox was claimed. */
async function passes(scene: Scene, ms: number): Promise<void> {
  await scene.sql`UPDATE outbox SET claimed_until = claimed_until - ${ms + 1} * interval '1 millisecond'`;
}
