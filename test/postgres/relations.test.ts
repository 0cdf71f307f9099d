import { isDeepStrictEqual } from 'node:util';
import { describe, expect, test } from 'vitest';
import type { Dependency, OnParentFailure, Uniqueness } from '../../src/broker/contract.ts';
import type { PostgresStore } from '../../src/broker/postgres/postgres-store.ts';
import { MIGRATIONS } from '../../src/broker/postgres/schema.ts';
import type { End, NewRelatedTask } from '../../src/broker/store.ts';
import { LIMITS } from '../../src/limits.ts';
import { failure, until } from '../conformance/events.ts';
import { arrival, fallSilent, HurriedClock, OOPS, type Scene, SURE_MS, shared, spec, tasks, within } from './scene.ts';

type Parents = readonly (string | number | Dependency)[];

/** What retention never comes to by itself within a test. */
const KEEP_NOTHING = { completedCountMax: 0, deadCountMax: 0 };

function related(id: string, dependsOn: Parents = [], change: Partial<NewRelatedTask> = {}): NewRelatedTask {
  return {
    id,
    spec: spec(),
    payload: JSON.stringify(id),
    enqueuedAtMs: Date.now(),
    runAtMs: undefined,
    dependsOn: dependsOn.map((on) => (typeof on === 'object' ? on : { on, onFailure: 'cancel' })),
    unique: undefined,
    ...change,
  };
}

function on(parent: string | number, onFailure: OnParentFailure): Dependency {
  return { on: parent, onFailure };
}

function unique(id: string, key: string, scope: Uniqueness['scope'] = 'unfinished'): NewRelatedTask {
  return related(id, [], { unique: { key, scope } });
}

function begin(store: PostgresStore, ids: readonly string[], worker = 'w1'): Promise<unknown> {
  return store.begin(
    worker,
    ids.map((id) => arrival(id)),
  );
}

async function complete(store: PostgresStore, ids: readonly string[], worker = 'w1'): Promise<void> {
  await begin(store, ids, worker);
  const ends = ids.map((id): End => ({ id, attempt: 1, kind: 'completed', result: JSON.stringify(id) }));
  expect((await store.end(worker, ends)).verdicts).toEqual(ids.map(() => 'taken'));
}

async function die(store: PostgresStore, id: string, worker = 'w1'): Promise<void> {
  await begin(store, [id], worker);
  await store.end(worker, [{ id, attempt: 1, kind: 'dead', error: OOPS, atMs: Date.now() }]);
}

async function states(store: PostgresStore, ids: readonly string[]): Promise<string[]> {
  return Promise.all(ids.map(async (id) => (await store.getTask(id)).state));
}

/** How often each task stands in the outbox. */
async function outbox(scene: Scene): Promise<Map<string, number>> {
  const rows = await scene.sql`SELECT unnest(ids) AS id, count(*)::integer AS count FROM outbox GROUP BY 1`;
  return new Map(rows.map(({ id, count }) => [id as string, count as number]));
}

/** The counts that are kept are those of the rows: what is forgotten between the two looks is looked at again. */
async function expectTrueCounts(scene: Scene, store: PostgresStore): Promise<void> {
  const count = async (): Promise<unknown[]> => [
    ...(await scene.sql`
      SELECT q.name, count(*) FILTER (WHERE t.state = 0)::integer AS ready, count(*) FILTER (WHERE t.state = 5)::integer AS blocked,
             count(*) FILTER (WHERE t.state = 1)::integer AS active, count(*) FILTER (WHERE t.state = 2)::integer AS completed,
             count(*) FILTER (WHERE t.state = 3)::integer AS dead, count(*) FILTER (WHERE t.state = 4)::integer AS cancelled
      FROM queues q LEFT JOIN tasks t ON t.queue_no = q.no GROUP BY q.no, q.name ORDER BY q.no`),
  ];
  let before = await count();
  for (;;) {
    const { queues } = await store.status();
    const after = await count();
    if (isDeepStrictEqual(before, after)) {
      expect(queues).toMatchObject(after);
      return;
    }
    before = after;
  }
}

