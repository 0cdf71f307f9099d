import { describe, expect, it } from 'vitest';
import { EngineBench, KEEP_ALL, SPEC, slowDown, turns } from '../../test/model/engine-bench.ts';
import { formatTaskId } from '../ids.ts';
import { LIMITS } from '../limits.ts';
import type { TaskFilter } from '../protocol/task-filter.ts';
import { cancelTasks, retryTasks } from './bulk.ts';
import { deadGroups } from './dead-groups.ts';
import { listTasks } from './inspect.ts';

const DETAILS = {
  worker: (index: number) => ({ id: `w${index}`, name: `worker ${index}` }),
  workerIndex: (id: string) => Number(id.slice(1)),
  progress: () => undefined,
};
const DEAD = { ...SPEC, maxAttempts: 1 };

async function dead(bench: EngineBench, count: number, message: (index: number) => string): Promise<number[]> {
  const ids: number[] = [];
  const worker = await bench.addWorker(['q'], 5000);
  for (let done = 0; done < count; ) {
    const batch = bench.enqueue(new Array(Math.min(5000, count - done)).fill('a'), DEAD);
    await turns();
    bench.fail(worker, [...worker.held], undefined, ({ id }) => message(done + batch.indexOf(id)));
    done += batch.length;
    ids.push(...batch);
  }
  bench.removeWorker(worker, false);
  return ids;
}

function page(bench: EngineBench, filter: TaskFilter): ReturnType<typeof listTasks> {
  return listTasks(bench.engine, filter, DETAILS);
}

async function allIds(bench: EngineBench, filter: TaskFilter): Promise<string[]> {
  const ids: string[] = [];
  let after: string | undefined;
  do {
    const { tasks, next } = await page(bench, { ...filter, after });
    ids.push(...tasks.map(({ id }) => id));
    after = next;
  } while (after !== undefined);
  return ids;
}

