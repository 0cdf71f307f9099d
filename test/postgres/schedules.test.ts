import { describe, expect, test } from 'vitest';
import type { ScheduleSettings } from '../../src/broker/contract.ts';
import type { PostgresStore } from '../../src/broker/postgres/postgres-store.ts';
import { LIMITS } from '../../src/limits.ts';
import { type Scene, shared, spec, within } from './scene.ts';

const MINUTE = 60_000;

function every(everyMs: number, change: Partial<ScheduleSettings> = {}): ScheduleSettings {
  const timing = { cron: undefined, timeZone: undefined, everyMs };
  return { ...timing, misfire: undefined, spec: spec(), payload: '"tick"', ...change };
}

/** As if all of them had been made so much earlier. */
async function age(scene: Scene, ms: number): Promise<void> {
  await scene.sql`UPDATE schedules SET anchor_ms = anchor_ms - ${ms}, next_ms = next_ms - ${ms}`;
}

/** Until nothing is due any more; resolves with the ids that this process is to publish. */
async function fireAll(store: PostgresStore, newId: () => string): Promise<string[]> {
  const ids: string[] = [];
  for (;;) {
    const { due, pauseMs } = await store.schedules.fire(newId);
    ids.push(...due.tasks.map(({ id }) => id));
    // What another process is firing just now is its business.
    if (due.tasks.length === 0 || pauseMs > 0) return ids;
  }
}

