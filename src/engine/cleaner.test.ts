import { describe, expect, it } from 'vitest';
import { EngineBench, KEEP_ALL, observe, SPEC, turns } from '../../test/model/engine-bench.ts';
import type { CoreWorker } from '../core/worker.ts';

const FILLER = { ...SPEC, queue: 'filler' };

/** Runs tasks through until the log is long enough for the cleaner to act `rounds` times. */
async function churn(bench: EngineBench, rounds: number, bytes = 3000): Promise<void> {
  const worker = await bench.addWorker(['filler'], 10);
  for (let i = 0; i < rounds; i++) {
    bench.enqueue(
      Array.from({ length: 5 }, () => 'x'.repeat(bytes)),
      FILLER,
    );
    await turns();
    bench.complete(
      worker,
      worker.held.map((delivery) => ({ delivery })),
    );
    bench.clock.advance(1000);
    await turns(10);
    await bench.flush();
  }
  bench.removeWorker(worker, false);
}

/** One task of each kind of end and beginning, with all that can be attached. */
async function stragglers(bench: EngineBench): Promise<{ ids: number[]; texts: () => Promise<unknown[]> }> {
  const spec = { ...SPEC, maxAttempts: 2, timeoutMs: 3_600_000 };
  const wallMs = bench.clock.wallMs();
  // Those that begin as a history's payloads do have headers.
  const payloads = [
    'payload 0 ready',
    'active',
    'retried',
    'payload 2 dead',
    'completed',
    'empty',
    'cancelled',
    'lost',
  ];
  const ids = bench.enqueue(payloads, spec);
  const [, active, retried, dead, completed, empty, cancelled, lost] = ids;
  ids.push(...bench.enqueue(['at'], spec, { kind: 'at', ms: wallMs + 3_600_000 }));
  ids.push(...bench.enqueue(['delayed'], spec, { kind: 'delay', ms: 3_600_000 }));
  bench.engine.commands.cancel(cancelled);
  const worker = await bench.addWorker(['q'], 10);
  bench.fail(worker, [worker.take(retried)], { final: false, retryDelayMs: 3_600_000 });
  bench.fail(worker, [worker.take(dead)], { final: false, retryDelayMs: 0 });
  await turns();
  bench.fail(worker, [worker.take(dead)]);
  bench.complete(worker, [{ delivery: worker.take(completed), result: 'the result' }]);
  bench.complete(worker, [{ delivery: worker.take(empty) }]);
  bench.engine.commands.pauseQueue('q');
  bench.release(worker, [worker.take(ids[0])]);
  expect(worker.held.map(({ id }) => id)).toEqual([active, lost]);
  bench.removeWorker(worker, true);
  const back = bench.subscribe(['q'], 1);
  expect(bench.engine.resume(back.worker as CoreWorker, [{ id: active, attempt: 1 }]).size).toBe(1);
  return {
    ids,
    texts: () =>
      Promise.all(ids.map(async (id) => [await bench.payload(id), await bench.result(id), await bench.errors(id)])),
  };
}