describe('looking for tasks', () => {
  it('finds few among many at once, by each state, and many over the pages, in both orders', async () => {
    const bench = await EngineBench.open({ segmentBytes: 4 * 1024 * 1024 });
    const many = bench.enqueue(new Array(11_000).fill('x'), { ...SPEC, queue: 'many' });
    const few: Record<string, number[]> = { scheduled: bench.enqueue(['a', 'b'], SPEC, { kind: 'delay', ms: 1000 }) };
    few.dead = await dead(bench, 3, () => 'no');
    const [gone, done, held] = bench.enqueue(['a', 'b', 'c']) as [number, number, number];
    bench.engine.commands.cancel(gone);
    const worker = await bench.addWorker(['q'], 2);
    bench.complete(worker, [{ delivery: worker.take(done) }]);
    await turns();
    Object.assign(few, { cancelled: [gone], completed: [done], active: [held] });
    few.ready = bench.enqueue(['d', 'e'], { ...SPEC, queue: 'idle' });
    bench.enqueue(new Array(11_000).fill('x'), { ...SPEC, queue: 'many' });
    for (const [state, ids] of Object.entries(few)) {
      const found = ids.map(formatTaskId);
      const filter = { state, ...(state === 'ready' ? { queue: 'idle' } : {}) } as TaskFilter;
      const { tasks, next } = await page(bench, filter);
      expect({ state, ids: tasks.map(({ id }) => id), next }).toEqual({ state, ids: found, next: undefined });
      expect(await allIds(bench, { ...filter, order: 'newest', limit: 1 })).toEqual(found.toReversed());
    }
    const ready = await allIds(bench, { state: 'ready', queue: 'many', limit: 1000 });
    expect(ready.slice(0, many.length)).toEqual(many.map(formatTaskId));
    expect(ready).toHaveLength(22_000);
    expect(await allIds(bench, { state: 'ready', queue: 'many', limit: 1000, order: 'newest' })).toEqual(
      ready.toReversed(),
    );
    await bench.engine.close();
  });

  it('reads a bounded number of errors for a page, and goes on behind them', async () => {
    const bench = await EngineBench.open({ segmentBytes: 4 * 1024 * 1024 });
    const count = LIMITS.listFailuresMax + 50;
    const ids = await dead(bench, count, (index) => (index === count - 1 ? 'NEEDLE' : 'hay'));
    const first = await page(bench, { error: 'needle' });
    expect(first).toEqual({ tasks: [], next: formatTaskId(ids[LIMITS.listFailuresMax - 1] as number) });
    const second = await page(bench, { error: 'needle', after: first.next });
    expect(second.tasks.map(({ id }) => id)).toEqual([formatTaskId(ids.at(-1) as number)]);
    expect(second.next).toBeUndefined();
    const full = await page(bench, { error: 'hay', limit: 3 });
    expect(full.next).toBe(formatTaskId(ids[2] as number));
    await bench.engine.close();
  });

  it('reads a bounded number of pages of the journal for a page, and finds all the same', async () => {
    const bench = await EngineBench.open({ cacheBytes: 16 * 1024, segmentBytes: 64 * 1024 });
    const count = 8 * LIMITS.listLoadsMax;
    const ids: number[] = [];
    for (let i = 0; i < count; i++) {
      ids.push(...(await dead(bench, 1, () => `error ${i}`.padEnd(9000, '!'))));
      await bench.flush();
    }
    const first = await page(bench, { error: '!', limit: 1000 });
    expect(first.next).toBeDefined();
    expect(first.tasks.length).toBeLessThan(count);
    expect(await allIds(bench, { error: '!', limit: 1000 })).toEqual(ids.map(formatTaskId));
    await bench.engine.close();
  });

  it('finds an error that cannot be read by what is shown in its place', async () => {
    const bench = await EngineBench.open({ cacheBytes: 16 * 1024 });
    const [id] = (await dead(bench, 1, () => 'lost')) as [number];
    for (let i = 0; i < 20; i++) bench.enqueue(['x'.repeat(8000)], { ...SPEC, queue: 'filler' });
    await bench.flush();
    bench.disk.fail('read', 'EIO', { times: Number.POSITIVE_INFINITY });
    const { tasks } = await page(bench, { error: 'storage_failed' });
    expect(tasks).toMatchObject([{ id: formatTaskId(id), failures: [{ error: { code: 'STORAGE_FAILED' } }] }]);
    await bench.engine.close();
  });

  it('leaves its turn to others while it goes through very many', async () => {
    const bench = await EngineBench.open({ segmentBytes: 4 * 1024 * 1024 });
    bench.enqueue(new Array(60_000).fill(''));
    slowDown(bench);
    let isOver = false;
    const looked = page(bench, { name: 'nobody' }).then(() => {
      isOver = true;
    });
    await turns(1);
    expect(isOver).toBe(false);
    await looked;
    await bench.engine.close();
  });
});

describe('an attempt', () => {
  it('that its worker lost says whose it was, and since when it ran, also after a time of waiting for that one', async () => {
    const bench = await EngineBench.open({ lostGraceMs: 1000 });
    const [first] = bench.enqueue(['a'], { ...SPEC, maxAttempts: 2 });
    for (const name of ['one', 'two']) {
      const worker = await bench.addWorker();
      (worker.worker as { name: string }).name = name;
      bench.clock.advance(5);
      bench.begin(worker);
      bench.clock.advance(7);
      bench.removeWorker(worker, true);
      await turns();
    }
    bench.clock.advance(1000);
    await turns();
    const { tasks } = await page(bench, { error: 'WORKER_LOST' });
    expect(tasks).toMatchObject([
      { id: formatTaskId(first as number), state: 'dead', failures: [{ attempt: 2, worker: 'two' }] },
    ]);
    const [{ startedAtMs, atMs } = { startedAtMs: 0, atMs: 0 }] = tasks[0]?.failures ?? [];
    expect(atMs - (startedAtMs as number)).toBe(1007);
    await bench.engine.close();
  });
});

