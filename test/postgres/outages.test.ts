import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { PostgresStore } from '../../src/broker/postgres/postgres-store.ts';
import type { Verdict } from '../../src/broker/store.ts';
import { MillraceError } from '../../src/errors.ts';
import { failure, until } from '../conformance/events.ts';

import { type Postgres, postgresPrograms, startPostgres } from '../support/services.ts';
import { arrival, HurriedClock, OOPS, openStore, proxyTo, type Scene, shared, spec, tasks, within } from './scene.ts';

/** Longer than a busy machine takes to connect to what is there. */
const CONNECT_TIMEOUT_MS = 30_000;

describe.skipIf(shared === undefined)('a connection that breaks before the answer comes', () => {
  test(
    'leaves each call with the answer that it would have had',
    within(async (scene) => {
      const proxy = await proxyTo(scene);
      const store = await scene.store({ url: proxy.url });
      let rehearsals = 0;
      await play(store, 'default', scene.ids(7), async (call, done) => {
        // Each statement has to be known to its connection: while the answers are held nothing new can be prepared.
        await play(store, `rehearsal ${rehearsals++}`, scene.ids(7), (rehearsed) => rehearsed());
        proxy.proxy.hold('down');
        const answer = call();
        await until(() => done(scene), Boolean);
        proxy.proxy.cut();
        proxy.proxy.pass();
        return answer;
      });
      expect(rehearsals).toBe(7);
      expect((await store.status()).queues[0]).toMatchObject({
        ...{ ready: 0, active: 0, completed: 1, cancelled: 5, dead: 1 },
        totals: { enqueued: 7, completed: 1, failed: 4, dead: 2, cancelled: 5 },
      });
      await store.close(1000);
      await proxy.proxy.stop();
    }),
    60_000,
  );

  test(
    'and what was given up does not count as a copy when it is brought again',
    within(async (scene) => {
      const proxy = await proxyTo(scene);
      const clock = new HurriedClock();
      const store = await scene.store({ url: proxy.url, clock, connectTimeoutMs: CONNECT_TIMEOUT_MS });
      const [warm, id] = scene.ids(2) as [string, string];
      await store.insert([tasks([warm, id])]);
      await store.begin('w1', [arrival(warm)]);
      proxy.proxy.hold('down');
      const call = failure(store.begin('w1', [arrival(id)]));
      await until(() => stateIs(scene, id, 1), Boolean);
      proxy.proxy.refuse();
      proxy.proxy.cut();
      clock.eachLookMs = CONNECT_TIMEOUT_MS / 3;
      expect((await call).code).toBe('DISCONNECTED');
      clock.eachLookMs = 0;
      proxy.proxy.pass();
      expect(await store.begin('w1', [arrival(warm), arrival(id)])).toEqual(['drop', 'run']);
      expect(await store.begin('w1', [arrival(id)])).toEqual(['drop']);
      await store.close(1000);
      await proxy.proxy.stop();
    }),
  );
});

describe.skipIf(shared === undefined)('a server that hangs', () => {
  test(
    'does not keep close from resolving in its time',
    within(async (scene) => {
      const proxy = await proxyTo(scene);
      const store = await scene.store({ url: proxy.url, upkeep: true });
      await store.watch({ cancelRequested: () => {}, paused: () => {}, released: () => {}, watched: () => {} });
      store.published(await store.insert([tasks(scene.ids(1))]));
      proxy.proxy.hold();
      const calls = [store.status(), store.insert([tasks(scene.ids(1))]), store.begin('w1', [arrival('x')])];
      const ends = calls.map((call) => failure(call));
      const startMs = performance.now();
      await store.close(300);
      expect(performance.now() - startMs).toBeLessThan(2000);
      for (const error of await Promise.all(ends)) expect(error.code).toBe('CLOSED');
      await proxy.proxy.stop();
    }),
  );
});

const programs = await postgresPrograms();

