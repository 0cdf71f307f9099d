import { describe, expect, test } from 'vitest';
import type { BulkReport, TaskFilter, TaskInfo } from '../../src/broker/contract.ts';
import { NEWEST } from '../../src/broker/postgres/dead-groups.ts';
import type { PostgresStore } from '../../src/broker/postgres/postgres-store.ts';
import { CUT_NEWEST, CUT_OLDEST, FIND_NEWEST, FIND_OLDEST } from '../../src/broker/postgres/search.ts';
import { LIMITS } from '../../src/limits.ts';
import { failure } from '../conformance/events.ts';
import { arrival, beat, OOPS, type Scene, shared, spec, tasks, within } from './scene.ts';

const HOUR = 3_600_000;

describe.skipIf(shared === undefined)('looking for tasks', () => {
  test(
    'goes along an index, whatever is looked for, in both orders',
    within(async (scene) => {
      await straw(scene, 20_000);
      const place = ['default', '5000', '15000', '200', 'false'];
      const picks: (string | null)[][] = [
        [null, null, null, null, null, 'false', null, 'false'],
        ['work', '{ready,dead}', '1', '2000000000000', '7', 'true', 'oops', 'true'],
      ];
      for (const pick of picks) {
        for (const [find, direction] of [
          [FIND_OLDEST, 'Index Scan using tasks_in_order'],
          [FIND_NEWEST, 'Index Scan Backward using tasks_in_order'],
        ] as const) {
          const plan = await planOf(scene, find, [...place, '101', ...pick]);
          expect(plan).toContain(direction);
          expect(plan).not.toContain('Seq Scan on tasks');
        }
      }
      for (const cut of [CUT_OLDEST, CUT_NEWEST])
        expect(await planOf(scene, cut, place)).toMatch(/using tasks_in_order/);
      const plan = await planOf(scene, NEWEST, ['{1}', '{100}', '1000']);
      expect(plan).not.toContain('Seq Scan on tasks');
    }),
  );

  test(
    'text is found as it is written, in what is shown of the newest error, and never in its stack',
    within(async (scene) => {
      const store = await scene.store();
      const messages = [
        'a "quoted" one',
        'back\\slash',
        'nul \u0000 inside',
        'ÜBER',
        '50%_',
        '","stack":"',
        'new\nline',
      ];
      const ids = await deadOf(scene, store, messages);
      const found = async (error: string): Promise<number[]> =>
        (await pages(store, { error })).map(({ id }) => ids.indexOf(id));
      expect(await found('A "QUOTED" O')).toEqual([0]);
      expect(await found('back\\slash')).toEqual([1]);
      expect(await found('nul \u0000')).toEqual([2]);
      expect(await found('über')).toEqual([3]);
      expect(await found('%_')).toEqual([4]);
      expect(await found('","stack')).toEqual([5]);
      expect(await found('new\nline')).toEqual([6]);
      expect(await found('the stack')).toEqual([]);
      expect(await found('atMs')).toEqual([]);
      const { groups } = await store.deadGroups({});
      expect(groups.map(({ message }) => message)).toContain('","stack":"');
      expect(groups).toHaveLength(messages.length);
      const [first] = (await store.listTasks({ limit: 1 })).tasks;
      expect(first?.failures[0]).toMatchObject({ worker: 'somebody', startedAtMs: 5, error: { stack: 'the stack' } });
    }),
  );

  test(
    'a page over several queues loses nothing, though one of them was not looked through',
    within(async (scene) => {
      const store = await scene.store();
      await store.insert([tasks(scene.ids(1))]);
      const all: string[] = [];
      const needles = async (count: number, queue: string): Promise<void> => {
        const ids = scene.ids(count);
        await store.insert([tasks(ids, { spec: spec({ queue, name: 'needle' }) })]);
        all.push(...ids);
      };
      await needles(3, 'other');
      await needles(1, 'default');
      await straw(scene, LIMITS.storeListScanMax + 10);
      await needles(1, 'default');
      await needles(3, 'other');
      for (const limit of [2, 100]) {
        expect((await pages(store, { name: 'needle', limit })).map(({ id }) => id)).toEqual(all);
        expect((await pages(store, { name: 'needle', limit, order: 'newest' })).map(({ id }) => id)).toEqual(
          all.toReversed(),
        );
      }
    }),
    60_000,
  );

  test(
    'what runs is found by its worker without looking at what has ended before, and says since when',
    within(async (scene) => {
      const store = await scene.store();
      await straw(scene, 1000);
      const [running, other] = scene.ids(2) as [string, string];
      await store.insert([tasks([running, other])]);
      // As upkeep does it in time.
      await scene.sql`UPDATE tasks SET state = 2 WHERE id LIKE 'straw%'`;
      await scene.sql`UPDATE queues SET low_seq = (SELECT min(seq) FROM tasks WHERE state = 0)`;
      await store.begin('w1', [arrival(running)]);
      await store.begin('w2', [arrival(other)]);
      expect(await pages(store, { worker: 'w1' })).toMatchObject([{ id: running, worker: 'w1', workerId: 'w1' }]);
      store.heartbeat(beat('w1', { started: { [running]: 77 } }));
      await expect.poll(async () => (await store.getTask(running)).startedAtMs).toBe(77);
      expect(await pages(store, { worker: 'w1', order: 'newest' })).toMatchObject([
        { id: running, worker: 'the worker w1', workerId: 'w1', startedAtMs: 77 },
      ]);
      expect(await pages(store, { worker: 'w3' })).toEqual([]);
    }),
  );
});

