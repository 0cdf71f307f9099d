import { describe, expect, test } from 'vitest';
import type { PostgresStore } from '../../src/broker/postgres/postgres-store.ts';
import { LIMITS } from '../../src/limits.ts';
import { failure } from '../conformance/events.ts';
import { arrival, HurriedClock, OOPS, shared, spec, tasks, within } from './scene.ts';

const HOUR = 3_600_000;

describe.skipIf(shared === undefined)('one task', () => {
  test(
    'what waits is cancelled, what runs is asked to end, what is over is a conflict',
    within(async (scene) => {
      const store = await scene.store();
      const ids = scene.ids(4);
      const [ready, scheduled, active, over] = ids as [string, string, string, string];
      await store.insert([tasks([ready, active, over]), tasks([scheduled], { runAtMs: Date.now() + HOUR })]);
      await store.begin('w1', [arrival(active), arrival(over)]);
      await store.end('w1', [{ id: over, attempt: 1, kind: 'completed', result: undefined }]);
      expect(await store.cancelTask(ready)).toBe('cancelled');
      expect(await store.cancelTask(scheduled)).toBe('cancelled');
      expect(await store.cancelTask(active)).toBe('requested');
      expect(await store.cancelTask(active)).toBe('requested');
      for (const [id, state] of [
        [ready, 'cancelled'],
        [over, 'completed'],
      ] as const) {
        const error = await failure(store.cancelTask(id));
        expect(error.code).toBe('CONFLICT');
        expect(error.message).toContain(`${id} is ${state}`);
      }
      expect((await failure(store.cancelTask('nobody'))).code).toBe('NOT_FOUND');
      expect(await store.getTask(scheduled)).toMatchObject({ state: 'cancelled', attempt: 0 });
      expect((await store.status()).queues[0]).toMatchObject({ ready: 0, scheduled: 0, active: 1, cancelled: 2 });
    }),
  );

  test(
    'a dead task is retried with fresh attempts and its errors, a scheduled one at once with those it has',
    within(async (scene) => {
      const store = await scene.store();
      const [dead, paused] = scene.ids(2) as [string, string];
      await store.insert([tasks([dead, paused])]);
      await store.begin('w1', [arrival(dead, { attempt: 3 }), arrival(paused)]);
      await store.end('w1', [
        { id: dead, attempt: 3, kind: 'dead', error: OOPS, atMs: 1 },
        { id: paused, attempt: 1, kind: 'failed', error: OOPS, atMs: 1, retryAtMs: Date.now() + HOUR },
      ]);
      expect((await store.retryTask(dead)).tasks).toMatchObject([{ id: dead, attempt: 1, runAtMs: undefined }]);
      expect((await store.retryTask(paused)).tasks).toMatchObject([{ id: paused, attempt: 2, runAtMs: undefined }]);
      expect(await store.getTask(dead)).toMatchObject({ state: 'ready', attempt: 0, failures: [{ attempt: 3 }] });
      expect(await store.getTask(paused)).toMatchObject({ state: 'ready', attempt: 1, failures: [{ attempt: 1 }] });
      expect((await store.status()).queues[0]).toMatchObject({ ready: 2, scheduled: 0, dead: 0, totals: { dead: 1 } });
      for (const id of [dead, paused]) {
        const error = await failure(store.retryTask(id));
        expect(error.code).toBe('CONFLICT');
        expect(error.message).toContain('ready');
      }
      await store.begin('w1', [arrival(dead)]);
      expect((await failure(store.retryTask(dead))).message).toContain('active');
      expect((await failure(store.retryTask('nobody'))).code).toBe('NOT_FOUND');
    }),
  );
});