describe.skipIf(shared === undefined)('dependencies', () => {
  test(
    'two processes that end the last two parents at the same time let their child go once',
    within(async (scene) => {
      const stores = [await scene.store(), await scene.store()] as const;
      const children: string[] = [];
      for (let round = 0; round < 40; round++) {
        const [a, b, child] = scene.ids(3) as [string, string, string];
        children.push(child);
        await stores[0].submit([related(a), related(b), related(child, [0, 1])]);
        await Promise.all([begin(stores[0], [a], 'w1'), begin(stores[1], [b], 'w2')]);
        await Promise.all([complete(stores[0], [a], 'w1'), complete(stores[1], [b], 'w2')]);
      }
      const entries = await outbox(scene);
      expect(children.map((child) => entries.get(child))).toEqual(children.map(() => 1));
      expect(new Set(await states(stores[0], children))).toEqual(new Set(['ready']));
      await expectTrueCounts(scene, stores[1]);
    }),
    60_000,
  );

  test(
    'a child that is submitted while its parent ends is never left blocked, nor let go twice',
    within(async (scene) => {
      const stores = [await scene.store(), await scene.store()] as const;
      for (let round = 0; round < 60; round++) {
        const [parent, child] = scene.ids(2) as [string, string];
        // A plain one: nobody knew that something would depend on it.
        await stores[0].insert([tasks([parent])]);
        await begin(stores[0], [parent]);
        await Promise.all([complete(stores[0], [parent]), stores[1].submit([related(child, [parent])])]);
        expect((await stores[0].getTask(child)).state).toBe('ready');
        expect((await outbox(scene)).get(child)).toBe(1);
      }
    }),
    60_000,
  );

  test(
    'a parent that is being forgotten is either depended on and kept, or unknown',
    within(async (scene) => {
      const stores = [await scene.store(), await scene.store()] as const;
      await stores[0].setRetention('default', KEEP_NOTHING);
      const seen = new Set<string>();
      for (let round = 0; round < 60; round++) {
        const [parent, child] = scene.ids(2) as [string, string];
        await stores[0].insert([tasks([parent])]);
        await begin(stores[0], [parent]);
        const later = related(child, [parent], { runAtMs: Date.now() + 3_600_000 });
        const [submitted] = await Promise.all([
          stores[1].submit([later]).catch((error: { code: string }) => error.code),
          complete(stores[0], [parent]),
        ]);
        seen.add(typeof submitted === 'string' ? submitted : 'kept');
        if (submitted === 'NOT_FOUND') continue;
        await stores[0].status();
        expect((await stores[0].parents(child, 0)).parents).toMatchObject([{ id: parent, state: 'completed' }]);
      }
      expect([...seen].every((each) => each === 'kept' || each === 'NOT_FOUND')).toBe(true);
    }),
    60_000,
  );

  test(
    'what was let go, and what began with nothing to wait for, is published by others when a process dies first',
    within(async (scene) => {
      const [gone, other] = [await scene.store(), await scene.store()];
      const [root, child] = scene.ids(2) as [string, string];
      await gone.submit([related(root), related(child, [0])]);
      expect((await other.sweep(0)).tasks.map(({ id }) => id)).toEqual([root]);
      // Nobody listens to this store: as if it had ended after the commit.
      await complete(gone, [root]);
      await gone.close(0);
      expect((await other.sweep(0)).tasks.map(({ id }) => id)).toEqual([child]);
    }),
  );

  test(
    'whoever lets tasks go is told under which names they are in the outbox, a portion each',
    within(async (scene) => {
      const store = await scene.store();
      const [root] = scene.ids(1) as [string];
      const children = scene.ids(LIMITS.storePortionTasks + 10);
      const told: string[] = [];
      await store.watch({
        cancelRequested: () => {},
        paused: () => {},
        released: ({ entries }) => told.push(...entries),
        watched: () => {},
      });
      await store.submit([related(root), ...children.map((child) => related(child, [0]))]);
      await complete(store, [root]);
      expect(told).toHaveLength(2);
      const first = await store.reread({ entries: ['nobody', ...told] });
      expect(first.entries).toEqual([told[0]]);
      const second = await store.reread({ entries: told.slice(1) });
      expect([...first.tasks, ...second.tasks].map(({ id }) => id)).toEqual(children);
      store.published({ entries: told });
    }),
  );

  test(
    'a submission that is made again because its answer was lost is made once',
    within(async (scene) => {
      const store = await scene.store();
      const [holder, root, child, doubled] = scene.ids(4) as [string, string, string, string];
      await store.submit([unique(holder, 'k')]);
      const submission = [related(root), related(child, [0]), unique(doubled, 'k')];
      const first = await store.submit(submission);
      const second = await store.submit(submission);
      expect(first.tasks).toEqual([
        { id: root, isNew: true },
        { id: child, isNew: true },
        { id: holder, isNew: false },
      ]);
      expect(second.tasks).toEqual(first.tasks);
      expect((await store.status()).queues[0]).toMatchObject({ ready: 2, blocked: 1, totals: { enqueued: 3 } });
    }),
  );

  test(
    'nothing of a submission is there when one of its parents is not',
    within(async (scene) => {
      const store = await scene.store();
      const [root, child, lost] = scene.ids(3) as [string, string, string];
      const error = await failure(store.submit([unique(root, 'k'), related(child, [0, lost])]));
      expect(error.code).toBe('NOT_FOUND');
      expect(error.message).toContain(lost);
      expect((await store.listTasks({})).tasks).toEqual([]);
      expect((await store.submit([unique(root, 'k')])).tasks).toEqual([{ id: root, isNew: true }]);
    }),
  );

  test(
    'a chain of 20,000 is cancelled with its first task, and what may run all the same runs',
    within(async (scene) => {
      const store = await scene.store();
      const ids = scene.ids(20_000);
      const [runs] = scene.ids(1) as [string];
      const chain = ids.map((id, index) => related(id, index === 0 ? [] : [index - 1]));
      await store.submit([...chain, related(runs, [on(ids.length - 1, 'run'), on(5, 'run')])]);
      expect(await store.cancelTask(ids[0] as string)).toBe('cancelled');
      expect((await store.status()).queues[0]).toMatchObject({ blocked: 0, cancelled: 20_000, ready: 1 });
      expect(await store.getTask(runs)).toMatchObject({
        state: 'ready',
        dependencies: { total: 2, open: 0, cancelled: 2 },
      });
      await expectTrueCounts(scene, store);
    }),
    60_000,
  );

  test(
    'a task whose worker was lost after its cancel ends what depends on it, when its message comes back and when it does not',
    within(async (scene) => {
      const store = await scene.store();
      const [back, never, a, b] = scene.ids(4) as [string, string, string, string];
      await store.submit([related(back), related(never), related(a, [0]), related(b, [1])]);
      await begin(store, [back, never]);
      for (const id of [back, never]) expect(await store.cancelTask(id)).toBe('requested');
      await store.begin('w2', [arrival(back, { redelivered: true })]);
      expect(await states(store, [back, a, b])).toEqual(['cancelled', 'cancelled', 'blocked']);
      await fallSilent(scene);
      const clock = new HurriedClock();
      const other = await scene.store({ clock });
      await other.sweep(0);
      clock.aheadMs += SURE_MS;
      await other.sweep(0);
      expect(await states(store, [never, b])).toEqual(['cancelled', 'cancelled']);
      await expectTrueCounts(scene, store);
    }),
  );

  test(
    'a purge counts what it takes once, with what depended on it in the same queue',
    within(async (scene) => {
      const store = await scene.store();
      const [head, ...rest] = scene.ids(6000) as [string, ...string[]];
      const [elsewhere] = scene.ids(1) as [string];
      const other = { spec: spec({ queue: 'other' }) };
      await store.submit([related(head), ...rest.map((id) => related(id, [0])), related(elsewhere, [0], other)]);
      expect(await store.purgeQueue('default')).toBe(6000);
      expect(await states(store, [head, rest[5998] as string, elsewhere])).toEqual([
        'cancelled',
        'cancelled',
        'cancelled',
      ]);
      await expectTrueCounts(scene, store);
    }),
    60_000,
  );

  test(
    'parents come in pages that stay small',
    within(async (scene) => {
      const store = await scene.store();
      const ids = scene.ids(6);
      const [child] = scene.ids(1) as [string];
      await store.submit([...ids.map((id) => related(id)), related(child, [0, 1, 2, 3, 4, 5])]);
      await begin(store, ids);
      const large = new Uint8Array(LIMITS.resultBytesMax);
      await store.end(
        'w1',
        ids.map((id) => ({ id, attempt: 1, kind: 'completed', result: large })),
      );
      const first = await store.parents(child, 0);
      expect(first.parents.map(({ id }) => id)).toEqual(ids.slice(0, 4));
      expect(first.next).toBe(4);
      const second = await store.parents(child, 4);
      expect(second.parents.map(({ id, result }) => [id, result?.encoding])).toEqual(
        ids.slice(4).map((id) => [id, 'utf8']),
      );
      expect(second.next).toBeUndefined();
      expect(await store.parents(child, 6)).toEqual({ parents: [] });
      expect(await store.parents(ids[0] as string, 0)).toEqual({ parents: [] });
      expect((await failure(store.parents('nobody', 0))).code).toBe('NOT_FOUND');
    }),
    60_000,
  );
});

