import { describe, expect, it } from 'vitest';
import { EngineBench, KEEP_ALL, SPEC, slowDown, turns } from '../../test/model/engine-bench.ts';
import { LIMITS } from '../limits.ts';
import { idRuns } from './records.ts';

describe('cancelling', () => {
  it('ends what waits at once, and asks for what runs', async () => {
    const bench = await EngineBench.open();
    const [ready] = bench.enqueue(['a']);
    const [scheduled] = bench.enqueue(['a'], SPEC, { kind: 'delay', ms: 1000 });
    expect([ready, scheduled].map((id) => bench.engine.commands.cancel(id))).toEqual(['cancelled', 'cancelled']);
    expect(() => bench.engine.commands.cancel(ready)).toThrow('is cancelled and cannot be cancelled');
    bench.clock.advance(2000);
    expect((await bench.addWorker()).held).toEqual([]);
    await bench.engine.close();
  });

  it('of a task that nobody knows says so', async () => {
    const bench = await EngineBench.open();
    expect(() => bench.engine.commands.cancel(12)).toThrow('does not exist');
    await bench.engine.close();
  });
});

describe('retrying', () => {
  it('gives a dead task its attempts again, and runs a scheduled one now', async () => {
    const bench = await EngineBench.open();
    const [dead] = bench.enqueue(['a'], { ...SPEC, maxAttempts: 2 });
    const worker = await bench.addWorker();
    bench.fail(worker, [worker.take(dead)], { final: true, retryDelayMs: undefined });
    const [scheduled] = bench.enqueue(['b'], SPEC, { kind: 'delay', ms: 1e6 });
    for (const id of [dead, scheduled]) bench.engine.commands.retry(id);
    await turns();
    expect(worker.held.map(({ id, attempt }) => [id, attempt])).toEqual([
      [dead, 1],
      [scheduled, 1],
    ]);
    expect(() => bench.engine.commands.retry(dead)).toThrow('is active and cannot be retried');
    await bench.engine.close();
  });

  it('of all dead tasks of a queue takes the longest dead first, and outlives a crash', async () => {
    const bench = await EngineBench.open();
    const ids = bench.enqueue(['a', 'b', 'c'], { ...SPEC, maxAttempts: 1 });
    const worker = await bench.addWorker();
    for (const id of [ids[2], ids[0], ids[1]]) {
      bench.clock.advance(1);
      bench.fail(worker, [worker.take(id)]);
    }
    bench.engine.commands.pauseQueue('q');
    expect(await bench.engine.commands.redriveQueue('q')).toBe(3);
    expect(await bench.engine.commands.redriveQueue('q')).toBe(0);
    const unknown = bench.engine.commands.redriveQueue('nobody');
    await expect(unknown).rejects.toThrow('queue "nobody" has never been used');
    await bench.flush();
    await bench.crash();
    expect(ids.map((id) => bench.state(id))).toEqual(['ready', 'ready', 'ready']);
    await bench.engine.close();
  });
});

describe('a paused queue', () => {
  it('delivers nothing until it goes on, also after a restart', async () => {
    const bench = await EngineBench.open();
    bench.engine.commands.pauseQueue('q');
    bench.enqueue(['a']);
    expect((await bench.addWorker()).held).toEqual([]);
    await bench.restart();
    const worker = await bench.addWorker();
    expect(worker.held).toEqual([]);
    bench.engine.commands.resumeQueue('q');
    await turns();
    expect(worker.held).toHaveLength(1);
    await bench.engine.close();
  });
});

