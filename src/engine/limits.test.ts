import { expect, it } from 'vitest';
import { type BenchWorker, EngineBench, SPEC, turns } from '../../test/model/engine-bench.ts';
import { LIMITS, NO_LIMITS } from '../limits.ts';
import { RECORD } from './records.ts';

const text = (count: number): string[] => Array.from({ length: count }, (_, i) => `p${i}`);

async function pass(bench: EngineBench, ms: number): Promise<void> {
  bench.clock.advance(ms);
  await turns();
}

async function completeAll(bench: EngineBench, worker: BenchWorker): Promise<void> {
  bench.complete(
    worker,
    worker.held.map((delivery) => ({ delivery })),
  );
  await turns();
}

it('hands out a queue’s tasks at its rate, each as soon as its token is there and no millisecond sooner', async () => {
  const bench = await EngineBench.open({ directory: null });
  bench.engine.commands.setLimits('q', { rate: { count: 4, periodMs: 1000, burst: 2 } });
  const worker = await bench.addWorker(['q'], 100);
  bench.enqueue(text(5));
  await turns();
  expect(worker.seen).toHaveLength(2);
  // Two at once, then one every 250 ms; the engine's timer is late by up to a millisecond, and never early.
  await pass(bench, 249);
  for (let count = 3; count <= 5; count++) {
    expect(worker.seen).toHaveLength(count - 1);
    await pass(bench, 2);
    expect(worker.seen).toHaveLength(count);
    await pass(bench, 248);
  }
  await bench.engine.close();
});

it('gives a token that came while no worker had room to the next that has, without asking the clock again and again', async () => {
  const bench = await EngineBench.open({ directory: null });
  bench.engine.commands.setLimits('q', { rate: { count: 1, periodMs: 100, burst: 1 } });
  const worker = await bench.addWorker(['q'], 1);
  bench.enqueue(text(3));
  await turns();
  expect(worker.seen).toHaveLength(1);
  await pass(bench, 150);
  // Its token is there, and its worker is busy: nothing is due before that changes.
  expect(bench.engine.core.nextSteadyMs()).toBeGreaterThan(bench.clock.steadyMs());
  expect(worker.seen).toHaveLength(1);
  await completeAll(bench, worker);
  expect(worker.seen).toHaveLength(2);
  await bench.engine.close();
});

it('has no more tasks of a queue with workers than its concurrency, prefetched ones included', async () => {
  const bench = await EngineBench.open({ directory: null });
  bench.engine.commands.setLimits('q', { concurrency: 3 });
  const workers = [await bench.addWorker(['q'], 2, 50), await bench.addWorker(['q'], 2, 50)];
  bench.enqueue(text(10));
  await turns();
  const held = (): number => workers.reduce((sum, { held: { length } }) => sum + length, 0);
  expect(held()).toBe(3);
  for (const worker of workers) if (worker.held.length > 0) await completeAll(bench, worker);
  expect(held()).toBe(3);
  const busy = workers.find((worker) => worker.held.length > 0) as BenchWorker;
  bench.release(busy, [...busy.held]);
  await turns();
  expect(bench.engine.core.queue('q').active).toBe(3);
  bench.removeWorker(busy, true);
  await turns();
  expect(bench.engine.core.queue('q').active).toBe(3);
  await bench.engine.close();
});

it('lets a worker that comes back keep what it runs beyond the limit, and counts it', async () => {
  const bench = await EngineBench.open();
  const ids = bench.enqueue(text(4));
  await bench.addWorker(['q'], 4);
  await turns();
  bench.engine.commands.setLimits('q', { concurrency: 2 });
  await bench.restart();
  const back = bench.subscribe(['q'], 4);
  const kept = bench.engine.resume(
    back.worker as NonNullable<BenchWorker['worker']>,
    ids.slice(0, 3).map((id) => ({ id, attempt: 1 })),
  );
  await turns();
  expect(kept.size).toBe(3);
  expect(bench.engine.core.queue('q')).toMatchObject({ active: 3, ready: 1 });
  await bench.engine.close();
});

it('keeps limits over restarts, and a bucket is full again after one', async () => {
  const bench = await EngineBench.open();
  const limits = { ...NO_LIMITS, rate: { count: 1, periodMs: 60_000, burst: 2 } };
  bench.engine.commands.setLimits('q', limits);
  bench.enqueue(text(10));
  expect((await bench.addWorker(['q'], 100)).seen).toHaveLength(2);
  await bench.flush();
  await bench.crash();
  expect(bench.engine.core.queue('q').limits).toEqual(limits);
  expect((await bench.addWorker(['q'], 100)).seen).toHaveLength(2);
  bench.engine.commands.setLimits('q', NO_LIMITS);
  const other = await bench.addWorker(['q'], 100);
  await turns();
  expect(other.seen.length).toBeGreaterThan(0);
  expect(bench.engine.core.queue('q')).toMatchObject({ ready: 0, limits: undefined });
  await bench.engine.close();
});

