import { describe, expect, test } from 'vitest';
import type { TaskFilter, TaskInfo } from '../../src/broker/contract.ts';
import type { PostgresStore } from '../../src/broker/postgres/postgres-store.ts';
import { LIMITS } from '../../src/limits.ts';
import { failure } from '../conformance/events.ts';
import { arrival, beat, HurriedClock, OOPS, shared, spec, tasks, within } from './scene.ts';

const HOUR = 3_600_000;

describe.skipIf(shared === undefined)('lists', () => {
  test(
    'tasks come once each over the pages, in the order of enqueue, by queue, name and state',
    within(async (scene) => {
      const store = await scene.store();
      const expected = new Map<string, string>();
      // Ids that say nothing of the order.
      let number = 0;
      const newIds = (count: number): string[] =>
        Array.from({ length: count }, () => `${(++number * 7919) % 1000}-${number}`);
      for (const queue of ['a', 'b']) {
        for (const name of ['x', 'y']) {
          const [later, now] = [newIds(3), newIds(4)];
          await store.insert([
            tasks(later, { spec: spec({ queue, name }), runAtMs: Date.now() + HOUR }),
            tasks(now, { spec: spec({ queue, name }) }),
          ]);
          for (const id of later) expected.set(id, `${queue} ${name} scheduled`);
          for (const id of now) expected.set(id, `${queue} ${name} ready`);
        }
      }
      for (const limit of [1, 5, 28, 100]) {
        const all = await pages(store, { limit });
        expect(all.map(({ id }) => id)).toEqual([...expected.keys()]);
        for (const { id, queue, name, state } of all) expect(`${queue} ${name} ${state}`).toBe(expected.get(id));
      }
      expect(await pages(store, { queue: 'a' })).toHaveLength(14);
      expect(await pages(store, { name: 'x', state: 'ready', limit: 3 })).toHaveLength(8);
      expect(await pages(store, { queue: 'b', name: 'y', state: 'scheduled', limit: 2 })).toHaveLength(3);
      expect(await pages(store, { queue: 'nowhere' })).toEqual([]);
      expect(await pages(store, { state: 'blocked' })).toEqual([]);
      expect((await store.listTasks({ limit: 28 })).next).toBeUndefined();
      const ids = [...expected.keys()];
      const after = await store.listTasks({ after: ids[20] as string });
      expect(after.tasks.map(({ id }) => id)).toEqual(ids.slice(21));
      expect(after.tasks[0]).not.toHaveProperty('payload');
      expect((await failure(store.listTasks({ after: 'nobody' }))).code).toBe('NOT_FOUND');
      for (const filter of [{ limit: 0 }, { limit: 1001 }, { limit: 1.5 }, { state: 'sleeping' as never }]) {
        expect((await failure(store.listTasks(filter))).code).toBe('INVALID_ARGUMENT');
      }
    }),
  );

  test(
    'the next page comes also when the task at the end of the last one was forgotten',
    within(async (scene) => {
      const store = await scene.store();
      const ids = scene.ids(6);
      await store.insert([tasks(ids)]);
      const first = await store.listTasks({ limit: 3 });
      await scene.sql`DELETE FROM tasks WHERE id = ${ids[2] as string}`;
      const second = await store.listTasks({ limit: 3, after: first.next });
      expect(second.tasks.map(({ id }) => id)).toEqual(ids.slice(3));
    }),
  );

  test(
    'a page that has looked at very many says so, and loses none of what is behind them',
    within(async (scene) => {
      const store = await scene.store();
      const [needle, other] = scene.ids(2) as [string, string];
      await store.insert([tasks(scene.ids(1))]);
      await scene.sql`
        INSERT INTO tasks (id, enqueued_at, queue_no, kind_no, payload)
        SELECT 'straw ' || n, now(), 1, 1, '' FROM generate_series(1, ${LIMITS.storeListScanMax + 1000}) n`;
      await store.insert([
        tasks([other], { spec: spec({ queue: 'other', name: 'needle' }) }),
        tasks([needle], { spec: spec({ name: 'needle' }) }),
      ]);
      const first = await store.listTasks({ name: 'needle' });
      expect(first.tasks).toEqual([]);
      expect(first.next).toBeTypeOf('string');
      expect((await pages(store, { name: 'needle' })).map(({ id }) => id)).toEqual([other, needle]);
    }),
    60_000,
  );
});