describe.skipIf(shared === undefined)('schedules in the store', () => {
  test(
    'have one firing for each due time, however many processes fire',
    within(async (scene) => {
      const stores = await Promise.all(Array.from({ length: 5 }, () => scene.store()));
      const [first] = stores as [PostgresStore];
      const names = Array.from({ length: 150 }, (_, i) => `s${i}`);
      for (const name of names) await first.schedules.set(name, every(MINUTE));
      await age(scene, MINUTE + 1000);
      const newId = (): string => scene.ids(1)[0] as string;
      const fired = (await Promise.all(stores.map((store) => fireAll(store, newId)))).flat();
      fired.push(...(await fireAll(first, newId)));
      expect(fired).toHaveLength(150);
      expect(new Set(fired).size).toBe(150);
      const schedules = await first.schedules.list();
      expect(schedules.map(({ firedCount }) => firedCount)).toEqual(new Array(150).fill(1));
      expect(schedules.map(({ lastTaskId }) => lastTaskId).toSorted()).toEqual(fired.toSorted());
      const { tasks } = await first.listTasks({ limit: 1000 });
      expect(tasks).toHaveLength(150);
      const { queues } = await first.status();
      expect(queues[0]).toMatchObject({ ready: 150, totals: { enqueued: 150 } });
    }),
  );

  test(
    'are not fired before their time, and say how long that is',
    within(async (scene) => {
      const store = await scene.store();
      const fire = (): ReturnType<PostgresStore['schedules']['fire']> => store.schedules.fire(() => 'none');
      expect(await fire()).toEqual({ due: { entries: [], tasks: [] }, pauseMs: Number.POSITIVE_INFINITY });
      await store.schedules.set('s', every(MINUTE));
      const { due, pauseMs } = await fire();
      expect(due.tasks).toEqual([]);
      expect(pauseMs).toBeGreaterThan(0);
      expect(pauseMs).toBeLessThanOrEqual(MINUTE);
      await store.schedules.pause('s');
      await age(scene, 10 * MINUTE);
      expect((await fire()).due.tasks).toEqual([]);
    }),
  );

  test(
    'make up for missed times as their misfire says',
    within(async (scene) => {
      const store = await scene.store();
      for (const misfire of ['skip', 'once', 'all'] as const) {
        await store.schedules.set(misfire, every(MINUTE, { misfire, payload: JSON.stringify(misfire) }));
      }
      await age(scene, 250 * MINUTE + 30_000);
      const ids = await fireAll(store, () => scene.ids(1)[0] as string);
      const counts = (await store.schedules.list()).map(({ name, firedCount }) => [name, firedCount]);
      expect(counts).toEqual([
        ['all', 250],
        ['once', 1],
        ['skip', 0],
      ]);
      expect(ids).toHaveLength(251);
      for (const { nextAtMs = 0 } of await store.schedules.list()) {
        expect(nextAtMs - Date.now()).toBeGreaterThan(0);
        expect(nextAtMs - Date.now()).toBeLessThanOrEqual(MINUTE);
      }
    }),
  );

  test(
    'make up for no more missed times than one process would, when several take turns',
    within(async (scene) => {
      const stores = [await scene.store(), await scene.store()] as const;
      await stores[0].schedules.set('s', every(MINUTE, { misfire: 'all' }));
      await age(scene, 3 * LIMITS.scheduleMissedMax * MINUTE + 30_000);
      const newId = (): string => scene.ids(1)[0] as string;
      let fired = 0;
      for (let turn = 0; ; turn++) {
        const { due, pauseMs } = await (stores[turn % 2] as PostgresStore).schedules.fire(newId);
        fired += due.tasks.length;
        if (pauseMs > 0) break;
      }
      expect(fired).toBe(LIMITS.scheduleMissedMax + 1);
    }),
    40_000,
  );

  test(
    'fire also behind any number of those whose time zone this process does not know',
    within(async (scene) => {
      const store = await scene.store();
      const cron = { cron: '* * * * *', timeZone: 'UTC', everyMs: undefined };
      for (let i = 0; i < 120; i++) await store.schedules.set(`unknown ${i}`, every(MINUTE, cron));
      await scene.sql`UPDATE schedules SET time_zone = 'Mars/Olympus', next_ms = next_ms - 3600000`;
      await store.schedules.set('known', every(MINUTE));
      await scene.sql`UPDATE schedules SET next_ms = next_ms - ${MINUTE + 1000} WHERE name = 'known'`;
      const { due, pauseMs } = await store.schedules.fire(() => 'fired');
      expect(due.tasks).toMatchObject([{ id: 'fired' }]);
      expect(pauseMs).toBeGreaterThan(0);
      expect((await store.schedules.fire(() => 'none')).due.tasks).toEqual([]);
      await store.schedules.pause('unknown 1');
      const resumed = store.schedules.resume('unknown 1').catch((error: { code: string }) => error.code);
      expect(await resumed).toBe('INVALID_ARGUMENT');
    }),
  );

  test(
    'that are removed while a run is asked for are not found',
    within(async (scene) => {
      const store = await scene.store();
      await store.schedules.set('s', every(MINUTE));
      const asked = scene.sql.begin(async (sql) => {
        await sql`DELETE FROM schedules WHERE name = 's'`;
        // It has seen the schedule, and waits for its row.
        const running = store.schedules.runNow('s', 'r').catch((error: { code: string }) => error.code);
        await expect
          .poll(async () => await scene.sql`SELECT FROM pg_locks WHERE NOT granted AND locktype = 'transactionid'`)
          .not.toHaveLength(0);
        return { running };
      });
      expect(await (await asked).running).toBe('NOT_FOUND');
      expect((await store.listTasks({})).tasks).toEqual([]);
    }),
  );

  test(
    'leave what was fired and not published to a sweep',
    within(async (scene) => {
      const store = await scene.store();
      await store.schedules.set('s', every(MINUTE, { payload: Buffer.from([0xff, 0]) }));
      await age(scene, MINUTE + 1000);
      const { due } = await store.schedules.fire(() => 'fired');
      expect(due.tasks).toMatchObject([{ id: 'fired', attempt: 1, payload: Buffer.from([0xff, 0]) }]);
      const other = await scene.store();
      expect((await other.sweep(0)).tasks).toEqual(due.tasks);
      store.published(due);
    }),
  );

  test(
    'run once when a run is asked for again under the same id',
    within(async (scene) => {
      const store = await scene.store();
      await store.schedules.set('s', every(MINUTE));
      const { nextAtMs } = await store.schedules.get('s');
      for (let i = 0; i < 2; i++) expect((await store.schedules.runNow('s', 'r')).tasks).toMatchObject([{ id: 'r' }]);
      expect(await store.schedules.get('s')).toMatchObject({ firedCount: 1, lastTaskId: 'r', nextAtMs });
      expect((await store.listTasks({})).tasks).toHaveLength(1);
    }),
  );

  test(
    'that several processes set at the same time are one',
    within(async (scene) => {
      const stores = await Promise.all(Array.from({ length: 4 }, () => scene.store()));
      const set = (store: PostgresStore, everyMs: number): Promise<unknown> => store.schedules.set('s', every(everyMs));
      await Promise.all(stores.map((store) => set(store, MINUTE)));
      const before = await (stores[0] as PostgresStore).schedules.list();
      expect(before).toHaveLength(1);
      await Promise.all(stores.map((store) => set(store, MINUTE)));
      expect(await (stores[0] as PostgresStore).schedules.list()).toEqual(before);
      await Promise.all(stores.map((store, index) => set(store, MINUTE + index)));
      expect(await (stores[0] as PostgresStore).schedules.list()).toHaveLength(1);
    }),
  );
});