it('leaves other queues of the same worker alone', async () => {
  const bench = await EngineBench.open({ directory: null });
  bench.engine.commands.setLimits('q', { concurrency: 1 });
  const worker = await bench.addWorker(['q', 'free'], 5);
  bench.enqueue(text(5));
  bench.enqueue(text(4), { ...SPEC, queue: 'free' });
  await turns();
  expect(worker.held.filter(({ spec }) => spec.queue === 'free')).toHaveLength(4);
  expect(worker.held).toHaveLength(5);
  await bench.engine.close();
});

function full(queue: string, room: number, count: number): unknown {
  return expect.objectContaining({ code: 'QUEUE_FULL', details: expect.objectContaining({ queue, room, count }) });
}

it('takes no more unfinished tasks than a queue’s length, whatever they wait for, and has room again when some have ended', async () => {
  const bench = await EngineBench.open({ directory: null });
  bench.engine.commands.setLimits('q', { length: 4 });
  const worker = await bench.addWorker(['q'], 1);
  const [first] = bench.enqueue(text(2));
  bench.enqueue(text(1), SPEC, { kind: 'delay', ms: 60_000 });
  await turns();
  expect(bench.engine.core.queue('q')).toMatchObject({ active: 1, ready: 1, scheduled: 1 });
  expect(() => bench.enqueue(text(2))).toThrow(full('q', 1, 2));
  bench.enqueue(text(1));
  expect(() => bench.enqueue(text(1))).toThrow(full('q', 0, 1));
  // Another attempt of a task is no new one.
  bench.fail(worker, [worker.take(first)]);
  await turns();
  expect(() => bench.enqueue(text(1))).toThrow(full('q', 0, 1));
  await completeAll(bench, worker);
  expect(bench.enqueue(text(1))).toHaveLength(1);
  await bench.engine.close();
});

it('counts the sections of a batch together, refuses it whole, and leaves no trace of it', async () => {
  const bench = await EngineBench.open({ directory: null });
  bench.engine.commands.setLimits('q', { length: 3 });
  const other = { ...SPEC, queue: 'other' };
  const sections = [
    { spec: SPEC, payloads: text(2) },
    { spec: other, payloads: text(1) },
    { spec: { ...SPEC, name: 'x' }, payloads: text(2) },
  ];
  const { appendedSequence } = bench.engine.journal;
  expect(() => bench.enqueueBatch(1, sections)).toThrow(full('q', 3, 4));
  expect(bench.engine.journal.appendedSequence).toBe(appendedSequence);
  expect(bench.engine.core.queue('q')).toMatchObject({ length: 0, kindCount: 0 });
  expect(bench.engine.core.queue('other').kindCount).toBe(0);
  expect(bench.enqueueBatch(2, sections.slice(0, 2)).count).toBe(3);
  await bench.engine.close();
});

it('refuses neither what is retried nor what is redriven, and nothing of a queue whose limit was lowered', async () => {
  const bench = await EngineBench.open({ directory: null });
  const worker = await bench.addWorker(['q'], 10);
  const ids = bench.enqueue(text(3));
  await turns();
  bench.fail(worker, [...worker.held], { final: true, retryDelayMs: undefined });
  bench.engine.commands.pauseQueue('q');
  bench.enqueue(text(2));
  bench.engine.commands.setLimits('q', { length: 1 });
  bench.engine.commands.retry(ids[0]);
  expect(await bench.engine.commands.redriveQueue('q')).toBe(2);
  expect(bench.engine.core.queue('q')).toMatchObject({ ready: 5, room: 0 });
  expect(() => bench.enqueue(text(1))).toThrow(full('q', 0, 1));
  await bench.engine.close();
});

it('takes a batch that it has taken before, though its queue is full by now', async () => {
  const bench = await EngineBench.open({ directory: null });
  bench.engine.commands.setLimits('q', { length: 2 });
  const sections = [{ spec: SPEC, payloads: text(2) }];
  const { firstId } = bench.enqueueBatch(1, sections);
  expect(bench.enqueueBatch(1, sections)).toMatchObject({ firstId, count: 2 });
  expect(bench.engine.core.queue('q').length).toBe(2);
  await bench.engine.close();
});

it('finds no limit of length in what was written before there was one', async () => {
  const bench = await EngineBench.open();
  const limits = { concurrency: 2, rate: null, concurrencyPerKey: null };
  const command = { op: 'limits', queue: 'q', limits, at: bench.clock.steadyMs() };
  bench.engine.journal.append(RECORD.COMMAND, Buffer.from(JSON.stringify(command)));
  await bench.flush();
  await bench.crash();
  expect(bench.engine.core.queue('q').limits).toEqual({ ...limits, length: null });
  expect(bench.enqueue(text(50))).toHaveLength(50);
  await bench.engine.close();
});

it('holds no more tasks in all than it may', async () => {
  const bench = await EngineBench.open({ directory: null });
  Object.defineProperty(bench.engine.core.table, 'count', { get: () => LIMITS.tasksMax - 1 });
  bench.enqueue(text(1));
  const refused = expect.objectContaining({
    code: 'QUEUE_FULL',
    message: expect.stringContaining('retention'),
    details: { count: LIMITS.tasksMax - 1, bound: LIMITS.tasksMax },
  });
  expect(() => bench.enqueue(text(2))).toThrow(refused);
  await bench.engine.close();
});