describe.skipIf(shared === undefined)('a change of many tasks', () => {
  test(
    'takes no more in a step than may be published at once, and counts right',
    within(async (scene) => {
      const store = await scene.store();
      const large = scene.ids(20);
      const megabyte = JSON.stringify('x'.repeat(1024 * 1024 - 2));
      await store.insert([tasks(large, { payloads: large.map(() => megabyte), runAtMs: Date.now() + HOUR })]);
      const small = scene.ids(LIMITS.storePortionTasks + 100);
      await store.insert([tasks(small, { runAtMs: Date.now() + HOUR })]);
      const seen: string[] = [];
      let steps = 0;
      let after: string | undefined;
      do {
        const { due, count, next } = await store.retryTasks({ state: 'scheduled', after });
        expect(due.tasks).toHaveLength(count);
        expect(count).toBeLessThanOrEqual(LIMITS.storePortionTasks);
        const bytes = due.tasks.reduce((sum, { payload }) => sum + payload.length, 0);
        expect(bytes).toBeLessThanOrEqual(LIMITS.storePortionBytes);
        seen.push(...due.tasks.map(({ id }) => id));
        steps++;
        after = next;
      } while (after !== undefined);
      expect(seen).toEqual([...large, ...small]);
      expect(steps).toBeGreaterThan(3);
      expect((await store.status()).queues[0]).toMatchObject({ ready: 620, scheduled: 0, dead: 0 });
      expect((await scene.sql`SELECT entry FROM outbox WHERE claimed_until IS NOT NULL`).length).toBe(steps);
    }),
    30_000,
  );

  test(
    'leaves what was enqueued after its first step',
    within(async (scene) => {
      const store = await scene.store();
      const first = scene.ids(4);
      await store.insert([tasks(first)]);
      const begun = await store.cancelTasks({ queue: 'default', limit: 2 });
      expect(begun).toMatchObject({ count: 2, cancelled: first.slice(0, 2), requested: [] });
      const late = scene.ids(2);
      await store.insert([tasks(late)]);
      let step: BulkReport = begun;
      while (step.next !== undefined) step = await store.cancelTasks({ queue: 'default', limit: 2, after: step.next });
      expect((await pages(store, { state: 'ready' })).map(({ id }) => id)).toEqual(late);
      expect((await store.status()).queues[0]).toMatchObject({ ready: 2, cancelled: 4 });
    }),
  );

  test(
    'is made by several processes at once, and each task is changed by one',
    within(async (scene) => {
      const stores = await Promise.all([scene.store(), scene.store(), scene.store()]);
      const ids = scene.ids(1000);
      await (stores[0] as PostgresStore).insert([tasks(ids)]);
      await (stores[0] as PostgresStore).begin(
        'w1',
        ids.slice(0, 10).map((id) => arrival(id)),
      );
      const orders = ['oldest', 'newest', 'oldest'] as const;
      const changed = await Promise.all(
        stores.map(async (store, index) => {
          const each: string[] = [];
          let after: string | undefined;
          do {
            const filter: TaskFilter = { queue: 'default', order: orders[index], limit: 90, after };
            const { cancelled, requested, next } = await store.cancelTasks(filter);
            each.push(...cancelled, ...requested);
            after = next;
          } while (after !== undefined);
          return each;
        }),
      );
      expect(changed.flat().sort()).toEqual(ids);
      expect((await (stores[0] as PostgresStore).status()).queues[0]).toMatchObject({
        ...{ ready: 0, active: 10, cancelled: 990 },
        totals: { cancelled: 990 },
      });
    }),
  );

  test(
    'is refused for a filter that names nothing',
    within(async (scene) => {
      const store = await scene.store();
      await store.insert([tasks(scene.ids(1))]);
      for (const filter of [{}, { limit: 5 }, { state: 'dead' as const }]) {
        expect((await failure(store.cancelTasks(filter))).code).toBe('INVALID_ARGUMENT');
      }
      expect((await failure(store.cancelTasks({ queue: 'default', after: 'nobody' }))).code).toBe('NOT_FOUND');
      expect((await store.status()).queues[0]).toMatchObject({ ready: 1 });
    }),
  );

  test(
    'leaves the groups of what is dead, those that died last first',
    within(async (scene) => {
      const store = await scene.store();
      const ids = await deadOf(scene, store, ['user 1', 'user 2', 'other', 'user 3']);
      expect(await store.deadGroups({})).toMatchObject({
        ...{ scanned: 4, complete: true },
        groups: [
          { message: 'user #', count: 3, sampleId: ids[3] },
          { message: 'other', count: 1 },
        ],
      });
      expect(await store.retryTasks({ error: 'user', limit: 2 })).toMatchObject({ count: 2 });
      expect(await store.deadGroups({ queue: 'default' })).toMatchObject({
        ...{ scanned: 2, complete: true },
        groups: [{ count: 1 }, { count: 1 }],
      });
      expect(await store.deadGroups({ queue: 'nowhere' })).toEqual({ groups: [], scanned: 0, complete: true });
    }),
  );
});