describe.skipIf(!programs)('a PostgreSQL that goes away', () => {
  let server: Postgres;

  beforeAll(async () => {
    server = await startPostgres();
  }, 120_000);

  afterAll(async () => {
    await server.stop();
  });

  test('is waited for within the connect timeout, then a call rejects with DISCONNECTED, and later ones work', async () => {
    const clock = new HurriedClock();
    const settings = { clock, connectTimeoutMs: CONNECT_TIMEOUT_MS, upkeep: true };
    const store = await openStore({ url: await server.database(), ...settings });
    try {
      await store.insert([tasks(['a'])]);
      await server.kill();
      clock.eachLookMs = CONNECT_TIMEOUT_MS / 3;
      const error = await failure(store.insert([tasks(['b'])]));
      clock.eachLookMs = 0;
      expect(error.code).toBe('DISCONNECTED');
      expect(error.message).toContain(`${CONNECT_TIMEOUT_MS} ms`);
      await server.start();
      await store.insert([tasks(['c'])]);
      expect((await store.listTasks({})).tasks.map(({ id }) => id)).toEqual(['a', 'c']);
    } finally {
      await store.close(1000);
    }
  }, 60_000);

  test('does not keep close from resolving in its time', async () => {
    const store = await openStore({ url: await server.database(), upkeep: true });
    await store.watch({ cancelRequested: () => {}, paused: () => {}, released: () => {}, watched: () => {} });
    await server.kill();
    store.progress('x', '1');
    const startMs = performance.now();
    await store.close(300);
    expect(performance.now() - startMs).toBeLessThan(2000);
    await server.start();
  }, 60_000);

  test('and comes back in the middle of the work, again and again, loses no task and ends none twice', async () => {
    const url = await server.database();
    const stores = await Promise.all([openStore({ url, upkeep: true }), openStore({ url, upkeep: true })]);
    try {
      const run = new Run(stores);
      const done = run.play(60, 100);
      for (let crash = 1; crash <= 3; crash++) {
        await until(
          async () => run.completed,
          (completed) => completed >= crash * 1500,
        );
        if (crash === 2) await server.halt();
        else await server.kill();
        await server.start();
      }
      await done;
      expect(run.completed).toBe(6000);
      expect(run.twice).toEqual([]);
      const { queues } = await (stores[0] as PostgresStore).status();
      expect(queues[0]).toMatchObject({ ready: 0, active: 0, scheduled: 0, completed: 6000, dead: 0 });
      expect(queues[0]?.totals).toMatchObject({ enqueued: 6000, completed: 6000, dead: 0, cancelled: 0 });
    } finally {
      await Promise.all(stores.map((store) => store.close(1000)));
    }
  }, 120_000);
});

/** Producers and workers over stores, with the messages in an array in place of a broker. */
class Run {
  readonly twice: string[] = [];
  readonly #stores: readonly PostgresStore[];
  readonly #messages: { id: string; attempt: number }[] = [];
  readonly #ended = new Set<string>();
  #produced = false;

  constructor(stores: readonly PostgresStore[]) {
    this.#stores = stores;
  }

  get completed(): number {
    return this.#ended.size;
  }

  async play(batches: number, size: number): Promise<void> {
    const workers = this.#stores.flatMap((store, index) => [
      this.#work(store, `${index}a`),
      this.#work(store, `${index}b`),
    ]);
    for (let batch = 0; batch < batches; batch++) {
      const ids = Array.from({ length: size }, (_, index) => `${String(batch).padStart(4, '0')}-${index}`);
      const store = this.#stores[batch % this.#stores.length] as PostgresStore;
      const entries = await persist(() => store.insert([tasks(ids)]));
      this.#messages.push(...ids.map((id) => ({ id, attempt: 1 })));
      store.published(entries);
    }
    this.#produced = true;
    await Promise.all(workers);
  }

  async #work(store: PostgresStore, worker: string): Promise<void> {
    for (;;) {
      const messages = this.#messages.splice(0, 50);
      if (messages.length === 0) {
        if (this.#produced && this.#ended.size === 6000) return;
        await new Promise((resolve) => setImmediate(resolve));
        continue;
      }
      const verdicts = await persist(() =>
        store.begin(
          worker,
          messages.map(({ id, attempt }) => arrival(id, { attempt })),
        ),
      );
      const mine = messages.filter((_, index) => (verdicts as Verdict[])[index] === 'run');
      const ends = mine.map(({ id, attempt }, index) =>
        index % 7 === 0 && attempt === 1
          ? ({ id, attempt, kind: 'failed', error: OOPS, atMs: Date.now(), retryAtMs: 0 } as const)
          : ({ id, attempt, kind: 'completed', result: '"done"' } as const),
      );
      const report = await persist(() => store.end(worker, ends));
      ends.forEach((end, index) => {
        expect(report.verdicts[index]).toBe('taken');
        if (end.kind === 'failed') this.#messages.push({ id: end.id, attempt: 2 });
        else if (this.#ended.has(end.id)) this.twice.push(end.id);
        else this.#ended.add(end.id);
      });
      store.published(report.unpublished);
    }
  }
}