describe.skipIf(shared === undefined)('status', () => {
  test(
    'counts are those of the tasks, whatever happened to them',
    within(async (scene) => {
      const store = await scene.store();
      const [ready, later, running, dead] = [scene.ids(5), scene.ids(6), scene.ids(4), scene.ids(2)];
      await store.insert([tasks(ready), tasks(later, { runAtMs: Date.now() + HOUR }), tasks([...running, ...dead])]);
      await store.begin(
        'w1',
        [...running, ...dead].map((id) => arrival(id)),
      );
      await store.end(
        'w1',
        dead.map((id) => ({ id, attempt: 1, kind: 'dead', error: OOPS, atMs: 1 }) as const),
      );
      await store.cancelTask(ready[0] as string);
      expect((await store.status()).queues).toMatchObject([
        {
          ...{ name: 'default', paused: false, ready: 4, active: 4, scheduled: 6, blocked: 0 },
          ...{ completed: 0, dead: 2, cancelled: 1 },
          totals: { enqueued: 17, completed: 0, failed: 2, dead: 2, cancelled: 1 },
          retention: { completedCountMax: 100_000 },
        },
      ]);
      const counts: Record<string, number> = {};
      for (const { state } of await pages(store, {})) counts[state] = (counts[state] ?? 0) + 1;
      expect(counts).toEqual({ ready: 4, active: 4, scheduled: 6, dead: 2, cancelled: 1 });
    }),
  );

  test(
    'what was scheduled is ready when its time has come',
    within(async (scene) => {
      const store = await scene.store();
      const [id] = scene.ids(1) as [string];
      await store.insert([tasks([id], { runAtMs: Date.now() - 10 })]);
      expect(await store.getTask(id)).toMatchObject({ state: 'ready' });
      expect((await store.status()).queues[0]).toMatchObject({ ready: 1, scheduled: 0 });
    }),
  );

  test(
    'the age of the oldest ready task, of each queue, also after an old one was redriven',
    within(async (scene) => {
      const store = await scene.store();
      const [old, middle, young, other] = scene.ids(4) as [string, string, string, string];
      const nowMs = Date.now();
      await store.insert([
        tasks([old], { enqueuedAtMs: nowMs - 300_000 }),
        tasks([middle], { enqueuedAtMs: nowMs - 200_000 }),
        tasks([young], { enqueuedAtMs: nowMs - 100_000 }),
        tasks([other], { spec: spec({ queue: 'other' }), enqueuedAtMs: nowMs - 400_000, runAtMs: nowMs + HOUR }),
      ]);
      const age = async (): Promise<number[]> =>
        (await store.status()).queues.map(({ oldestReadyMs }) => Math.floor(oldestReadyMs / 100_000));
      expect(await age()).toEqual([3, 0]);
      await store.begin('w1', [arrival(old), arrival(middle)]);
      expect(await age()).toEqual([1, 0]);
      await store.end('w1', [
        { id: old, attempt: 1, kind: 'dead', error: OOPS, atMs: 1 },
        { id: middle, attempt: 1, kind: 'completed', result: undefined },
      ]);
      // As upkeep does it in time: below this mark nothing is looked for.
      await scene.sql`UPDATE queues SET low_seq = 3 WHERE no = 1`;
      expect(await age()).toEqual([1, 0]);
      await store.redrive('default');
      expect(await age()).toEqual([3, 0]);
    }),
  );

  test(
    'the mark below which nothing is looked for rises to the first task that is not over',
    within(async (scene) => {
      const clock = new HurriedClock();
      const store = await scene.store({ upkeep: true, clock });
      const ids = scene.ids(5);
      await store.insert([tasks(ids)]);
      await store.begin(
        'w1',
        ids.slice(0, 4).map((id) => arrival(id)),
      );
      const done = [ids[0], ids[1], ids[3]] as string[];
      await store.end(
        'w1',
        done.map((id) => ({ id, attempt: 1, kind: 'completed', result: undefined }) as const),
      );
      const mark = async (): Promise<number> => {
        clock.aheadMs += 60_000;
        return (await scene.sql`SELECT low_seq::integer AS low FROM queues`)[0]?.low as number;
      };
      await expect.poll(mark, { timeout: 15_000 }).toBe(3);
      await store.end('w1', [{ id: ids[2] as string, attempt: 1, kind: 'failed', error: OOPS, atMs: 1, retryAtMs: 0 }]);
      await store.purgeQueue('default');
      await expect.poll(mark, { timeout: 15_000 }).toBe(5);
    }),
    40_000,
  );

  test(
    'what others need is looked at again a portion at a time, until all of it was',
    within(async (scene) => {
      const clock = new HurriedClock();
      const store = await scene.store({ upkeep: true, clock });
      await store.insert([tasks(scene.ids(1))]);
      await scene.sql`INSERT INTO held (id, queue_no, dead, at, due)
        SELECT 'held-' || n, 1, false, now(), false FROM generate_series(1, 30000) AS n`;
      const left = async (): Promise<number> =>
        (await scene.sql`SELECT count(*)::integer AS count FROM held`)[0]?.count as number;
      clock.aheadMs += 60_000;
      await expect.poll(left, { timeout: 15_000 }).toBeLessThan(30_000);
      expect(await scene.sql`SELECT FROM held WHERE NOT due`).toHaveLength(10_000);
      await expect.poll(left, { timeout: 15_000 }).toBe(10_000);
      clock.aheadMs += 60_000;
      await expect.poll(left, { timeout: 15_000 }).toBe(0);
    }),
    50_000,
  );

  test(
    'throughput is that of the last seconds',
    within(async (scene) => {
      const store = await scene.store();
      const ids = scene.ids(100);
      await store.insert([tasks(ids)]);
      await store.begin(
        'w1',
        ids.map((id) => arrival(id)),
      );
      await store.end(
        'w1',
        ids.slice(0, 50).map((id) => ({ id, attempt: 1, kind: 'completed', result: undefined }) as const),
      );
      const seconds = LIMITS.storeThroughputMs / 1000;
      expect((await store.status()).throughput).toEqual({
        enqueued: 100 / seconds,
        completed: 50 / seconds,
        failed: 0,
      });
      await scene.sql`UPDATE deltas SET at = at - ${LIMITS.storeThroughputMs} * interval '1 millisecond'`;
      expect((await store.status()).throughput).toEqual({ enqueued: 0, completed: 0, failed: 0 });
    }),
  );
});