describe('purging', () => {
  it('takes what waits, not what runs or has ended', async () => {
    const bench = await EngineBench.open();
    const [running] = bench.enqueue(['a']);
    await bench.addWorker(['q'], 1);
    const waiting = bench.enqueue(['b', 'c']);
    const [scheduled] = bench.enqueue(['d'], SPEC, { kind: 'delay', ms: 1000 });
    const [other] = bench.enqueue(['e'], { ...SPEC, queue: 'other' });
    expect(await bench.engine.commands.purgeQueue('q')).toBe(3);
    expect([running, ...waiting, scheduled, other].map((id) => bench.state(id))).toEqual([
      'active',
      'forgotten',
      'forgotten',
      'forgotten',
      'ready',
    ]);
    await bench.flush();
    await bench.crash();
    expect([running, ...waiting, scheduled, other].map((id) => bench.state(id))).toEqual([
      'ready',
      'forgotten',
      'forgotten',
      'forgotten',
      'ready',
    ]);
    await bench.engine.close();
  });

  it('of very many tasks leaves others their turn, and leaves what they enqueue', async () => {
    const bench = await EngineBench.open({ directory: null, segmentBytes: LIMITS.segmentBytes });
    for (let i = 0; i < 4; i++) bench.enqueue(new Array(50_000).fill(''));
    const [cancelled] = bench.enqueue(['c']);
    slowDown(bench);
    const purged = bench.engine.commands.purgeQueue('q');
    const left = bench.engine.core.queue('q').ready;
    expect(left).toBeGreaterThan(100_000);
    await turns(1);
    expect(bench.engine.core.queue('q').ready).toBeLessThan(left);
    bench.engine.commands.cancel(cancelled);
    const [kept] = bench.enqueue(['new']);
    expect(await purged).toBe(200_000);
    expect(bench.state(kept)).toBe('ready');
    expect(bench.engine.core.queue('q').ready).toBe(1);
    await bench.engine.close();
  });

  it('of more tasks than one record can name takes several', async () => {
    const bench = await EngineBench.open({ directory: null, segmentBytes: LIMITS.segmentBytes });
    const other = { ...SPEC, queue: 'other' };
    // Ids of two queues alternate, so that no two of one queue make a run.
    const sections = Array.from({ length: 60_000 }, (_, i) => ({ spec: i % 2 === 0 ? SPEC : other, payloads: [''] }));
    for (let batch = 1; batch <= 10; batch++) bench.enqueueBatch(batch, sections);
    const { journal } = bench.engine;
    const append = journal.append.bind(journal);
    let largest = 0;
    journal.append = (type, ...parts) => {
      largest = Math.max(largest, ...parts.map(({ length }) => length));
      return append(type, ...parts);
    };
    expect(await bench.engine.commands.purgeQueue('q')).toBe(300_000);
    expect(largest).toBeLessThan(2 * 1024 * 1024);
    expect(bench.engine.core.queue('q').ready).toBe(0);
    expect(bench.engine.core.queue('other').ready).toBe(300_000);
    await bench.engine.close();
  });
});

describe('retention', () => {
  it('that is lowered forgets at once, the oldest first', async () => {
    const bench = await EngineBench.open();
    const ids = bench.enqueue(['a', 'b', 'c']);
    const worker = await bench.addWorker();
    for (const id of ids) bench.complete(worker, [{ delivery: worker.take(id) }]);
    bench.engine.commands.setRetention('q', { completedCountMax: 1 });
    expect(ids.map((id) => bench.state(id))).toEqual(['forgotten', 'forgotten', 'completed']);
    expect(bench.engine.core.queue('q').retention).toEqual({ ...KEEP_ALL, completedCountMax: 1 });
    await bench.engine.close();
  });

  it('by age forgets within a second of its end', async () => {
    const bench = await EngineBench.open({ retention: { ...KEEP_ALL, completedAgeMs: 5000, deadAgeMs: 8000 } });
    const [done, dead] = bench.enqueue(['a', 'b'], { ...SPEC, maxAttempts: 1 });
    const worker = await bench.addWorker();
    bench.complete(worker, [{ delivery: worker.take(done), result: 'r' }]);
    bench.fail(worker, [worker.take(dead)]);
    bench.clock.advance(4999);
    expect([done, dead].map((id) => bench.state(id))).toEqual(['completed', 'dead']);
    bench.clock.advance(1001);
    expect([done, dead].map((id) => bench.state(id))).toEqual(['forgotten', 'dead']);
    await bench.restart();
    bench.clock.advance(3000);
    expect([done, dead].map((id) => bench.state(id))).toEqual(['forgotten', 'forgotten']);
    await bench.engine.close();
  });
});

describe('ids in a record', () => {
  it('are runs', () => {
    expect(idRuns([5, 6, 7, 9, 11, 12])).toEqual([5, 3, 9, 1, 11, 2]);
    expect(idRuns([])).toEqual([]);
    expect(idRuns([7, 6, 5])).toEqual([7, 1, 6, 1, 5, 1]);
  });
});
