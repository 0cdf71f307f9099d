import { describe, expect, test } from 'vitest';
import { LIMITS } from '../../src/limits.ts';
import { arrival, OOPS, shared, spec, tasks, within } from './scene.ts';

describe.skipIf(shared === undefined)('begin', () => {
  test(
    'what waits runs, and is active with its worker',
    within(async (scene) => {
      const store = await scene.store();
      const ids = scene.ids(3);
      await store.insert([tasks(ids)]);
      expect(
        await store.begin(
          'w1',
          ids.map((id) => arrival(id)),
        ),
      ).toEqual(['run', 'run', 'run']);
      for (const id of ids)
        expect(await store.getTask(id)).toMatchObject({ state: 'active', attempt: 1, worker: 'w1' });
    }),
  );

  test(
    'a copy of a message whose attempt runs is dropped, and a redelivered message runs',
    within(async (scene) => {
      const store = await scene.store();
      const [id] = scene.ids(1);
      await store.insert([tasks([id])]);
      await store.begin('w1', [arrival(id)]);
      expect(await store.begin('w2', [arrival(id)])).toEqual(['drop']);
      expect(await store.begin('w1', [arrival(id)])).toEqual(['drop']);
      expect(await store.getTask(id)).toMatchObject({ worker: 'w1' });
      expect(await store.begin('w2', [arrival(id, { redelivered: true })])).toEqual(['run']);
      expect(await store.getTask(id)).toMatchObject({ worker: 'w2', attempt: 1 });
      expect((await store.status()).queues[0]).toMatchObject({ active: 1, ready: 0 });
    }),
  );

  test(
    'of two copies that come together one runs',
    within(async (scene) => {
      const store = await scene.store();
      const [id, other] = scene.ids(2);
      await store.insert([tasks([id, other])]);
      const verdicts = await store.begin('w1', [arrival(id), arrival(other), arrival(id)]);
      expect(verdicts[1]).toBe('run');
      expect([verdicts[0], verdicts[2]].sort()).toEqual(['drop', 'run']);
    }),
  );

  test(
    'an older attempt is dropped, a later one is taken',
    within(async (scene) => {
      const store = await scene.store();
      const [id] = scene.ids(1);
      await store.insert([tasks([id])]);
      expect(await store.begin('w1', [arrival(id, { attempt: 2 })])).toEqual(['run']);
      expect(await store.begin('w2', [arrival(id, { attempt: 1, redelivered: true })])).toEqual(['drop']);
      expect(await store.begin('w2', [arrival(id, { attempt: 3, redelivered: true })])).toEqual(['run']);
      expect(await store.getTask(id)).toMatchObject({ state: 'active', attempt: 3, worker: 'w2' });
    }),
  );

  test(
    'the message of an attempt from before a retry does not run beside the fresh one',
    within(async (scene) => {
      const store = await scene.store();
      const [id] = scene.ids(1) as [string];
      await store.insert([tasks([id])]);
      await store.begin('w1', [arrival(id)]);
      const later = Date.now() + 60_000;
      await store.end('w1', [{ id, attempt: 1, kind: 'failed', error: OOPS, atMs: 1, retryAtMs: later }]);
      expect((await store.retryTask(id)).tasks).toMatchObject([{ id, attempt: 2 }]);
      await store.begin('w1', [arrival(id, { attempt: 2 })]);
      await store.end('w1', [{ id, attempt: 2, kind: 'dead', error: OOPS, atMs: 1 }]);
      expect((await store.retryTask(id)).tasks).toMatchObject([{ id, attempt: 1 }]);
      expect(await store.begin('w1', [arrival(id)])).toEqual(['run']);
      expect(await store.begin('w2', [arrival(id, { attempt: 2 })])).toEqual(['drop']);
      expect(await store.getTask(id)).toMatchObject({ state: 'active', attempt: 1, worker: 'w1' });
    }),
  );

  test(
    'what has ended is dropped, whatever its message says',
    within(async (scene) => {
      const store = await scene.store();
      const ids = scene.ids(3);
      const [completed, dead, cancelled] = ids as [string, string, string];
      await store.insert([tasks(ids)]);
      await store.cancelTask(cancelled);
      await store.begin('w1', [arrival(completed), arrival(dead)]);
      await store.end('w1', [
        { id: completed, attempt: 1, kind: 'completed', result: undefined },
        { id: dead, attempt: 1, kind: 'dead', error: OOPS, atMs: 1 },
      ]);
      const again = ids.flatMap((id) => [arrival(id, { redelivered: true }), arrival(id, { attempt: 9 })]);
      expect(await store.begin('w2', again)).toEqual(new Array(6).fill('drop'));
    }),
  );

  test(
    'a task without a row is made, as it came',
    within(async (scene) => {
      const store = await scene.store();
      const foreign = arrival('from "Python" {1}\\', {
        attempt: 2,
        spec: spec({ queue: 'other', name: 'theirs', priority: 7 }),
        payload: Buffer.from([0, 255, 1]),
        headers: { tenant: 'ü"\\' },
        enqueuedAtMs: 1_700_000_000_123,
      });
      const known = scene.ids(1)[0] as string;
      await store.insert([tasks([known])]);
      expect(await store.begin('w1', [foreign, arrival(known)])).toEqual(['run', 'run']);
      expect(await store.getTask(foreign.id)).toMatchObject({
        id: foreign.id,
        ...{ queue: 'other', name: 'theirs', priority: 7, state: 'active', attempt: 2 },
        enqueuedAtMs: 1_700_000_000_123,
        payload: { encoding: 'base64', data: 'AP8B' },
        headers: { tenant: 'ü"\\' },
      });
      expect(await store.begin('w2', [foreign])).toEqual(['drop']);
      expect((await store.status()).queues.find(({ name }) => name === 'other')).toMatchObject({
        active: 1,
        totals: { enqueued: 1 },
      });
    }),
  );

  test(
    'of many workers that begin the same tasks at once exactly one gets each',
    within(async (scene) => {
      const stores = await Promise.all([scene.store(), scene.store(), scene.store()]);
      const ids = scene.ids(400);
      const [known, foreign] = [ids.slice(0, 200), ids.slice(200)];
      await stores[0]?.insert([tasks(known)]);
      const all = [...known, ...foreign].map((id) => arrival(id));
      const verdicts = await Promise.all(
        stores.map((store, index) => store.begin(`w${index}`, index === 1 ? all.toReversed() : all)),
      );
      verdicts[1]?.reverse();
      const runs = ids.map((_, index) => verdicts.filter((each) => each[index] === 'run').length);
      expect(runs).toEqual(new Array(400).fill(1));
    }),
  );

  test(
    'a task that was to be cancelled and whose worker was lost ends',
    within(async (scene) => {
      const store = await scene.store();
      const [id] = scene.ids(1);
      await store.insert([tasks([id])]);
      await store.begin('w1', [arrival(id)]);
      expect(await store.cancelTask(id)).toBe('requested');
      expect(await store.begin('w2', [arrival(id, { redelivered: true })])).toEqual(['drop']);
      expect(await store.outcomes([id])).toEqual([{ state: 'cancelled' }]);
      expect((await store.status()).queues[0]).toMatchObject({ active: 0, cancelled: 1, totals: { cancelled: 1 } });
    }),
  );
});