describe('a change of many tasks', () => {
  it('is all of a step or nothing after a crash', async () => {
    const bench = await EngineBench.open({ segmentBytes: 4 * 1024 * 1024 });
    const ids = await dead(bench, 100, () => 'no');
    // Every other one, so that the record has many runs.
    const kept = ids.filter((_, index) => index % 2 === 0);
    const states = (): string => ids.map((id) => bench.state(id)[0]).join('');
    for (const id of kept) bench.engine.commands.retry(id);
    await bench.flush();
    const before = states();
    const { count } = await cancelTasks(bench.engine, { queue: 'q' }, DETAILS);
    expect(count).toBe(kept.length);
    const after = states();
    expect(after).not.toBe(before);
    await bench.crash();
    expect([before, after]).toContain(states());
    await cancelTasks(bench.engine, { queue: 'q' }, DETAILS);
    expect((await retryTasks(bench.engine, { queue: 'q' }, DETAILS)).count).toBe(ids.length - kept.length);
    await bench.flush();
    const last = states();
    await bench.crash();
    expect(states()).toBe(last);
    await bench.engine.close();
  });

  it('tells those who run them, once, and leaves what came after its first step', async () => {
    const bench = await EngineBench.open();
    const ids = bench.enqueue(['a', 'b', 'c', 'd']);
    const worker = await bench.addWorker(['q'], 2);
    const first = await cancelTasks(bench.engine, { name: 'n', limit: 3 }, DETAILS);
    expect(first.count).toBe(3);
    const [late] = bench.enqueue(['e']) as [number];
    const second = await cancelTasks(bench.engine, { name: 'n', after: first.next }, DETAILS);
    expect(second).toEqual({ count: 1 });
    expect(ids.map((id) => bench.state(id))).toEqual(['active', 'active', 'cancelled', 'cancelled']);
    expect(bench.state(late)).toBe('ready');
    await turns();
    expect(worker.revoked.map(({ id, reason }) => [id, reason])).toEqual(
      ids.slice(0, 2).map((id) => [id, 'cancelled']),
    );
    expect((await cancelTasks(bench.engine, { state: 'active' }, DETAILS)).count).toBe(0);
    await bench.engine.close();
  });

  it('cancels at once what waits for a worker that was lost', async () => {
    const bench = await EngineBench.open({ lostGraceMs: 1000 });
    const [id] = bench.enqueue(['a'], DEAD) as [number];
    const worker = await bench.addWorker();
    bench.begin(worker);
    bench.removeWorker(worker, true);
    expect(bench.state(id)).toBe('active');
    expect(await cancelTasks(bench.engine, { state: 'active' }, DETAILS)).toEqual({ count: 1 });
    expect(bench.state(id)).toBe('cancelled');
    await bench.engine.close();
  });

  it('refuses to go on from what is no place', async () => {
    const bench = await EngineBench.open();
    for (const after of ['here', '1-1~', '1-1~x', '~']) {
      await expect(async () => cancelTasks(bench.engine, { queue: 'q', after }, DETAILS)).rejects.toMatchObject({
        code: 'INVALID_ARGUMENT',
      });
    }
    await bench.engine.close();
  });
});

describe('groups of dead tasks', () => {
  it('are those of the newest, when there are more than are looked at, and of each queue its share', async () => {
    const retention = { ...KEEP_ALL, deadCountMax: 100_000 };
    const bench = await EngineBench.open({ segmentBytes: 16 * 1024 * 1024, retention });
    await dead(bench, 10, () => 'old');
    await dead(bench, LIMITS.deadGroupTasksMax, (index) => `new ${index}`);
    const [single] = bench.enqueue(['a'], { ...DEAD, queue: 'small' }) as [number];
    const worker = await bench.addWorker(['small']);
    bench.fail(worker, [worker.take(single)]);
    const { groups, scanned, complete } = await deadGroups(bench.engine, undefined);
    expect({ scanned, complete }).toEqual({ scanned: LIMITS.deadGroupTasksMax, complete: false });
    expect(groups.map(({ message, count }) => [message, count])).toEqual([
      ['new #', LIMITS.deadGroupTasksMax - 1],
      ['error of # in attempt #', 1],
    ]);
    expect(await deadGroups(bench.engine, 'small')).toMatchObject({ scanned: 1, complete: true });
    expect(await deadGroups(bench.engine, 'nobody')).toEqual({ groups: [], scanned: 0, complete: true });
    await bench.engine.close();
  });

  it('are bounded, and say when there are more', async () => {
    const bench = await EngineBench.open({ segmentBytes: 4 * 1024 * 1024 });
    const letters = (index: number): string => index.toString(2).replaceAll('0', 'o').replaceAll('1', 'i');
    await dead(bench, LIMITS.deadGroupsMax + 3, letters);
    const { groups, scanned, complete } = await deadGroups(bench.engine, 'q');
    expect([groups.length, scanned, complete]).toEqual([LIMITS.deadGroupsMax, LIMITS.deadGroupsMax + 3, false]);
    await bench.engine.close();
  });
});
