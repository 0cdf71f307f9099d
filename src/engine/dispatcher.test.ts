import { describe, expect, it } from 'vitest';
import { EngineBench, SPEC, turns } from '../../test/model/engine-bench.ts';
import type { CoreWorker } from '../core/worker.ts';

const ROOMY = { segmentBytes: 64 * 1024 * 1024, cacheBytes: 64 * 1024 * 1024 };

/** What was deferred to the end of this turn has run. */
function endOfTurn(): Promise<void> {
  return new Promise((resolve) => process.nextTick(() => process.nextTick(resolve)));
}

const texts = (count: number, prefix = 'p'): string[] => Array.from({ length: count }, (_, i) => `${prefix}${i}`);

describe('deliveries', () => {
  it('go to idle handlers before they fill anyone’s prefetch', async () => {
    const bench = await EngineBench.open();
    const [one, two] = [await bench.addWorker(['q'], 2, 100), await bench.addWorker(['q'], 2, 100)];
    bench.enqueue(texts(4));
    await turns();
    expect([one.held.length, two.held.length]).toEqual([2, 2]);
    await bench.engine.close();
  });

  it('are shared, whoever connected first', async () => {
    const bench = await EngineBench.open();
    const workers = [];
    for (let i = 0; i < 4; i++) workers.push(await bench.addWorker(['q'], 1, 1000));
    bench.enqueue(texts(400));
    await turns();
    for (const { held } of workers) expect(held.length).toBeGreaterThan(80);
    expect(workers.flatMap(({ held }) => held)).toHaveLength(400);
    await bench.engine.close();
  });

  it('never exceed the credit, nor come to a worker that is paused', async () => {
    const bench = await EngineBench.open();
    const worker = await bench.addWorker(['q'], 2, 5);
    const paused = await bench.addWorker(['q'], 2, 5);
    (paused.worker as CoreWorker).paused = true;
    bench.enqueue(texts(50));
    await turns();
    expect([worker.held.length, paused.held.length]).toEqual([5, 0]);
    bench.complete(
      worker,
      worker.held.slice(0, 3).map((delivery) => ({ delivery })),
    );
    await turns();
    expect(worker.held).toHaveLength(5);
    await bench.engine.close();
  });

  it('wait while the worker’s link has no room', async () => {
    const bench = await EngineBench.open();
    const worker = await bench.addWorker();
    worker.roomBytes = 0;
    bench.enqueue(texts(3));
    await turns();
    expect(worker.held).toEqual([]);
    worker.roomBytes = 100;
    bench.engine.workerReady(worker.worker as CoreWorker);
    await turns();
    expect(worker.held).toHaveLength(3);
    await bench.engine.close();
  });

  it('of a higher priority come first, and the order of each is kept over several workers', async () => {
    const bench = await EngineBench.open();
    const low = bench.enqueue(texts(5), { ...SPEC, priority: 0 });
    const high = bench.enqueue(texts(5), { ...SPEC, priority: 9 });
    const seen: number[] = [];
    const workers = [await bench.addWorker(['q'], 1), await bench.addWorker(['q'], 1)];
    for (let round = 0; round < 10; round++) {
      const held = workers.flatMap((worker) => worker.held.map((delivery) => ({ worker, delivery })));
      held.sort((a, b) => a.delivery.token - b.delivery.token);
      for (const { worker, delivery } of held) {
        seen.push(delivery.id);
        bench.complete(worker, [{ delivery }]);
        await turns();
      }
    }
    expect(seen).toEqual([...high, ...low]);
    await bench.engine.close();
  });

  it('of a queue that is always full do not keep its neighbour’s away', async () => {
    const bench = await EngineBench.open();
    bench.enqueue(texts(50), { ...SPEC, queue: 'full' });
    bench.enqueue(texts(3), { ...SPEC, queue: 'neighbour' });
    const worker = await bench.addWorker(['full', 'neighbour'], 1);
    for (let i = 0; i < 10; i++) {
      bench.complete(worker, [{ delivery: worker.held[0] }]);
      await turns();
    }
    expect(worker.seen.filter(({ spec }) => spec.queue === 'neighbour')).toHaveLength(3);
    await bench.engine.close();
  });

  it('of large tasks are made in pieces, between which others have their turn', async () => {
    const bench = await EngineBench.open(ROOMY);
    const [large, small] = [bench.subscribe(['q'], 1000), bench.subscribe(['small'], 1)];
    bench.enqueue(texts(30).map((text) => text.padEnd(200_000, '.')));
    await endOfTurn();
    expect(large.held.length).toBeGreaterThan(3);
    expect(large.held.length).toBeLessThan(7);
    bench.enqueue(['quick'], { ...SPEC, queue: 'small' });
    await turns(1);
    expect(small.held).toHaveLength(1);
    expect(large.held.length).toBeLessThan(14);
    await turns(10);
    expect(large.held).toHaveLength(30);
    await bench.engine.close();
  });

  it('in pieces go to each worker in turn', async () => {
    const bench = await EngineBench.open(ROOMY);
    const workers = Array.from({ length: 10 }, () => bench.subscribe(['q'], 1000));
    bench.enqueue(texts(20).map((text) => text.padEnd(200_000, '.')));
    await turns(10);
    const counts = workers.map(({ held }) => held.length);
    expect(counts.reduce((sum, count) => sum + count, 0)).toBe(20);
    expect(Math.min(...counts)).toBeGreaterThan(0);
    expect(Math.max(...counts)).toBeLessThan(4);
    await bench.engine.close();
  });

  it('of one batch keep every payload, empty and large ones too', async () => {
    const bench = await EngineBench.open({ segmentBytes: 8 * 1024 * 1024, cacheBytes: 32 * 1024 * 1024 });
    const payloads = ['', 'a', 'x'.repeat(900_000), '', 'ü', 'y'.repeat(700_000), 'z'.repeat(1_048_576), ''];
    bench.enqueue(payloads);
    const worker = await bench.addWorker(['q'], 100);
    expect(worker.held.map(({ payload }) => payload)).toEqual(payloads);
    await bench.engine.close();
  });

  it('of one batch are one run, though somebody waits for one of its tasks', async () => {
    const bench = await EngineBench.open();
    const ids = bench.enqueue(texts(5));
    void bench.outcome(ids[2]);
    const worker = await bench.addWorker(['q'], 100);
    expect(worker.seen.map(({ id }) => id)).toEqual(ids);
    expect(worker.runCount).toBe(1);
    await bench.engine.close();
  });

  it('of several queues to one worker in one turn are one frame', async () => {
    const bench = await EngineBench.open();
    for (const queue of ['a', 'b', 'c']) bench.enqueue(texts(2, queue), { ...SPEC, queue });
    const worker = await bench.addWorker(['a', 'b', 'c'], 100);
    expect(worker.seen.map(({ payload }) => payload)).toEqual(['a0', 'a1', 'b0', 'b1', 'c0', 'c1']);
    expect([worker.frameCount, worker.runCount]).toEqual([1, 3]);
    await bench.engine.close();
  });

  it('of tasks that are no longer in memory are read, in order', async () => {
    const bench = await EngineBench.open({ cacheBytes: 64 * 1024 });
    const ids = Array.from({ length: 60 }, (_, i) => bench.enqueue([`${i} `.padEnd(5000, '.')])).flat();
    await bench.flush();
    const worker = bench.subscribe(['q'], 7);
    while (worker.seen.length < ids.length) {
      await turns();
      bench.complete(
        worker,
        worker.held.map((delivery) => ({ delivery })),
      );
    }
    expect(worker.seen.map(({ id }) => id)).toEqual(ids);
    expect(worker.seen.map(({ payload }) => payload)).toEqual(ids.map((_, i) => `${i} `.padEnd(5000, '.')));
    await bench.engine.close();
  });

  it('go on when what was being read has been purged meanwhile', async () => {
    const bench = await EngineBench.open({ cacheBytes: 32 * 1024 });
    for (let i = 0; i < 20; i++) bench.enqueue(['x'.repeat(8000)]);
    await bench.flush();
    bench.disk.hold('read');
    const worker = bench.subscribe(['q'], 100);
    await bench.disk.held('read');
    await bench.engine.commands.purgeQueue('q');
    const [id] = bench.enqueue(['new']);
    bench.disk.release();
    await turns(10);
    expect(worker.held.map((delivery) => delivery.id)).toEqual([id]);
    await bench.engine.close();
  });

  it('end when the engine stops; what is held may still be settled', async () => {
    const bench = await EngineBench.open();
    const [id] = bench.enqueue(['a']);
    const worker = await bench.addWorker(['q'], 1);
    bench.enqueue(['b']);
    bench.engine.stop();
    bench.complete(worker, [{ delivery: worker.held[0] }]);
    await turns();
    expect(worker.held).toEqual([]);
    expect(bench.state(id)).toBe('completed');
    await bench.engine.close();
  });
});