/** Very many tasks of the default queue. */
async function straw(scene: Scene, count: number): Promise<void> {
  const store = await scene.store();
  await store.insert([tasks(scene.ids(1))]);
  await scene.sql`
    INSERT INTO tasks (id, enqueued_at, queue_no, kind_no, payload)
    SELECT 'straw ' || n, now(), 1, 1, '' FROM generate_series(1, ${count}) n`;
  await scene.sql`ANALYZE tasks`;
}

/** As a prepared statement with a plan for any parameters, the one that is the hardest to get right. */
async function planOf(scene: Scene, statement: string, parameters: readonly (string | null)[]): Promise<string> {
  const values = parameters.map((value) => (value === null ? 'NULL' : `'${value}'`)).join(', ');
  const rows = await scene.sql.begin(async (sql) => {
    await sql.unsafe("SET LOCAL plan_cache_mode = 'force_generic_plan'");
    await sql.unsafe(`PREPARE looked AS ${statement}`);
    const plan = await sql.unsafe(`EXPLAIN EXECUTE looked (${values})`);
    await sql.unsafe('DEALLOCATE looked');
    return plan;
  });
  return rows.map((row) => row['QUERY PLAN'] as string).join('\n');
}

/** Tasks that have died one after the other, with these messages. */
async function deadOf(scene: Scene, store: PostgresStore, messages: readonly string[]): Promise<string[]> {
  const ids = scene.ids(messages.length);
  await store.insert([tasks(ids)]);
  for (const [index, message] of messages.entries()) {
    const id = ids[index] as string;
    const atMs = Date.now();
    await store.begin('w1', [arrival(id)]);
    const run = { worker: 'somebody', startedAtMs: 5 };
    await store.end('w1', [
      { id, attempt: 1, kind: 'dead', error: { ...OOPS, message, stack: 'the stack' }, atMs, run },
    ]);
  }
  return ids;
}

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