describe('segments', () => {
  it('are given up when nothing in them is needed, and written again', async () => {
    const bench = await EngineBench.open({ retention: { ...KEEP_ALL, completedCountMax: 0 } });
    await churn(bench, 30);
    expect(bench.engine.journal.segmentCount).toBeLessThan(4);
    expect(bench.segmentNames()[0] > '0000000010').toBe(true);
    await bench.engine.close();
  });

  it('are given up though a few tasks are left in them: these are copied, whatever their state', async () => {
    const bench = await EngineBench.open({ retention: { ...KEEP_ALL, completedCountMax: 3 } });
    const { ids, texts } = await stragglers(bench);
    await bench.flush();
    const before = observe(bench.engine);
    const textsBefore = await texts();
    await churn(bench, 30);
    expect(bench.segmentNames()).not.toContain('0000000001.segment');
    const pick = (of: typeof before): unknown => ids.map((id) => of.tasks.get(id));
    expect(pick(observe(bench.engine))).toEqual(pick(before));
    expect(await texts()).toEqual(textsBefore);
    await bench.flush();
    await bench.crash();
    expect(pick(observe(bench.engine))).toEqual(pick(before));
    expect(await texts()).toEqual(textsBefore);
    expect(bench.engine.core.queue('q').paused).toBe(true);
    await bench.engine.close();
  });

  it('may be cleaned again and again, from one copy to the next', async () => {
    const bench = await EngineBench.open({ retention: { ...KEEP_ALL, completedCountMax: 3 } });
    const { ids, texts } = await stragglers(bench);
    await bench.flush();
    const [before, textsBefore] = [observe(bench.engine), await texts()];
    for (let i = 0; i < 4; i++) {
      await churn(bench, 25);
      await bench.restart();
    }
    const after = observe(bench.engine);
    expect(ids.map((id) => after.tasks.get(id))).toEqual(ids.map((id) => before.tasks.get(id)));
    expect(await texts()).toEqual(textsBefore);
    await bench.engine.close();
  });

  it('are not lost by a crash between the copy and the giving up', async () => {
    const bench = await EngineBench.open({ retention: { ...KEEP_ALL, completedCountMax: 3 } });
    const { ids, texts } = await stragglers(bench);
    await bench.flush();
    const [before, textsBefore] = [observe(bench.engine), await texts()];
    bench.disk.hold('rename');
    const cleaned = bench.disk.held('rename');
    await churn(bench, 20);
    await cleaned;
    expect(bench.segmentNames()).toContain('0000000001.segment');
    await bench.crash();
    const after = observe(bench.engine);
    expect(ids.map((id) => after.tasks.get(id))).toEqual(ids.map((id) => before.tasks.get(id)));
    expect(await texts()).toEqual(textsBefore);
    await churn(bench, 10);
    expect(bench.segmentNames()).not.toContain('0000000001.segment');
    expect(await texts()).toEqual(textsBefore);
    await bench.engine.close();
  });

  it('are not lost by a crash in the middle of copying', async () => {
    const bench = await EngineBench.open({ retention: { ...KEEP_ALL, completedCountMax: 3 } });
    const { ids, texts } = await stragglers(bench);
    await bench.flush();
    const [before, textsBefore] = [observe(bench.engine), await texts()];
    const { journal } = bench.engine;
    const append = journal.append.bind(journal);
    let copied = 0;
    journal.append = (type, ...parts) => {
      // SNAPSHOT: its write does not come back.
      if (type === 20 && copied++ === 0) bench.disk.hold('write');
      return append(type, ...parts);
    };
    const worker = await bench.addWorker(['filler'], 10);
    while (copied === 0) {
      bench.enqueue(['x'.repeat(9000)], FILLER);
      await turns();
      bench.complete(
        worker,
        worker.held.map((delivery) => ({ delivery })),
      );
      bench.clock.advance(1000);
      await turns(10);
    }
    await bench.crash();
    const after = observe(bench.engine);
    expect(ids.map((id) => after.tasks.get(id))).toEqual(ids.map((id) => before.tasks.get(id)));
    expect(await texts()).toEqual(textsBefore);
    await bench.engine.close();
  });

  it('are cleaned in records that a journal takes, though the results in them are large', async () => {
    const retention = { ...KEEP_ALL, completedCountMax: 30 };
    const bench = await EngineBench.open({ segmentBytes: 1024 * 1024, retention });
    const ids = bench.enqueue(Array.from({ length: 24 }, (_, i) => `p${i}`));
    const worker = await bench.addWorker(['q'], 24);
    const result = (id: number): string => `${id} `.padEnd(100_000, 'r');
    for (const id of ids) bench.complete(worker, [{ delivery: worker.take(id), result: result(id) }]);
    let largest = 0;
    const { journal } = bench.engine;
    const append = journal.append.bind(journal);
    journal.append = (type, ...parts) => {
      if (type === 20) largest = Math.max(largest, ...parts.map(({ length }) => length));
      return append(type, ...parts);
    };
    bench.engine.commands.setRetention('filler', { completedCountMax: 0 });
    await churn(bench, 70, 60_000);
    expect(bench.failures).toEqual([]);
    expect(largest).toBeGreaterThan(0);
    expect(largest).toBeLessThan(500_000);
    for (const id of ids) expect((await bench.result(id)) === result(id)).toBe(true);
    await bench.engine.close();
  });
});
