import { describe, expect, test } from 'vitest';
import { LIMITS } from '../../src/limits.ts';
import { failure } from '../conformance/events.ts';
import { arrival, shared, spec, tasks, within } from './scene.ts';

describe.skipIf(shared === undefined)('insert', () => {
  test(
    'tasks are there with all that was said of them, in the order in which they came',
    within(async (scene) => {
      const store = await scene.store();
      const ids = scene.ids(5);
      const backoff = { type: 'exponential', delayMs: 7, maxDelayMs: 2 ** 31, jitter: true } as const;
      const special = spec({ queue: 'größer "{}\\', name: "o'neill", priority: 9, maxAttempts: 1000, backoff });
      const runAtMs = Date.now() + 3_600_000;
      await store.insert([
        tasks(ids.slice(0, 2), { payloads: ['"ü\\u0000"', new Uint8Array([255, 0])], enqueuedAtMs: 1_700_000_000_001 }),
        tasks(ids.slice(2, 4), { spec: special, payloads: ['', '{}'], runAtMs }),
        tasks(ids.slice(4), { runAtMs: 8.64e15 }),
      ]);
      expect((await store.listTasks({})).tasks.map(({ id }) => id)).toEqual(ids);
      expect(await store.getTask(ids[0] as string)).toEqual({
        id: ids[0],
        ...{
          queue: 'default',
          name: 'work',
          state: 'ready',
          priority: 4,
          attempt: 0,
          maxAttempts: 3,
          timeoutMs: 60_000,
        },
        enqueuedAtMs: 1_700_000_000_001,
        payloadBytes: 10,
        payload: { encoding: 'utf8', data: '"ü\\u0000"' },
        failures: [],
      });
      expect((await store.getTask(ids[1] as string)).payload).toEqual({ encoding: 'base64', data: '/wA=' });
      expect(await store.getTask(ids[2] as string)).toMatchObject({
        ...{ queue: special.queue, name: special.name, priority: 9, maxAttempts: 1000, state: 'scheduled', runAtMs },
        payloadBytes: 0,
      });
      expect(await store.getTask(ids[4] as string)).toMatchObject({ state: 'scheduled', runAtMs: 8.64e15 });
      const republished = await store.sweep(0);
      expect(republished.tasks.map(({ id }) => id)).toEqual(ids);
      expect(republished.tasks[2]?.spec).toEqual(special);
    }),
  );

  test(
    'ids of any kind are kept apart',
    within(async (scene) => {
      const store = await scene.store();
      const ids = ['NULL', 'null', '"', '\\', '{a,b}', ' ', "'", 'a b', '日本語', '\\"', 'x'.repeat(128)];
      await store.insert([tasks(ids)]);
      const verdicts = await store.begin(
        'w "1"',
        ids.map((id) => arrival(id)),
      );
      expect(verdicts).toEqual(ids.map(() => 'run'));
      for (const id of ids) expect(await store.getTask(id)).toMatchObject({ id, state: 'active', worker: 'w "1"' });
    }),
  );

  test(
    'nothing of a call is there when one of its tasks is refused',
    within(async (scene) => {
      const store = await scene.store();
      const many = scene.ids(LIMITS.storeStatementTasksMax + 1);
      // A zero byte is what PostgreSQL takes in no text; the second one stands in the second statement of its call.
      for (const ids of [
        [...scene.ids(2), 'zero \u0000'],
        [...many, 'zero \u0000'],
      ]) {
        const error = await failure(store.insert([tasks(ids)]));
        expect(error.code).toBe('INVALID_ARGUMENT');
      }
      expect((await store.listTasks({})).tasks).toEqual([]);
      expect(await store.sweep(0)).toEqual({ entries: [], tasks: [] });
      expect((await store.status()).queues[0]).toMatchObject({ ready: 0, totals: { enqueued: 0 } });
    }),
  );

  test(
    'an id that is known is left alone, and counted once',
    within(async (scene) => {
      const store = await scene.store();
      const ids = scene.ids(3);
      await store.insert([tasks(ids.slice(0, 2))]);
      await store.begin('w1', [arrival(ids[0] as string)]);
      await store.insert([tasks(ids, { payloads: ['"other"', '"other"', '"third"'] })]);
      const infos = await Promise.all(ids.map((id) => store.getTask(id)));
      expect(infos.map(({ state, payload }) => [state, payload?.data])).toEqual([
        ['active', `"${ids[0]}"`],
        ['ready', `"${ids[1]}"`],
        ['ready', '"third"'],
      ]);
      expect((await store.status()).queues[0]).toMatchObject({ ready: 2, active: 1, totals: { enqueued: 3 } });
    }),
  );

  test(
    'very many tasks, and very large ones, are cut into portions that can be published',
    within(async (scene) => {
      const store = await scene.store();
      const small = scene.ids(LIMITS.storeStatementTasksMax + 100);
      const large = scene.ids(20);
      const megabyte = new Uint8Array(LIMITS.payloadBytesMax).fill(7);
      const { entries } = await store.insert([tasks(small), tasks(large, { payloads: large.map(() => megabyte) })]);
      const seen: string[] = [];
      for (;;) {
        const portion = await store.sweep(0);
        if (portion.tasks.length === 0) break;
        expect(portion.tasks.length).toBeLessThanOrEqual(LIMITS.storePortionTasks);
        const bytes = portion.tasks.reduce((sum, { payload }) => sum + payload.length, 0);
        expect(bytes).toBeLessThanOrEqual(LIMITS.storePortionBytes);
        for (const entry of portion.entries) expect(entries).toContain(entry);
        seen.push(...portion.tasks.map(({ id }) => id));
      }
      expect(seen).toEqual([...small, ...large]);
      expect((await store.getTask(large[19] as string)).payloadBytes).toBe(LIMITS.payloadBytesMax);
    }),
    60_000,
  );
});
