import { describe, expect, it } from 'vitest';
import { type BenchWorker, EngineBench, SPEC, turns } from '../../test/model/engine-bench.ts';
import type { CoreWorker } from '../core/worker.ts';
import type { BucketCounts } from '../io/bucket-counts.ts';

const total = ({ counts }: BucketCounts): number => counts.reduce((sum, count) => sum + count, 0);

function payloads(count: number): string[] {
  return Array.from({ length: count }, () => 'p');
}

function completeAll(bench: EngineBench, worker: BenchWorker): void {
  bench.complete(
    worker,
    worker.held.map((delivery) => ({ delivery })),
  );
}

describe('durations', () => {
  it('are those from enqueue to start, of the run, and to completion', async () => {
    const bench = await EngineBench.open();
    bench.enqueue(['p'], { ...SPEC, timeoutMs: 7000 });
    bench.clock.advance(300);
    const worker = await bench.addWorker(['q'], 1);
    bench.begin(worker);
    bench.clock.advance(2000);
    completeAll(bench, worker);
    const { taskStart, taskRun, taskTotal } = bench.engine.stats;
    expect([taskStart, taskRun, taskTotal].map(total)).toEqual([1, 1, 1]);
    expect([taskStart, taskRun, taskTotal].map(({ sumMs }) => sumMs)).toEqual([300, 2000, 2300]);
    await bench.engine.close();
  });

  it('of a run are those of failed attempts too', async () => {
    const bench = await EngineBench.open();
    bench.enqueue(['p']);
    const worker = await bench.addWorker(['q'], 1);
    bench.begin(worker);
    bench.clock.advance(40);
    bench.fail(worker, [...worker.held], { final: true, retryDelayMs: undefined });
    const { taskRun, taskTotal } = bench.engine.stats;
    expect([total(taskRun), taskRun.sumMs, total(taskTotal)]).toEqual([1, 40, 0]);
    await bench.engine.close();
  });

  it('of what begins and ends in one turn of a worker add up to the time of that turn', async () => {
    const bench = await EngineBench.open();
    bench.enqueue(payloads(5));
    const worker = await bench.addWorker(['q'], 5);
    bench.clock.advance(100);
    completeAll(bench, worker);
    const { taskStart, taskRun } = bench.engine.stats;
    expect([total(taskStart), total(taskRun), taskRun.sumMs]).toEqual([5, 5, 100]);
    await bench.engine.close();
  });

  it('of a run that kept its worker from answering are whole, before and after the sign of life', async () => {
    for (const isHeard of [false, true]) {
      const bench = await EngineBench.open({ timeoutGraceMs: 500 });
      bench.enqueue(['p'], { ...SPEC, timeoutMs: 1000 });
      const worker = await bench.addWorker(['q'], 1);
      const startedAtMs = bench.clock.steadyMs();
      const { taskRun } = bench.engine.stats;
      while (worker.probes === 0) {
        bench.clock.advance(100);
        await turns(1);
      }
      if (isHeard) bench.engine.heard(worker.worker as CoreWorker);
      bench.clock.advance(50);
      completeAll(bench, worker);
      expect([total(taskRun), taskRun.sumMs]).toEqual([1, bench.clock.steadyMs() - startedAtMs]);
      await bench.engine.close();
    }
  });

  it('of a run whose worker did not come back last until it was given up', async () => {
    const bench = await EngineBench.open({ lostGraceMs: 1000 });
    bench.enqueue(['p'], { ...SPEC, maxAttempts: 1 });
    const worker = await bench.addWorker(['q'], 1);
    bench.begin(worker);
    bench.clock.advance(200);
    bench.removeWorker(worker, true);
    await turns();
    bench.clock.advance(1000);
    await turns();
    const { taskRun } = bench.engine.stats;
    expect([total(taskRun), taskRun.sumMs]).toEqual([1, 1200]);
    await bench.engine.close();
  });

  it.each([0, 3, 7])(
    'that are sampled stand for all, also when each of %i in ten is a task that does not count',
    async (delayed) => {
      const bench = await EngineBench.open();
      bench.engine.core.assignments.sampling.every = 13;
      const rounds = 400;
      const worker = await bench.addWorker(['q'], 10);
      for (let round = 0; round < rounds; round++) {
        if (delayed > 0) bench.enqueue(payloads(delayed), SPEC, { kind: 'delay', ms: 1 });
        bench.enqueue(payloads(10 - delayed));
        bench.clock.advance(2);
        // What was delayed is due, and what was not has been handed out.
        await bench.flush();
        bench.begin(worker);
        completeAll(bench, worker);
        await bench.flush();
      }
      const { taskStart, taskRun, taskTotal } = bench.engine.stats;
      expect(total(taskRun)).toBeGreaterThan(rounds * 10 - 27);
      expect(total(taskRun)).toBeLessThanOrEqual(rounds * 10);
      for (const { sampled, of } of [taskStart, taskTotal].map((each) => ({
        sampled: total(each),
        of: rounds * (10 - delayed),
      }))) {
        expect(Math.abs(sampled / of - 1)).toBeLessThan(0.15);
      }
      await bench.engine.close();
    },
  );
});