describe.skipIf(shared === undefined)('unique keys', () => {
  test(
    'of many that ask for the same key at the same time, from two processes, one gets it, and all others that one',
    within(async (scene) => {
      const stores = [await scene.store(), await scene.store()] as const;
      for (let round = 0; round < 30; round++) {
        const ids = scene.ids(8);
        const answers = await Promise.all(
          // Twice the same: a key that nobody has had, and one whose task has ended.
          ids.map((id, index) => (stores[index % 2] as PostgresStore).submit([unique(id, `key ${round >> 1}`)])),
        );
        const given = answers.flatMap(({ tasks: each }) => each);
        expect(given.filter(({ isNew }) => isNew)).toHaveLength(1);
        expect(new Set(given.map(({ id }) => id)).size).toBe(1);
        await complete(stores[0], [(given[0] as { id: string }).id]);
      }
      expect((await stores[0].status()).queues[0]).toMatchObject({ completed: 30, totals: { enqueued: 30 } });
    }),
    60_000,
  );

  test(
    'submissions that ask for the same keys in opposite orders both end',
    within(async (scene) => {
      const stores = [await scene.store(), await scene.store()] as const;
      for (let round = 0; round < 20; round++) {
        const keys = Array.from({ length: 20 }, (_, index) => `${round}.${index}`);
        const one = scene.ids(20).map((id, index) => unique(id, keys[index] as string));
        const other = scene.ids(20).map((id, index) => unique(id, keys[19 - index] as string));
        const answers = await Promise.all([stores[0].submit(one), stores[1].submit(other)]);
        expect(answers.flatMap(({ tasks: each }) => each).filter(({ isNew }) => isNew)).toHaveLength(20);
      }
    }),
    60_000,
  );

  test(
    'a key is given back as its scope says',
    within(async (scene) => {
      const store = await scene.store();
      const hold = async (key: string, scope: Uniqueness['scope']): Promise<string[]> => {
        const ids = scene.ids(4) as [string, string, string, string];
        const got = async (id: string): Promise<string> =>
          (await store.submit([unique(id, key, scope)])).tasks[0]?.id as string;
        const holders = [await got(ids[0])];
        await begin(store, [ids[0]]);
        holders.push(await got(ids[1]));
        await store.end('w1', [{ id: ids[0], attempt: 1, kind: 'dead', error: OOPS, atMs: 1 }]);
        holders.push(await got(ids[2]));
        return holders.map((id) => String(ids.indexOf(id)));
      };
      expect(await hold('a', 'waiting')).toEqual(['0', '1', '1']);
      expect(await hold('b', 'unfinished')).toEqual(['0', '0', '2']);
      expect(await hold('c', { forMs: 3_600_000 })).toEqual(['0', '0', '0']);
    }),
  );

  test(
    'a task that is cancelled gives its key back, and one that is forgotten leaves nothing',
    within(async (scene) => {
      const store = await scene.store();
      await store.setRetention('default', KEEP_NOTHING);
      const [first, second] = scene.ids(2) as [string, string];
      await store.submit([unique(first, 'k')]);
      await store.cancelTask(first);
      await store.status();
      expect((await failure(store.getTask(first))).code).toBe('NOT_FOUND');
      expect(await scene.sql`SELECT FROM unique_keys`).toHaveLength(0);
      expect((await store.submit([unique(second, 'k')])).tasks).toEqual([{ id: second, isNew: true }]);
      // Its message may still come.
      expect(await store.begin('w1', [arrival(first)])).toEqual(['drop']);
    }),
  );
});