describe.skipIf(shared === undefined)('workers', () => {
  test(
    'are shown with what they said last, to every process, and with what all of them saw together',
    within(async (scene) => {
      const [one, other] = [await scene.store(), await scene.store()];
      const fast = { p50: 1, p95: 2, p99: 3, count: 30 };
      const slow = { p50: 5, p95: 6, p99: 7, count: 10 };
      one.heartbeat(beat('w1', { running: 0 }));
      one.heartbeat(beat('w1', { latencyMs: { start: fast, total: fast } }));
      one.heartbeat(beat('w2', { queues: ['a', 'b'], latencyMs: { start: slow, total: slow } }));
      await expect.poll(async () => (await other.status()).workers.length).toBe(2);
      const { workers, latencyMs } = await other.status();
      const { latencyMs: _, started: __, ...shown } = beat('w1');
      // Those that begin in one turn stand in any order.
      const first = workers.find(({ id }) => id === 'w1');
      expect(first).toEqual({ ...shown, lastSeenMs: expect.any(Number) });
      expect(first?.lastSeenMs).toBeGreaterThanOrEqual(0);
      expect(workers.find(({ id }) => id === 'w2')?.queues).toEqual(['a', 'b']);
      expect(latencyMs.total).toEqual({ p50: 2, p95: 3, p99: 4, count: 40 });
    }),
  );

  test(
    'are not shown after they left, or when their last word is old',
    within(async (scene) => {
      const store = await scene.store();
      for (const id of ['leaves', 'falls silent', 'stays']) store.heartbeat(beat(id));
      await expect.poll(async () => (await store.status()).workers.length).toBe(3);
      store.left('leaves');
      await scene.sql`
        UPDATE workers SET beat_at = beat_at - ${LIMITS.storeWorkerStaleMs} * interval '1 millisecond'
        WHERE id = 'falls silent'`;
      await expect.poll(async () => (await store.status()).workers.map(({ id }) => id)).toEqual(['stays']);
      store.heartbeat(beat('falls silent'));
      await expect.poll(async () => (await store.status()).workers.length).toBe(2);
    }),
  );
});

async function pages(store: PostgresStore, filter: TaskFilter): Promise<TaskInfo[]> {
  const all: TaskInfo[] = [];
  let after: string | undefined;
  do {
    const page = await store.listTasks({ ...filter, after });
    all.push(...page.tasks);
    after = page.next;
  } while (after !== undefined);
  return all;
}