describe.skipIf(shared === undefined)('end', () => {
  test(
    'completed tasks keep their results, and the difference between none and an empty one',
    within(async (scene) => {
      const store = await scene.store();
      const ids = scene.ids(4);
      const [text, bytes, none, empty] = ids as [string, string, string, string];
      await store.insert([tasks(ids)]);
      await store.begin(
        'w1',
        ids.map((id) => arrival(id)),
      );
      const { verdicts, unpublished } = await store.end('w1', [
        { id: text, attempt: 1, kind: 'completed', result: '"größer 🦄"' },
        { id: bytes, attempt: 1, kind: 'completed', result: new Uint8Array([0, 128, 255]) },
        { id: none, attempt: 1, kind: 'completed', result: undefined },
        { id: empty, attempt: 1, kind: 'completed', result: '' },
      ]);
      expect(verdicts).toEqual(new Array(4).fill('taken'));
      expect(unpublished.entries).toEqual([]);
      expect(await store.outcomes(ids)).toEqual([
        { state: 'completed', result: Buffer.from('"größer 🦄"') },
        { state: 'completed', result: Buffer.from([0, 128, 255]) },
        { state: 'completed', result: undefined },
        { state: 'completed', result: Buffer.alloc(0) },
      ]);
      expect((await store.getTask(text)).result).toEqual({ encoding: 'utf8', data: '"größer 🦄"' });
      expect(await store.getTask(none)).not.toHaveProperty('result');
    }),
  );

  test(
    'another worker, and another attempt, is told that the lease is lost, and changes nothing',
    within(async (scene) => {
      const store = await scene.store();
      const [id] = scene.ids(1);
      await store.insert([tasks([id])]);
      await store.begin('w1', [arrival(id)]);
      await store.begin('w2', [arrival(id, { attempt: 2, redelivered: true })]);
      for (const [worker, attempt] of [
        ['w1', 1],
        ['w1', 2],
        ['w2', 1],
        ['w2', 3],
      ] as const) {
        const report = await store.end(worker, [
          { id, attempt, kind: 'completed', result: '1' },
          { id, attempt, kind: 'failed', error: OOPS, atMs: 1, retryAtMs: 0 },
          { id: 'nobody', attempt, kind: 'released' },
        ]);
        expect(report).toEqual({ verdicts: new Array(3).fill('lease-lost'), unpublished: { entries: [] } });
      }
      expect(await store.getTask(id)).toMatchObject({ state: 'active', attempt: 2, worker: 'w2', failures: [] });
      expect((await store.end('w2', [{ id, attempt: 2, kind: 'completed', result: '1' }])).verdicts).toEqual(['taken']);
    }),
  );

  test(
    'a failed task waits for its next attempt, in the outbox, with its error',
    within(async (scene) => {
      const store = await scene.store();
      const [soon, later] = scene.ids(2) as [string, string];
      await store.insert([tasks([soon, later])]);
      await store.begin('w1', [arrival(soon), arrival(later)]);
      const atMs = Date.now();
      const { verdicts, unpublished } = await store.end('w1', [
        { id: soon, attempt: 1, kind: 'failed', error: OOPS, atMs, retryAtMs: 0 },
        { id: later, attempt: 1, kind: 'failed', error: OOPS, atMs, retryAtMs: atMs + 3_600_000 },
      ]);
      expect(verdicts).toEqual(['taken', 'taken']);
      expect(unpublished.entries).toHaveLength(1);
      expect(await store.getTask(soon)).toMatchObject({
        state: 'ready',
        attempt: 1,
        failures: [{ attempt: 1, error: OOPS }],
      });
      const info = await store.getTask(later);
      expect(info).toMatchObject({ state: 'scheduled', attempt: 1 });
      expect((info.runAtMs as number) - (info.failures[0]?.atMs as number)).toBe(3_600_000);
      const { entries, tasks: republished } = await store.sweep(0);
      expect(entries).toContain(unpublished.entries[0]);
      expect(republished.find(({ id }) => id === later)).toMatchObject({ attempt: 2, runAtMs: atMs + 3_600_000 });
      expect(await store.begin('w2', [arrival(soon, { attempt: 1, redelivered: true })])).toEqual(['drop']);
      expect(await store.begin('w2', [arrival(soon, { attempt: 2 })])).toEqual(['run']);
    }),
  );

  test(
    'a dead task is over, and its last error is its outcome',
    within(async (scene) => {
      const store = await scene.store();
      const [id] = scene.ids(1) as [string];
      await store.insert([tasks([id])]);
      await store.begin('w1', [arrival(id)]);
      // What JSON may hold and PostgreSQL's own JSON may not.
      const error = { name: 'Odd', message: 'zero \u0000 and half \ud800', code: 'HANDLER_FAILED', stack: 'here' };
      await store.end('w1', [{ id, attempt: 1, kind: 'dead', error, atMs: 1_700_000_000_000 }]);
      expect(await store.outcomes([id])).toEqual([{ state: 'dead', error }]);
      expect(await store.getTask(id)).toMatchObject({
        state: 'dead',
        attempt: 1,
        failures: [{ attempt: 1, atMs: 1_700_000_000_000, error }],
      });
    }),
  );

  test(
    'a released task is ready again, uncharged',
    within(async (scene) => {
      const store = await scene.store();
      const [id] = scene.ids(1) as [string];
      await store.insert([tasks([id])]);
      await store.begin('w1', [arrival(id)]);
      const report = await store.end('w1', [{ id, attempt: 1, kind: 'released' }]);
      expect(report).toEqual({ verdicts: ['taken'], unpublished: { entries: [] } });
      expect(await store.getTask(id)).toMatchObject({ state: 'ready', attempt: 0, failures: [] });
      expect(await store.begin('w2', [arrival(id, { redelivered: true })])).toEqual(['run']);
    }),
  );

  test(
    'a requested cancel ends whatever does not complete, and what completes is completed',
    within(async (scene) => {
      const store = await scene.store();
      const ids = scene.ids(4);
      const [completed, failed, dead, released] = ids as [string, string, string, string];
      await store.insert([tasks(ids)]);
      await store.begin(
        'w1',
        ids.map((id) => arrival(id)),
      );
      for (const id of ids) expect(await store.cancelTask(id)).toBe('requested');
      expect(await store.getTask(failed)).toMatchObject({ state: 'active', cancelRequested: true });
      const report = await store.end('w1', [
        { id: completed, attempt: 1, kind: 'completed', result: '1' },
        { id: failed, attempt: 1, kind: 'failed', error: OOPS, atMs: 1, retryAtMs: 0 },
        { id: dead, attempt: 1, kind: 'dead', error: OOPS, atMs: 1 },
        { id: released, attempt: 1, kind: 'released' },
      ]);
      expect(report).toEqual({
        verdicts: ['taken', 'cancelled', 'cancelled', 'cancelled'],
        unpublished: { entries: [] },
      });
      expect((await store.outcomes(ids)).map((outcome) => (outcome as { state: string }).state)).toEqual([
        'completed',
        'cancelled',
        'cancelled',
        'cancelled',
      ]);
      const attempts = await Promise.all(ids.map(async (id) => (await store.getTask(id)).attempt));
      expect(attempts).toEqual([1, 1, 1, 0]);
      expect((await store.status()).queues[0]).toMatchObject({
        ...{ ready: 0, active: 0, completed: 1, dead: 0, cancelled: 3 },
        totals: { enqueued: 4, completed: 1, failed: 2, dead: 0, cancelled: 3 },
      });
    }),
  );

  test(
    'the last errors of many attempts are kept',
    within(async (scene) => {
      const store = await scene.store();
      const [id] = scene.ids(1) as [string];
      const count = LIMITS.attemptsKeptMax + 3;
      await store.insert([tasks([id], { spec: spec({ maxAttempts: count }) })]);
      for (let attempt = 1; attempt <= count; attempt++) {
        await store.begin('w1', [arrival(id, { attempt })]);
        await store.end('w1', [{ id, attempt, kind: 'failed', error: OOPS, atMs: attempt, retryAtMs: 0 }]);
      }
      const { failures } = await store.getTask(id);
      expect(failures.map((failed) => failed.attempt)).toEqual(
        Array.from({ length: LIMITS.attemptsKeptMax }, (_, index) => index + 4),
      );
      const page = await store.listTasks({});
      expect(page.tasks[0]?.failures.map((failed) => failed.attempt)).toEqual([count]);
    }),
  );

  test(
    'a crash of the database that took `begin` back does not take the outcome with it',
    within(async (scene) => {
      const store = await scene.store();
      const [id] = scene.ids(1) as [string];
      await store.insert([tasks([id])]);
      await store.begin('w1', [arrival(id)]);
      // As it is after a crash that lost the last moments.
      await scene.sql`UPDATE tasks SET state = 0, lease = NULL, prior = 0`;
      await scene.sql`INSERT INTO deltas (queue_no, waiting, active) SELECT queue_no, 1, -1 FROM tasks`;
      expect((await store.end('w1', [{ id, attempt: 1, kind: 'completed', result: '1' }])).verdicts).toEqual(['taken']);
      expect((await store.status()).queues[0]).toMatchObject({ ready: 0, active: 0, completed: 1 });
    }),
  );

  test(
    'progress is shown while its attempt runs',
    within(async (scene) => {
      const store = await scene.store();
      const [id] = scene.ids(1) as [string];
      await store.insert([tasks([id])]);
      await store.begin('w1', [arrival(id)]);
      store.progress(id, '{"value":1}');
      store.progress(id, '{"value":2}');
      await expect.poll(async () => (await store.getTask(id)).progress).toEqual({ value: 2 });
      await store.end('w1', [{ id, attempt: 1, kind: 'completed', result: undefined }]);
      expect(await store.getTask(id)).not.toHaveProperty('progress');
    }),
  );
});