describe.skipIf(shared === undefined)('what is kept', () => {
  test(
    'parents outlive their retention until no child needs them, and then nothing of them is left',
    within(async (scene) => {
      const store = await scene.store();
      await store.setRetention('default', KEEP_NOTHING);
      const [a, dead, child, after] = scene.ids(4) as [string, string, string, string];
      await store.submit([
        related(a),
        related(dead, [], { spec: spec({ queue: 'other' }) }),
        related(child, [0, on(1, 'run')]),
        related(after, [2]),
      ]);
      await store.setRetention('other', KEEP_NOTHING);
      await complete(store, [a]);
      await die(store, dead);
      await store.status();
      expect((await store.parents(child, 0)).parents).toMatchObject([
        { id: a, state: 'completed', result: { data: JSON.stringify(a) } },
        { id: dead, state: 'dead', error: { message: 'oops' } },
      ]);
      await complete(store, [child]);
      await complete(store, [after]);
      await expectTrueCounts(scene, store);
      // Each round of upkeep, of whoever does it.
      const other = await scene.store({ upkeep: true });
      await until(
        () => other.status(),
        ({ queues }) => queues.every(({ completed, dead: died }) => completed + died === 0),
      );
      for (const table of ['tasks', 'edges', 'dependents', 'held']) {
        expect(await scene.sql`SELECT FROM ${scene.sql(table)}`).toHaveLength(0);
      }
    }),
    60_000,
  );

  test(
    'a dead parent that others wait for is redriven though it is beyond its retention',
    within(async (scene) => {
      const store = await scene.store();
      await store.setRetention('default', KEEP_NOTHING);
      const [parent, child] = scene.ids(2) as [string, string];
      await store.submit([related(parent), related(child, [on(0, 'wait')])]);
      await die(store, parent);
      await store.status();
      expect(await scene.sql`SELECT id FROM held`).toMatchObject([{ id: parent }]);
      expect((await store.redrive('default')).tasks).toMatchObject([{ id: parent, attempt: 1 }]);
      await complete(store, [parent]);
      expect(await store.getTask(child)).toMatchObject({ state: 'ready', dependencies: { open: 0, completed: 1 } });
    }),
  );

  test(
    'what others wait for is not counted among what a queue keeps',
    within(async (scene) => {
      const store = await scene.store();
      await store.setRetention('default', { completedCountMax: 10 });
      const parents = scene.ids(50);
      const [child] = scene.ids(1) as [string];
      await store.submit([...parents.map((id) => related(id)), related(child, [...parents.keys()])]);
      await complete(store, parents.slice(0, 40));
      const plain = scene.ids(20);
      await store.insert([tasks(plain)]);
      await complete(store, plain);
      await store.status();
      const left = (await store.listTasks({ state: 'completed' })).tasks.map(({ id }) => id);
      expect(left.filter((id) => plain.includes(id))).toEqual(plain.slice(10));
      expect(left.filter((id) => parents.includes(id))).toEqual(parents.slice(0, 40));
    }),
    60_000,
  );
});