describe.skipIf(shared === undefined)('a whole queue', () => {
  test(
    'purge cancels what waits, in this queue only',
    within(async (scene) => {
      const store = await scene.store();
      const [ready, later, other, active] = [scene.ids(7000), scene.ids(3), scene.ids(2), scene.ids(1)];
      await store.insert([
        tasks(ready),
        tasks(later, { runAtMs: Date.now() + HOUR }),
        tasks(other, { spec: spec({ queue: 'other' }) }),
        tasks(active),
      ]);
      await store.begin('w1', [arrival(active[0] as string)]);
      expect(await store.purgeQueue('default')).toBe(7003);
      expect(await store.purgeQueue('default')).toBe(0);
      const [purged, untouched] = (await store.status()).queues;
      expect(purged).toMatchObject({ ready: 0, scheduled: 0, active: 1, cancelled: 7003, totals: { cancelled: 7003 } });
      expect(untouched).toMatchObject({ name: 'other', ready: 2, cancelled: 0 });
      expect(await store.begin('w1', [arrival(ready[0] as string), arrival(later[0] as string)])).toEqual([
        'drop',
        'drop',
      ]);
    }),
  );

  test(
    'redrive gives all dead tasks in portions, each once, oldest first',
    within(async (scene) => {
      const stores = [await scene.store(), await scene.store()] as const;
      const ids = scene.ids(LIMITS.storePortionTasks * 2 + 10);
      const [alive, elsewhere] = scene.ids(2) as [string, string];
      await stores[0].insert([tasks([...ids, alive]), tasks([elsewhere], { spec: spec({ queue: 'other' }) })]);
      await die(stores[0], [...ids, elsewhere]);
      const first = await stores[0].redrive('default');
      expect(first.tasks.map(({ id }) => id)).toEqual(ids.slice(0, LIMITS.storePortionTasks));
      expect(first.tasks.every(({ attempt }) => attempt === 1)).toBe(true);
      const rest = await Promise.all(
        stores.map(async (store) => {
          const mine: string[] = [];
          for (;;) {
            const portion = await store.redrive('default');
            if (portion.tasks.length === 0) return mine;
            mine.push(...portion.tasks.map(({ id }) => id));
          }
        }),
      );
      expect(rest.flat().sort()).toEqual(ids.slice(LIMITS.storePortionTasks));
      const status = await stores[0].status();
      expect(status.queues).toMatchObject([
        { dead: 0, ready: ids.length + 1 },
        { name: 'other', dead: 1 },
      ]);
      expect(await scene.sql`SELECT no FROM ended WHERE dead AND queue_no = 1`).toHaveLength(0);
    }),
  );

  test(
    'a portion of large tasks stays small enough to be published at once',
    within(async (scene) => {
      const store = await scene.store();
      const ids = scene.ids(20);
      const megabyte = new Uint8Array(LIMITS.payloadBytesMax);
      await store.insert([tasks(ids, { payloads: ids.map(() => megabyte) })]);
      await die(store, ids);
      const sizes: number[] = [];
      for (;;) {
        const { tasks: portion } = await store.redrive('default');
        if (portion.length === 0) break;
        sizes.push(portion.length);
      }
      expect(sizes).toEqual([8, 8, 4]);
    }),
    60_000,
  );

  test(
    'a task that died again is redriven again, and forgotten with its second death',
    within(async (scene) => {
      const store = await scene.store();
      const [id] = scene.ids(1) as [string];
      await store.insert([tasks([id])]);
      for (let round = 0; round < 3; round++) {
        await die(store, [id]);
        expect((await store.redrive('default')).tasks).toHaveLength(1);
      }
      await die(store, [id]);
      await store.retryTask(id);
      await die(store, [id]);
      expect((await store.redrive('default')).tasks).toHaveLength(1);
      expect((await store.redrive('default')).tasks).toEqual([]);
      expect((await store.status()).queues[0]).toMatchObject({ dead: 0, ready: 1, totals: { dead: 5 } });
    }),
  );

  test(
    'a redrive ends though its tasks die again while it goes on',
    within(async (scene) => {
      const store = await scene.store();
      const ids = scene.ids(6);
      await store.insert([tasks(ids)]);
      for (const id of ids) await die(store, [id]);
      const redriven: string[] = [];
      for (let until: string | undefined; redriven.length < 100; ) {
        const portion = await store.redrive('default', until);
        until = portion.until;
        if (portion.tasks.length === 0) break;
        const again = portion.tasks.map(({ id }) => id);
        redriven.push(...again);
        await die(store, again);
      }
      expect(redriven).toEqual(ids);
      expect((await store.status()).queues[0]).toMatchObject({ dead: 6 });
      expect((await store.redrive('default')).tasks).toHaveLength(1);
    }),
  );

  test(
    'pauses are kept, and told to everybody who asks',
    within(async (scene) => {
      const [one, other] = [await scene.store(), await scene.store()];
      await one.pauseQueue('b');
      await one.pauseQueue('a');
      await one.pauseQueue('a');
      expect(await other.pausedQueues()).toEqual(['a', 'b']);
      await other.resumeQueue('b');
      await other.resumeQueue('b');
      expect(await one.pausedQueues()).toEqual(['a']);
      expect((await one.status()).queues.map(({ name, paused }) => [name, paused])).toEqual([
        ['b', false],
        ['a', true],
      ]);
    }),
  );

  test(
    'a queue that was never used cannot be resumed, purged or redriven',
    within(async (scene) => {
      const store = await scene.store();
      await store.insert([tasks(scene.ids(1), { spec: spec({ queue: 'real' }) })]);
      const calls = [store.resumeQueue('reel'), store.purgeQueue('reel'), store.redrive('reel')];
      for (const error of await Promise.all(calls.map((call) => failure(call)))) {
        expect(error.code).toBe('NOT_FOUND');
        expect(error.message).toContain('"reel"');
        expect(error.message).toContain('client.status()');
      }
    }),
  );

  test(
    'one queue more than allowed is refused',
    within(async (scene) => {
      const store = await scene.store();
      await scene.sql`INSERT INTO queues (name) SELECT 'queue ' || n FROM generate_series(1, ${LIMITS.queuesMax}) n`;
      await store.insert([tasks(scene.ids(1), { spec: spec({ queue: 'queue 1' }) })]);
      const error = await failure(store.insert([tasks(scene.ids(1))]));
      expect(error.code).toBe('QUEUE_FULL');
      expect(error.message).toContain(String(LIMITS.queuesMax));
    }),
  );
});

