import { describe, expect, test } from 'vitest';
import type { EventFilter, TaskEvent, Watcher } from '../../src/broker/contract.ts';
import type { PostgresStore } from '../../src/broker/postgres/postgres-store.ts';
import type { StoreWatcher } from '../../src/broker/store.ts';
import type { MillraceError } from '../../src/errors.ts';
import { SystemClock, type Timer } from '../../src/io/clock.ts';
import { Arrivals, failure, until } from '../conformance/events.ts';
import {
  arrival,
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

class Eyes implements Watcher {
  readonly seen = new Arrivals<TaskEvent>();
  end: () => void = () => {};

  static async open(store: PostgresStore, filter: EventFilter = {}): Promise<Eyes> {
    const eyes = new Eyes();
    eyes.end = await store.events(filter, eyes);
    return eyes;
  }

  event(event: TaskEvent): void {
    this.seen.add(event);
  }

  ended(error: MillraceError): void {
    throw error;
  }

  /** `type id` of everything up to the first event of this task of this type. */
  async upTo(type: string, id: string): Promise<string[]> {
    for (let count = 1; ; count++) {
      const all = await this.seen.count(count);
      const event = all[count - 1] as TaskEvent;
      if (event.type === type && event.type !== 'dropped' && event.id === id) return all.slice(0, count).map(brief);
    }
  }
}

function brief(event: TaskEvent): string {
  if (event.type === 'dropped') return `dropped ${event.count}`;
  return [event.type, event.id, ...('attempt' in event ? [event.attempt] : [])].join(' ');
}

/** Timers that wait for long go off when a test says so. */
class PatientClock extends SystemClock {
  readonly waiting = new Set<() => void>();

  override setTimer(ms: number, callback: () => void): Timer {
    if (ms < 12_000) return super.setTimer(ms, callback);
    const timer: Timer = { cancel: () => this.waiting.delete(callback), unref: () => timer };
    this.waiting.add(callback);
    return timer;
  }
}

async function watchedTriggers(scene: Scene): Promise<string[]> {
  const rows = await scene.sql`
    SELECT tgname FROM pg_trigger WHERE tgrelid = 'tasks'::regclass AND tgenabled <> 'D' ORDER BY tgname`;
  return rows.map(({ tgname }) => tgname as string);
}

async function work(store: PostgresStore, id: string): Promise<void> {
  await store.begin('w1', [arrival(id)]);
  await store.end('w1', [{ id, attempt: 1, kind: 'completed', result: undefined }]);
}

describe.skipIf(shared === undefined)('event streams of a store', () => {
  test(
    'what any process does is told, in the order in which it was done',
    within(async (scene) => {
      const [one, other] = [await scene.store(), await scene.store()];
      const [a, b, c] = scene.ids(3) as [string, string, string];
      const eyes = await Eyes.open(one);
      await other.insert([tasks([a, b])]);
      await one.insert([tasks([c])]);
      await work(other, b);
      await work(one, a);
      await other.cancelTask(c);
      expect(await eyes.upTo('cancelled', c)).toEqual([
        ...[`enqueued ${a}`, `enqueued ${b}`, `enqueued ${c}`],
        ...[`started ${b} 1`, `completed ${b} 1`, `started ${a} 1`, `completed ${a} 1`],
        `cancelled ${c}`,
      ]);
    }),
  );

  test(
    'a start is told once: when it is said, before progress, or before the end',
    within(async (scene) => {
      const store = await scene.store();
      const [said, early, late, given] = scene.ids(4) as [string, string, string, string];
      const eyes = await Eyes.open(store);
      await store.insert([tasks([said, early, late, given])]);
      await store.begin(
        'w1',
        [said, early, late, given].map((id) => arrival(id)),
      );
      store.started(said, 1);
      await eyes.upTo('started', said);
      store.progress(early, '{"value":0.5}');
      store.started(early, 1);
      await eyes.upTo('progress', early);
      // It is said of an attempt that is over, and tells nothing.
      await store.end('w1', [{ id: late, attempt: 1, kind: 'completed', result: undefined }]);
      store.started(late, 1);
      await store.end('w1', [
        { id: said, attempt: 1, kind: 'released' },
        { id: given, attempt: 1, kind: 'released' },
      ]);
      await store.end('w1', [{ id: early, attempt: 1, kind: 'completed', result: undefined }]);
      await store.begin('w1', [arrival(said)]);
      store.started(said, 1);
      await store.end('w1', [{ id: said, attempt: 1, kind: 'dead', error: OOPS, atMs: Date.now() }]);
      const seen = (await eyes.upTo('dead', said)).filter((text) => !text.startsWith('enqueued'));
      expect(seen).toEqual([
        ...[`started ${said} 1`, `started ${early} 1`, `progress ${early} 1`],
        ...[`started ${late} 1`, `completed ${late} 1`, `released ${said} 1`, `completed ${early} 1`],
        ...[`started ${said} 1`, `failed ${said} 1`, `dead ${said} 1`],
      ]);
    }),
  );

  test(
    'progress that was told before an end is heard before it',
    within(async (scene) => {
      const store = await scene.store();
      const eyes = await Eyes.open(store);
      const [id] = scene.ids(1) as [string];
      await store.insert([tasks([id])]);
      await store.begin('w1', [arrival(id)]);
      store.progress(id, '{"value":1}');
      await store.end('w1', [{ id, attempt: 1, kind: 'completed', result: undefined }]);
      const seen = await eyes.upTo('completed', id);
      expect(seen.slice(1)).toEqual([`started ${id} 1`, `progress ${id} 1`, `completed ${id} 1`]);
      expect(eyes.seen.all[2]).toMatchObject({ progress: { value: 1 } });
    }),
  );

  test(
    'errors of any length and with any characters come whole',
    within(async (scene) => {
      const store = await scene.store();
      const eyes = await Eyes.open(store);
      const [id, same] = scene.ids(2) as [string, string];
      const error = { name: 'Error', message: `ü𝄞\u0000"\\ ${'長い'.repeat(5000)}`, code: 'HANDLER_FAILED' };
      await store.insert([tasks([id, same])]);
      await store.begin('w1', [arrival(id), arrival(same)]);
      const end = { attempt: 1, kind: 'failed', error, atMs: Date.now(), retryAtMs: 0 } as const;
      await store.end('w1', [
        { id, ...end },
        { id: same, ...end },
      ]);
      await eyes.upTo('failed', same);
      const failed = eyes.seen.all.filter(({ type }) => type === 'failed');
      expect(failed).toMatchObject([
        { id, attempt: 1, error },
        { id: same, attempt: 1, error },
      ]);
    }),
  );

  test(
    'the beginning of a text whose rest was lost with a connection is left out',
    within(async (scene) => {
      const store = await scene.store();
      const eyes = await Eyes.open(store);
      const [id] = scene.ids(1) as [string];
      await scene.sql`SELECT pg_notify('millrace_events', '1.1 1 [{"type":"enq')`;
      await store.insert([tasks([id])]);
      expect(await eyes.upTo('enqueued', id)).toEqual([`enqueued ${id}`]);
    }),
  );

  test(
    'a stream hears of its queue or its task only, and of nothing more when it was ended',
    within(async (scene) => {
      const [store, other] = [await scene.store(), await scene.store()];
      const [a, b, last] = scene.ids(3) as [string, string, string];
      const ofQueue = await Eyes.open(store, { queue: 'other' });
      const ofTask = await Eyes.open(store, { task: a });
      const ended = await Eyes.open(store);
      const all = await Eyes.open(other);
      ended.end();
      await store.insert([tasks([a]), tasks([b], { spec: spec({ queue: 'other' }) })]);
      await other.cancelTask(a);
      await store.insert([tasks([last])]);
      await all.upTo('enqueued', last);
      await ofTask.upTo('cancelled', a);
      // Heard over the same connection, one after the other.
      expect(ofQueue.seen.all.map(brief)).toEqual([`enqueued ${b}`]);
      expect(ofTask.seen.all.map(brief)).toEqual([`enqueued ${a}`, `cancelled ${a}`]);
      expect(ended.seen.all).toEqual([]);
    }),
  );

  test(
    'a task whose worker is lost has failed',
    within(async (scene) => {
      const clock = new HurriedClock();
      const store = await scene.store({ clock });
      const eyes = await Eyes.open(store);
      const [id] = scene.ids(1) as [string];
      await store.insert([tasks([id])]);
      await store.begin('w1', [arrival(id)]);
      await fallSilent(scene);
      await store.sweep(0);
      clock.aheadMs += SURE_MS;
      await store.sweep(0);
      await eyes.upTo('failed', id);
      expect(eyes.seen.all.at(-1)).toMatchObject({ attempt: 1, error: { code: 'WORKER_LOST' } });
    }),
  );

  test(
    'workers are told that somebody watches, so that what runs is known to have started',
    within(async (scene) => {
      const [worker, client] = [await scene.store(), await scene.store()];
      const [id] = scene.ids(1) as [string];
      const watched = new Arrivals<'watched'>();
      const watcher: StoreWatcher = {
        cancelRequested: () => {},
        paused: () => {},
        released: () => {},
        watched: () => watched.add('watched'),
      };
      await worker.watch(watcher);
      await worker.insert([tasks([id])]);
      await worker.begin('w1', [arrival(id)]);
      // Nobody watches: it is not written.
      worker.started(id, 1);
      const eyes = await Eyes.open(client);
      expect(await watched.count(1)).toEqual(['watched']);
      expect(await scene.sql`SELECT started FROM tasks`).toMatchObject([{ started: null }]);
      worker.started(id, 1);
      expect(await eyes.upTo('started', id)).toEqual([`started ${id} 1`]);
    }),
  );

  test(
    'a lost connection leaves a gap that is told, and the stream goes on',
    within(async (scene) => {
      const { proxy, url } = await proxyTo(scene);
      const [behind, direct] = [await scene.store({ url }), await scene.store()];
      const [before, missed, after] = scene.ids(3) as [string, string, string];
      const eyes = await Eyes.open(behind);
      await direct.insert([tasks([before])]);
      await eyes.upTo('enqueued', before);
      proxy.refuse();
      proxy.cut();
      await direct.insert([tasks([missed])]);
      proxy.pass();
      expect((await eyes.seen.count(2)).map(brief).at(-1)).toBe('dropped null');
      await direct.insert([tasks([after])]);
      expect(await eyes.upTo('enqueued', after)).toEqual([`enqueued ${before}`, 'dropped null', `enqueued ${after}`]);
      await behind.close(1000);
      await proxy.stop();
    }),
  );

  test(
    'tables tell nothing until somebody watches, and nothing any more when nobody is left',
    within(async (scene) => {
      const store = await scene.store();
      expect(await watchedTriggers(scene)).toEqual([]);
      const eyes = await Eyes.open(store);
      expect(await watchedTriggers(scene)).toEqual(['tasks_changed', 'tasks_made']);
      await scene.sql`SELECT forget_watches()`;
      expect(await watchedTriggers(scene)).toEqual(['tasks_changed', 'tasks_made']);
      eyes.end();
      await store.close(5000);
      expect(await scene.sql`SELECT name FROM watches`).toEqual([]);
      const clock = new HurriedClock();
      await scene.store({ upkeep: true, clock });
      const left = async (): Promise<string[]> => {
        clock.aheadMs += 60_000;
        return watchedTriggers(scene);
      };
      await until(left, (triggers) => triggers.length === 0, 'the end of the triggers');
    }),
  );

  test(
    'who has not been heard of for long is forgotten, and told of the gap when it comes back',
    within(async (scene) => {
      const clock = new PatientClock();
      const store = await scene.store({ clock });
      const eyes = await Eyes.open(store);
      await scene.sql`UPDATE watches SET until = now()`;
      await scene.sql`SELECT forget_watches()`;
      expect(await watchedTriggers(scene)).toEqual([]);
      const [missed, after] = scene.ids(2) as [string, string];
      await store.insert([tasks([missed])]);
      for (const goOff of [...clock.waiting]) goOff();
      expect((await eyes.seen.count(1)).map(brief)).toEqual(['dropped null']);
      await store.insert([tasks([after])]);
      expect(await eyes.upTo('enqueued', after)).toEqual(['dropped null', `enqueued ${after}`]);
    }),
  );

  test(
    'a transaction that holds the tasks is not waited for without end: TIMEOUT says so, and the next try goes',
    within(async (scene) => {
      const store = await scene.store();
      const [id] = scene.ids(1) as [string];
      await scene.sql.begin(async (held) => {
        await held`LOCK TABLE tasks IN ROW EXCLUSIVE MODE`;
        const error = await failure(store.events({}, new Eyes()));
        expect(error).toMatchObject({ code: 'TIMEOUT', message: /in use by a transaction/ });
      });
      const eyes = await Eyes.open(store);
      await store.insert([tasks([id])]);
      expect(await eyes.upTo('enqueued', id)).toEqual([`enqueued ${id}`]);
    }),
  );
});