describe.skipIf(shared === undefined)('many at once', () => {
  test(
    'whatever order submissions, ends, cancels and purges take, nothing is left blocked and the counts are right',
    within(async (scene) => {
      const stores = [await scene.store(), await scene.store()] as const;
      const random = seeded(20_261_128);
      const known: string[] = [];
      const graph = async (store: PostgresStore): Promise<void> => {
        const ids = scene.ids(12);
        const queue = (): Partial<NewRelatedTask> => ({ spec: spec({ queue: random() < 0.5 ? 'default' : 'other' }) });
        const modes: OnParentFailure[] = ['cancel', 'run', 'wait'];
        const chosen = ids.map((id, index) => {
          const parents = new Map<string | number, Dependency>();
          for (let n = random() * 3; n > 0 && index > 0; n--) {
            const earlier = known[Math.floor(random() * known.length)];
            const parent = random() < 0.3 && earlier !== undefined ? earlier : Math.floor(random() * index);
            parents.set(parent, on(parent, modes[Math.floor(random() * 3)] as OnParentFailure));
          }
          return related(id, [...parents.values()], queue());
        });
        await store.submit(chosen);
        known.push(...ids);
      };
      const step = async (store: PostgresStore, worker: string): Promise<void> => {
        const ready = (await store.listTasks({ state: 'ready', limit: 50 })).tasks.map(({ id }) => id);
        const mine = ready.filter(() => random() < 0.6);
        const verdicts = await store.begin(
          worker,
          mine.map((id) => arrival(id)),
        );
        const ends = mine
          .filter((_, index) => verdicts[index] === 'run')
          .map((id): End => {
            if (random() < 0.2) return { id, attempt: 1, kind: 'dead', error: OOPS, atMs: Date.now() };
            return { id, attempt: 1, kind: 'completed', result: undefined };
          });
        await store.end(worker, ends);
        const victim = known[Math.floor(random() * known.length)];
        if (victim !== undefined && random() < 0.3) await store.cancelTask(victim).catch(() => {});
        if (random() < 0.05) await store.purgeQueue(random() < 0.5 ? 'default' : 'other').catch(() => {});
      };
      await graph(stores[0]);
      await Promise.all(
        stores.flatMap((store, process) =>
          [0, 1].map(async (worker) => {
            for (let round = 0; round < 25; round++) {
              await graph(store);
              await step(store, `w${process}.${worker}`);
            }
          }),
        ),
      );
      await finish(stores[0]);
      await expectTrueCounts(scene, stores[1]);
      const wrong = await scene.sql`
        SELECT e.child FROM edges e JOIN tasks c ON c.id = e.child JOIN tasks p ON p.id = e.parent
        WHERE (c.state = 5 OR c.state IN (1, 2, 3)) AND p.state NOT IN (2, 3, 4)`;
      expect(wrong).toHaveLength(0);
      expect(
        await scene.sql`SELECT child, open FROM dependents d JOIN tasks t ON t.id = d.child WHERE t.state = 5 OR open < 0`,
      ).toEqual([]);
    }),
    120_000,
  );
});