/** As a broker does: what was given up is done again. */
async function persist<T>(call: () => Promise<T>): Promise<T> {
  for (;;) {
    try {
      return await call();
    } catch (error) {
      if (!(error instanceof MillraceError) || error.code !== 'DISCONNECTED') throw error;
    }
  }
}

type Step = <T>(call: () => Promise<T>, done: (scene: Scene) => Promise<boolean>) => Promise<T>;

/** One call after the other, each with the answer it must have, whatever `step` does to it. */
async function play(store: PostgresStore, queue: string, ids: readonly string[], step: Step): Promise<void> {
  const [a, b, c, d, e, f, g] = ids as [string, string, string, string, string, string, string];
  // The queue is known then.
  await store.insert([tasks([], { spec: spec({ queue }) })]);
  const { entries } = await step(
    () => store.insert([tasks(ids, { spec: spec({ queue }) })]),
    (scene) => exists(scene, a),
  );
  expect(entries).toHaveLength(1);
  const four = [a, b, c, d].map((id) => arrival(id));
  expect(
    await step(
      () => store.begin('w1', four),
      (scene) => stateIs(scene, d, 1),
    ),
  ).toEqual(['run', 'run', 'run', 'run']);
  expect(
    await step(
      () => store.cancelTask(d),
      async (scene) => (await scene.sql`SELECT id FROM cancels WHERE id = ${d}`).length > 0,
    ),
  ).toBe('requested');
  expect(
    await step(
      () => store.end('w1', [{ id: a, attempt: 1, kind: 'completed', result: '1' }]),
      (scene) => stateIs(scene, a, 2),
    ),
  ).toEqual({ verdicts: ['taken'], unpublished: { entries: [] } });
  const report = await step(
    () =>
      store.end('w1', [
        { id: b, attempt: 1, kind: 'failed', error: OOPS, atMs: 1, retryAtMs: 0 },
        { id: c, attempt: 1, kind: 'dead', error: OOPS, atMs: 1 },
        { id: d, attempt: 1, kind: 'failed', error: OOPS, atMs: 1, retryAtMs: 0 },
      ]),
    (scene) => stateIs(scene, c, 3),
  );
  expect(report.verdicts).toEqual(['taken', 'taken', 'cancelled']);
  expect(report.unpublished.entries).toHaveLength(1);
  expect(
    await step(
      () => store.cancelTask(e),
      (scene) => stateIs(scene, e, 4),
    ),
  ).toBe('cancelled');
  const retried = await step(
    () => store.retryTask(c),
    (scene) => stateIs(scene, c, 0),
  );
  expect(retried.tasks.map(({ id }) => id)).toEqual([c]);
  expect(await store.begin('w1', [arrival(c)])).toEqual(['run']);
  await store.end('w1', [{ id: c, attempt: 1, kind: 'dead', error: OOPS, atMs: 1 }]);
  expect(await store.purgeQueue(queue)).toBe(3);
  expect(await store.outcomes([b, f, g])).toEqual(new Array(3).fill({ state: 'cancelled' }));
}

async function exists(scene: Scene, id: string): Promise<boolean> {
  return (await scene.sql`SELECT id FROM tasks WHERE id = ${id}`).length > 0;
}

async function stateIs(scene: Scene, id: string, state: number): Promise<boolean> {
  return (await scene.sql`SELECT id FROM tasks WHERE id = ${id} AND state = ${state}`).length > 0;
}