describe.skipIf(shared === undefined)('retention', () => {
  test(
    'by count it keeps those that ended last, of each kind and queue',
    within(async (scene) => {
      const store = await scene.store();
      const [done, dead, other] = [scene.ids(5), scene.ids(4), scene.ids(3)];
      await store.insert([tasks([...done, ...dead]), tasks(other, { spec: spec({ queue: 'other' }) })]);
      expect(await store.setRetention('default', { completedCountMax: 2 })).toMatchObject({
        completedCountMax: 2,
        deadCountMax: 100_000,
      });
      expect(await store.setRetention('default', { deadCountMax: 1 })).toMatchObject({
        completedCountMax: 2,
        deadCountMax: 1,
      });
      // In another order than they came, and some together.
      for (const part of [[4, 0], [3], [1, 2]])
        await complete(
          store,
          part.map((index) => done[index] as string),
        );
      await die(store, dead);
      await complete(store, other);
      expect(await kept(store, [...done, ...dead, ...other])).toEqual([done[1], done[2], dead[3], ...other]);
      expect((await store.status()).queues[0]).toMatchObject({
        ...{ completed: 2, dead: 1 },
        totals: { completed: 5, dead: 4 },
      });
      await store.setRetention('default', { completedCountMax: 0, deadCountMax: 0 });
      expect(await kept(store, done)).toEqual([]);
      expect(await store.outcomes([done[1] as string])).toEqual(['unknown']);
    }),
  );

  test(
    'by age it forgets what ended before, in rounds that any process may make',
    within(async (scene) => {
      const store = await scene.store();
      const [old, young] = [scene.ids(5000), scene.ids(3)];
      await store.insert([tasks([...old, ...young])]);
      await complete(store, old);
      await scene.sql`UPDATE tasks SET finished_at = finished_at - interval '2 hours' WHERE state = 2`;
      await scene.sql`UPDATE ended SET at = at - interval '2 hours'`;
      await complete(store, young);
      const [one, other] = [await scene.store({ upkeep: true }), await scene.store({ upkeep: true })];
      await expect.poll(async () => (await other.status()).queues[0]?.completed, { timeout: 40_000 }).toBe(3);
      expect(await kept(one, [old[0] as string, ...young])).toEqual(young);
      expect(await scene.sql`SELECT no FROM ended`).toHaveLength(1);
    }),
    60_000,
  );

  test(
    'a task that was cancelled never runs, also when it is long forgotten and a copy of its message comes',
    within(async (scene) => {
      const store = await scene.store();
      const ids = scene.ids(4);
      const [cancelled, , arrived, asked] = ids as [string, string, string, string];
      await store.insert([tasks(ids)]);
      await store.cancelTask(cancelled);
      await store.cancelTask(arrived);
      await store.begin('w1', [arrival(asked)]);
      await store.cancelTask(asked);
      await store.end('w1', [{ id: asked, attempt: 1, kind: 'released' }]);
      await store.purgeQueue('default');
      expect(await store.begin('w1', [arrival(arrived)])).toEqual(['drop']);
      await store.setRetention('default', { completedCountMax: 0 });
      expect(await kept(store, ids)).toEqual([]);
      const copies = ids.map((id) => arrival(id));
      expect(await store.begin('w1', copies)).toEqual(ids.map(() => 'drop'));
    }),
  );

  test(
    'who looks while tasks end all the time does not wait until they have',
    within(async (scene) => {
      const store = await scene.store();
      const ids = scene.ids(800);
      await store.insert([tasks(ids)]);
      await store.setRetention('default', { completedCountMax: 2 });
      const left = [...ids];
      let isOver = false;
      const work = async (): Promise<void> => {
        while (!isOver && left.length > 0) await complete(store, [left.pop() as string]);
      };
      const workers = Promise.all(Array.from({ length: 8 }, work));
      await expect.poll(() => left.length).toBeLessThan(750);
      await store.getTask(ids[0] as string);
      expect(left.length).toBeGreaterThan(0);
      isOver = true;
      await workers;
      expect(await kept(store, ids.slice(left.length))).toHaveLength(2);
    }),
  );

  test(
    'what was cancelled long ago is forgotten as fast as it comes, and the rest stays',
    within(async (scene) => {
      const due = LIMITS.storeTrimTasks * 12;
      await scene.sql`
        INSERT INTO tombstones (id, until)
        SELECT 'g-' || n, now() + CASE WHEN n > ${due} THEN interval '1 day' ELSE interval '-1 minute' END
        FROM generate_series(1, ${due + 5}::integer) n`;
      const clock = new HurriedClock();
      await scene.store({ upkeep: true, clock });
      // It has time for what is slow once a minute.
      clock.aheadMs += 60_000;
      await expect.poll(async () => (await scene.sql`SELECT FROM tombstones`).length).toBe(5);
    }),
  );

  test(
    'a retried task is not forgotten with its former end',
    within(async (scene) => {
      const store = await scene.store();
      const [id] = scene.ids(1) as [string];
      await store.insert([tasks([id])]);
      await die(store, [id]);
      await store.retryTask(id);
      await store.setRetention('default', { deadCountMax: 0, completedCountMax: 0 });
      expect(await store.getTask(id)).toMatchObject({ state: 'ready' });
    }),
  );

  test(
    'counts stay what they are when they are added up',
    within(async (scene) => {
      const store = await scene.store();
      const ids = scene.ids(10);
      await store.insert([tasks(ids)]);
      await complete(store, ids.slice(0, 3));
      await die(store, ids.slice(3, 5));
      const before = (await store.status()).queues;
      await scene.sql`UPDATE deltas SET at = at - interval '1 hour'`;
      await scene.store({ upkeep: true });
      await expect.poll(async () => (await scene.sql`SELECT at FROM deltas`).length).toBe(0);
      const after = (await store.status()).queues;
      expect(after.map((queue) => ({ ...queue, oldestReadyMs: 0 }))).toEqual(
        before.map((queue) => ({ ...queue, oldestReadyMs: 0 })),
      );
      expect(after[0]).toMatchObject({ ready: 5, completed: 3, dead: 2 });
    }),
  );
});

async function complete(store: PostgresStore, ids: readonly string[]): Promise<void> {
  await store.begin(
    'w1',
    ids.map((id) => arrival(id)),
  );
  const ends = ids.map((id) => ({ id, attempt: 1, kind: 'completed', result: undefined }) as const);
  expect((await store.end('w1', ends)).verdicts).toEqual(ids.map(() => 'taken'));
}

async function die(store: PostgresStore, ids: readonly string[]): Promise<void> {
  await store.begin(
    'w1',
    ids.map((id) => arrival(id)),
  );
  const ends = ids.map((id) => ({ id, attempt: 1, kind: 'dead', error: OOPS, atMs: 1 }) as const);
  expect((await store.end('w1', ends)).verdicts).toEqual(ids.map(() => 'taken'));
}

async function kept(store: PostgresStore, ids: readonly string[]): Promise<string[]> {
  const outcomes = await store.outcomes(ids);
  return ids.filter((_, index) => outcomes[index] !== 'unknown');
}