describe.skipIf(shared === undefined)('tables of the version before', () => {
  test(
    'are brought up to date with the tasks that are in them',
    within(
      async (scene) => {
        const [{ version }] =
          (await scene.sql`SELECT current_setting('server_version_num')::integer AS version`) as unknown as [
            { version: number },
          ];
        await scene.sql`CREATE SCHEMA millrace`;
        await scene.sql`CREATE TABLE millrace.migrations (version integer PRIMARY KEY, name text NOT NULL, applied_at timestamptz DEFAULT now())`;
        for (const statement of MIGRATIONS[0]?.statements(version) ?? []) await scene.sql.unsafe(statement);
        await scene.sql`INSERT INTO millrace.migrations (version, name) VALUES (1, 'first')`;
        const [old] = scene.ids(1) as [string];
        await scene.sql`INSERT INTO queues (name) VALUES ('default')`;
        await scene.sql`INSERT INTO kinds (queue_no, name, priority, max_attempts, timeout_ms, backoff_type, backoff_delay_ms, backoff_max_delay_ms, backoff_jitter) VALUES (1, 'work', 4, 3, 60000, 'fixed', 0, 0, false)`;
        await scene.sql`INSERT INTO tasks (id, enqueued_at, queue_no, kind_no, payload) VALUES (${old}, now(), 1, 1, '1')`;
        const store = await scene.store();
        const [child] = scene.ids(1) as [string];
        await store.submit([related(child, [old], { headers: { tenant: 'a' } })]);
        await complete(store, [old]);
        expect(await states(store, [old, child])).toEqual(['completed', 'ready']);
        expect(await store.getTask(child)).toMatchObject({ headers: { tenant: 'a' } });
        expect(await store.getTask(old)).not.toHaveProperty('headers');
      },
      { empty: true },
    ),
  );

  test(
    'a process of before there were headers, which is still connected, submits on',
    within(async (scene) => {
      const store = await scene.store();
      const [first, theirs] = scene.ids(2) as [string, string];
      await store.insert([tasks([first])]);
      await scene.sql`SELECT submit(ARRAY[${theirs}], '{1}', '{1}', ${Date.now()}, '{NULL}', '{f}', '{NULL}', '{NULL}',
        ${Buffer.from('1')}, '{1}', '{1}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}')`;
      expect(await states(store, [first, theirs])).toEqual(['ready', 'ready']);
      expect(await store.getTask(theirs)).not.toHaveProperty('headers');
    }),
  );
});

/** Until no task waits: those that wait for a redrive get one, and it helps. */
async function finish(store: PostgresStore): Promise<void> {
  for (;;) {
    const { tasks: waiting } = await store.listTasks({ state: 'ready', limit: 1000 });
    const { tasks: running } = await store.listTasks({ state: 'active', limit: 1000 });
    const ids = [...waiting, ...running].map(({ id }) => id);
    if (ids.length === 0) {
      const portions = await Promise.all(['default', 'other'].map((queue) => store.redrive(queue)));
      if (portions.every((portion) => portion.tasks.length === 0)) return;
      continue;
    }
    await store.begin(
      'last',
      ids.map((id) => arrival(id, { redelivered: true })),
    );
    await store.end(
      'last',
      ids.map((id): End => ({ id, attempt: 1, kind: 'completed', result: undefined })),
    );
  }
}

/** Numbers from 0 to 1, the same each time. */
function seeded(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  };
}
