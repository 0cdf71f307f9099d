import { describe, expect, it } from 'vitest';
import { batchBody, EngineBench, KEEP_ALL, PRODUCER, SPEC, turns } from '../../test/model/engine-bench.ts';
import { MemoryDisk, seededRandom } from '../../test/twins/memory-disk.ts';
import type { CoreWorker } from '../core/worker.ts';
import { SEQUENCE_COUNT } from '../ids.ts';
import { LIMITS } from '../limits.ts';
import type { Confirmation } from './engine.ts';

const text = (count: number): string[] => Array.from({ length: count }, (_, i) => `p${i}`);

describe('an engine in memory', () => {
  it('delivers, completes and answers without any directory', async () => {
    const bench = await EngineBench.open({ directory: null });
    const [id] = bench.enqueue(['payload']);
    const outcome = bench.outcome(id);
    const worker = await bench.addWorker();
    expect(worker.held.map(({ payload }) => payload)).toEqual(['payload']);
    bench.complete(worker, [{ delivery: worker.held[0], result: 'done' }]);
    expect(await outcome).toEqual({ state: 'completed', result: Buffer.from('done') });
    await bench.engine.close();
  });
});

describe('a repeated batch', () => {
  it('gets the ids of the first one, before and after a restart, and adds no task', async () => {
    const bench = await EngineBench.open();
    const sections = [{ spec: SPEC, payloads: ['a', 'b'] }];
    const first = bench.enqueueBatch(1, sections);
    expect(bench.enqueueBatch(1, sections)).toEqual(first);
    await bench.restart();
    expect(bench.enqueueBatch(1, sections)).toEqual(first);
    await bench.flush();
    await bench.crash();
    expect(bench.enqueueBatch(1, sections)).toEqual(first);
    expect(bench.engine.core.queue('q').ready).toBe(2);
    await bench.engine.close();
  });

  it('gets the ids of the first one however long the server was away in between', async () => {
    const bench = await EngineBench.open();
    const sections = [{ spec: SPEC, payloads: ['a'] }];
    const first = bench.enqueueBatch(1, sections);
    await bench.flush();
    bench.clock.advance(LIMITS.producerIdleMs * 2);
    await bench.crash();
    bench.clock.advance(LIMITS.producerIdleMs - 1000);
    expect(bench.enqueueBatch(1, sections)).toEqual(first);
    await bench.engine.close();
  });

  it('of another producer is another batch', async () => {
    const bench = await EngineBench.open();
    const sections = [{ spec: SPEC, payloads: ['a'] }];
    const first = bench.enqueueBatch(1, sections);
    expect(bench.enqueueBatch(1, sections, PRODUCER.replaceAll('0', '1')).firstId).not.toBe(first.firstId);
    await bench.engine.close();
  });

  it('is remembered though the segment it was in has been given up', async () => {
    const bench = await EngineBench.open({ retention: { ...KEEP_ALL, completedCountMax: 0 } });
    const sections = [{ spec: SPEC, payloads: ['a'] }];
    const first = bench.enqueueBatch(1, sections);
    const worker = await bench.addWorker();
    for (let batch = 2; !bench.segmentNames().includes('0000000003.segment') || batch < 5; batch++) {
      bench.enqueueBatch(batch, [{ spec: SPEC, payloads: ['x'.repeat(3000)] }], PRODUCER.replaceAll('0', '1'));
      await turns();
      bench.complete(
        worker,
        worker.held.map((delivery) => ({ delivery })),
      );
      await bench.flush();
    }
    expect(bench.segmentNames()).not.toContain('0000000001.segment');
    await bench.restart();
    expect(bench.enqueueBatch(1, sections)).toEqual(first);
    await bench.engine.close();
  });

  it('that is older than what is remembered is refused, not taken anew', async () => {
    const bench = await EngineBench.open();
    const sections = [{ spec: SPEC, payloads: ['x'] }];
    for (let batch = 1; batch <= LIMITS.unconfirmedBatchesMax * 2 + 1; batch++) {
      bench.enqueueBatch(batch, sections, PRODUCER, 1);
    }
    const refused = expect.objectContaining({ code: 'CONFLICT', details: { producer: PRODUCER, batch: 1, bound: 2 } });
    expect(() => bench.enqueueBatch(1, sections)).toThrow(refused);
    await bench.restart();
    expect(() => bench.enqueueBatch(1, sections)).toThrow(refused);
    await bench.engine.close();
  });
});

describe('a batch that is refused', () => {
  it('leaves nothing behind, whichever of its sections was wrong', async () => {
    const bench = await EngineBench.open();
    const { core, journal } = bench.engine;
    const appended = journal.appendedSequence;
    const bad = batchBody(1, [
      { spec: SPEC, payloads: ['a'] },
      { spec: { ...SPEC, name: 'other' }, payloads: ['b'] },
    ]);
    // The last task's length goes beyond its section.
    bad.writeUInt32LE(99, bad.length - 5);
    expect(() => bench.engine.enqueue(PRODUCER, bad, 0, bad.length)).toThrow('malformed');
    expect(core.table.count).toBe(0);
    expect(core.queue('q').kindCount).toBe(0);
    expect(core.producers.find(PRODUCER, 1)).toBe(-1);
    expect(journal.appendedSequence).toBe(appended);
    await bench.engine.close();
  });
});

describe('a restart', () => {
  it('makes active tasks ready again, uncharged and in the order of their ids', async () => {
    const bench = await EngineBench.open();
    const ids = bench.enqueue(text(30));
    const low = bench.enqueue(text(3), { ...SPEC, priority: 1 });
    const high = bench.enqueue(text(3), { ...SPEC, priority: 9 });
    const worker = await bench.addWorker(['q'], 20);
    bench.fail(worker, [worker.held[5]], { final: false, retryDelayMs: 0 });
    await bench.flush();
    await bench.crash();
    const again = await bench.addWorker(['q'], 100);
    expect(again.held.map(({ id }) => id)).toEqual([...high, ...ids, ...low]);
    const failed = again.held.filter(({ attempt }) => attempt !== 1);
    expect(failed.map(({ id, attempt }) => [id, attempt])).toEqual([[worker.seen[5].id, 2]]);
    await bench.engine.close();
  });

  it('never gives an id or a token a second time, though what had them was never confirmed', async () => {
    const bench = await EngineBench.open({}, new MemoryDisk({ random: seededRandom(1) }));
    await bench.flush();
    bench.disk.hold('write');
    const before = bench.enqueue(text(5));
    const worker = await bench.addWorker();
    const tokens = worker.held.map(({ token }) => token);
    await bench.crash();
    const after = bench.enqueue(text(5));
    const again = await bench.addWorker();
    expect(after.filter((id) => before.includes(id))).toEqual([]);
    expect(again.held.filter(({ token }) => tokens.includes(token))).toEqual([]);
    expect(Math.floor(after[0] / SEQUENCE_COUNT)).toBeGreaterThan(Math.floor(before[0] / SEQUENCE_COUNT));
    expect(bench.complete(again, [{ delivery: { ...again.held[0], token: tokens[0] } }])).toEqual([again.held[0].id]);
    await bench.engine.close();
  });

  it('lets a worker that comes back keep what it runs', async () => {
    const bench = await EngineBench.open();
    const [id] = bench.enqueue(['a']);
    const worker = await bench.addWorker();
    const [old] = worker.held;
    await bench.flush();
    await bench.crash();
    const back = bench.subscribe(['q'], 1);
    const token = bench.engine.resume(back.worker as CoreWorker, [{ id, attempt: 1 }]).get(id) as number;
    await turns();
    expect(back.held).toEqual([]);
    expect(bench.complete(back, [{ delivery: { ...old, token } }])).toEqual([]);
    expect(bench.state(id)).toBe('completed');
    await bench.engine.close();
  });

  it('keeps nothing for a worker that comes back after another has failed the task meanwhile', async () => {
    const bench = await EngineBench.open();
    const [id] = bench.enqueue(['a']);
    await bench.addWorker();
    await bench.flush();
    await bench.crash();
    const other = await bench.addWorker();
    bench.fail(other, other.held, { final: false, retryDelayMs: 0 });
    bench.removeWorker(other, false);
    const back = bench.subscribe(['q'], 1);
    expect(bench.engine.resume(back.worker as CoreWorker, [{ id, attempt: 1 }]).size).toBe(0);
    await turns();
    expect(back.held.map(({ attempt }) => attempt)).toEqual([2]);
    await bench.engine.close();
  });

  it('knows that the attempt of a lost worker that came back was not charged', async () => {
    const bench = await EngineBench.open();
    const [id] = bench.enqueue(['a']);
    const lost = await bench.addWorker();
    bench.begin(lost);
    bench.removeWorker(lost, true);
    expect(await bench.errors(id)).toHaveLength(1);
    const back = bench.subscribe(['q'], 1);
    expect(bench.engine.resume(back.worker as CoreWorker, [{ id, attempt: 1 }]).size).toBe(1);
    expect(await bench.errors(id)).toEqual([]);
    await bench.flush();
    await bench.crash();
    expect(await bench.errors(id)).toEqual([]);
    expect(bench.engine.core.queue('q').totals.failed).toBe(0);
    expect((await bench.addWorker()).held.map(({ attempt }) => attempt)).toEqual([1]);
    await bench.engine.close();
  });

  it('keeps the wall clock of appointments and the steady clock of delays', async () => {
    const bench = await EngineBench.open();
    const nowMs = bench.clock.wallMs();
    const [at] = bench.enqueue(['a'], SPEC, { kind: 'at', ms: nowMs + 5000 });
    const [delayed] = bench.enqueue(['a'], SPEC, { kind: 'delay', ms: 3000 });
    await bench.restart();
    const worker = await bench.addWorker();
    bench.clock.advance(2999);
    await turns();
    expect(worker.held).toEqual([]);
    bench.clock.advance(2);
    await turns();
    expect(worker.held.map(({ id }) => id)).toEqual([delayed]);
    bench.clock.advance(2000);
    await turns();
    expect(worker.held.map(({ id }) => id)).toEqual([delayed, at]);
    await bench.engine.close();
  });

  it('counts on where it stopped, though segments with what was counted have been given up', async () => {
    const bench = await EngineBench.open({ retention: { ...KEEP_ALL, completedCountMax: 0, deadCountMax: 0 } });
    const expected = { enqueued: 0, completed: 0, failed: 0, dead: 0, cancelled: 0 };
    for (let round = 0; round < 20; round++) {
      const worker = await bench.addWorker(['q'], 10);
      bench.enqueue(Array.from({ length: 9 }, () => 'x'.repeat(1000)));
      await turns();
      bench.fail(worker, worker.held.slice(0, 3), { final: true, retryDelayMs: undefined });
      bench.complete(
        worker,
        // So long that it begins a segment, and nothing needs the one before any more.
        worker.held.map((delivery) => ({ delivery, result: 'r'.repeat(3000) })),
      );
      expected.enqueued += 9;
      expected.completed += 6;
      expected.failed += 3;
      expected.dead += 3;
      await bench.flush();
      if (round % 2 === 0) {
        await bench.restart();
      } else {
        bench.clock.advance(1000);
        await bench.flush();
        await bench.crash();
      }
      expect(bench.engine.core.queue('q').totals).toEqual(expected);
    }
    expect(bench.segmentNames()).not.toContain('0000000001.segment');
    await bench.engine.close();
  });

  it('applies a new default retention, but not to queues that have their own', async () => {
    const bench = await EngineBench.open();
    bench.engine.commands.setRetention('own', { completedCountMax: 7 });
    bench.enqueue(['a']);
    await bench.restart({ retention: { ...KEEP_ALL, completedCountMax: 3 } });
    expect(bench.engine.core.queue('q').retention.completedCountMax).toBe(3);
    expect(bench.engine.core.queue('own').retention.completedCountMax).toBe(7);
    await bench.engine.close();
  });
});

describe('time', () => {
  it('that the wall clock jumps makes appointments due within a second', async () => {
    const bench = await EngineBench.open();
    const [id] = bench.enqueue(['a'], SPEC, { kind: 'at', ms: bench.clock.wallMs() + 3_600_000 });
    const worker = await bench.addWorker();
    const { clock } = bench;
    Object.assign(clock, { wallMs: () => clock.steadyMs() + 3_600_000 });
    clock.advance(1000);
    await turns();
    expect(worker.held.map((delivery) => delivery.id)).toEqual([id]);
    await bench.engine.close();
  });

  it('that an attempt takes too much of is ended: charged, its worker told, the next one started', async () => {
    const bench = await EngineBench.open({ timeoutGraceMs: 500 });
    const spec = { ...SPEC, timeoutMs: 100, maxAttempts: 1 };
    const [slow, next] = bench.enqueue(['slow', 'next'], spec);
    const worker = await bench.addWorker(['q'], 1, 2);
    const outcome = bench.outcome(slow);
    bench.begin(worker, 1);
    await turns();
    bench.clock.advance(599);
    await turns();
    expect(bench.state(slow)).toBe('active');
    bench.clock.advance(2);
    await turns();
    expect(bench.state(slow)).toBe('dead');
    expect(worker.revoked).toEqual([{ id: slow, token: worker.seen[0].token, reason: 'lease-lost' }]);
    expect(JSON.parse(((await outcome) as { error: Buffer }).error.toString())).toMatchObject({ code: 'TASK_TIMEOUT' });
    // The next one's time began when it could run, not when it was delivered.
    expect(bench.state(next)).toBe('active');
    bench.begin(worker);
    await turns();
    bench.clock.advance(598);
    await turns();
    expect(bench.state(next)).toBe('active');
    bench.clock.advance(3);
    await turns();
    expect(bench.state(next)).toBe('dead');
    await bench.engine.close();
  });
});

describe('waiting for an outcome', () => {
  it('answers with the result, the last error, or that it was cancelled', async () => {
    const bench = await EngineBench.open();
    const [done, empty, dead, cancelled, purged] = bench.enqueue(text(5), { ...SPEC, maxAttempts: 1 });
    const outcomes = [done, empty, dead, cancelled, purged].map((id) => bench.outcome(id));
    const worker = await bench.addWorker(['q'], 3);
    bench.complete(worker, [{ delivery: worker.take(done), result: 'r\u00e9sult' }, { delivery: worker.take(empty) }]);
    (worker.worker as CoreWorker).paused = true;
    bench.fail(worker, [worker.take(dead)]);
    bench.engine.commands.cancel(cancelled);
    await bench.engine.commands.purgeQueue('q');
    expect(await Promise.all(outcomes)).toEqual([
      { state: 'completed', result: Buffer.from('r\u00e9sult') },
      { state: 'completed', result: undefined },
      { state: 'dead', error: expect.any(Buffer) },
      { state: 'cancelled' },
      { state: 'cancelled' },
    ]);
    await bench.engine.close();
  });

  it('answers at once for what has ended, also from a page that must be read again', async () => {
    const bench = await EngineBench.open({ cacheBytes: 64 * 1024 });
    const ids = bench.enqueue(text(40), { ...SPEC, maxAttempts: 1 });
    const worker = await bench.addWorker(['q'], 40);
    for (const id of ids) {
      if (id % 3 === 0) bench.fail(worker, [worker.take(id)], undefined, () => `${id}`.repeat(300));
      else bench.complete(worker, [{ delivery: worker.take(id), result: `${id} `.repeat(300) }]);
      await turns(1);
    }
    await bench.restart();
    for (const id of ids) {
      const outcome = await bench.outcome(id);
      if (outcome.state === 'dead') expect(outcome.error.toString()).toContain(`${id}`.repeat(300));
      else expect(outcome).toEqual({ state: 'completed', result: Buffer.from(`${id} `.repeat(300)) });
    }
    await bench.engine.close();
  });

  it('answers that there is no such task, when it is forgotten', async () => {
    const bench = await EngineBench.open({ retention: { ...KEEP_ALL, completedCountMax: 0 } });
    const [id] = bench.enqueue(['a']);
    const waiting = bench.outcome(id);
    const worker = await bench.addWorker();
    bench.complete(worker, [{ delivery: worker.held[0], result: 'r' }]);
    expect(await waiting).toEqual({ state: 'completed', result: Buffer.from('r') });
    expect(await bench.outcome(id)).toEqual({ state: 'notFound' });
    await bench.engine.close();
  });

  it('goes on when a dead task is retried while its error is read', async () => {
    const bench = await EngineBench.open({ cacheBytes: 16 * 1024 });
    const [id] = bench.enqueue(['a'], { ...SPEC, maxAttempts: 1 });
    const worker = await bench.addWorker(['q'], 1);
    bench.fail(worker, [worker.take(id)]);
    for (let i = 0; i < 20; i++) bench.enqueue(['x'.repeat(8000)], { ...SPEC, queue: 'filler' });
    await bench.flush();
    bench.disk.hold('read');
    const outcome = bench.outcome(id);
    await bench.disk.held('read');
    bench.engine.commands.retry(id);
    bench.disk.release();
    await turns(10);
    bench.complete(worker, [{ delivery: worker.take(id), result: 'second' }]);
    expect(await outcome).toEqual({ state: 'completed', result: Buffer.from('second') });
    await bench.engine.close();
  });
});

describe('a full disk', () => {
  it('refuses tasks and takes completions, until there is room again', async () => {
    const segmentBytes = 64 * 1024;
    const bench = await EngineBench.open({ segmentBytes });
    const [running] = bench.enqueue(['running']);
    const worker = await bench.addWorker(['q'], 1);
    await bench.flush();
    bench.disk.capacityBytes = 0;
    const filler = { ...SPEC, queue: 'filler' };
    const fill = async (): Promise<void> => {
      for (let i = 0; i < 100; i++) {
        bench.enqueue(['x'.repeat(3000)], filler);
        // The journal makes its files with pauses.
        bench.clock.advance(10);
        await turns();
      }
    };
    await expect(fill()).rejects.toMatchObject({ code: 'DISK_FULL' });
    const held = bench.engine.core.queue('filler').ready;
    expect(bench.notices.at(-1)).toContain('no new tasks are taken');
    bench.complete(worker, [{ delivery: worker.take(running), result: 'done' }]);
    await bench.flush();
    expect(bench.state(running)).toBe('completed');
    bench.disk.capacityBytes = Number.POSITIVE_INFINITY;
    for (let i = 0; i < 3; i++) {
      bench.clock.advance(1000);
      await turns(20);
    }
    expect(bench.notices.at(-1)).toContain('there is room');
    bench.enqueue(['after'], filler);
    await bench.flush();
    await bench.crash();
    expect(bench.engine.core.queue('filler').ready).toBe(held + 1);
    expect(bench.state(running)).toBe('completed');
    await bench.engine.close();
  });
});

describe('a batch that was refused while the disk was full', () => {
  it('is taken when it is sent again after later ones were taken, once and for good', async () => {
    const bench = await EngineBench.open();
    const send = (batch: number, payload = `payload ${batch}`): Confirmation =>
      bench.enqueueBatch(batch, [{ spec: SPEC, payloads: [payload] }], PRODUCER.replaceAll('0', '1'), 1);
    bench.disk.capacityBytes = 0;
    const fill = async (): Promise<void> => {
      for (let i = 0; i < 100; i++) {
        bench.enqueue(['x'.repeat(1500)], { ...SPEC, queue: 'filler' });
        // The journal makes its files with pauses.
        bench.clock.advance(10);
        await turns();
      }
    };
    await expect(fill()).rejects.toMatchObject({ code: 'DISK_FULL' });
    const large = 'x'.repeat(3000);
    expect(() => send(1, large)).toThrow(expect.objectContaining({ code: 'DISK_FULL' }));
    bench.disk.capacityBytes = Number.POSITIVE_INFINITY;
    for (let i = 0; i < 3; i++) {
      bench.clock.advance(1000);
      await turns(20);
    }
    const second = send(2);
    await bench.flush();
    await bench.crash();
    const first = send(1, large);
    expect(first.firstId).toBeGreaterThan(second.firstId);
    expect([send(1, large), send(2)]).toEqual([first, second]);
    await bench.flush();
    await bench.crash();
    expect([send(1, large), send(2)]).toEqual([first, second]);
    expect(bench.engine.core.queue('q').ready).toBe(2);
    await bench.engine.close();
  });
});

describe('a failed write', () => {
  it('is reported once, ends deliveries, and takes nothing more', async () => {
    const bench = await EngineBench.open();
    await bench.flush();
    bench.disk.fail('write', 'EIO');
    bench.enqueue(['a']);
    await turns();
    expect(bench.failures.map(({ code }) => code)).toEqual(['STORAGE_FAILED']);
    expect(() => bench.enqueue(['b'])).toThrow('writing the journal failed');
    expect(bench.engine.core.table.count).toBe(1);
    const worker = await bench.addWorker();
    expect(worker.held).toEqual([]);
    await expect(bench.engine.close()).rejects.toMatchObject({ code: 'STORAGE_FAILED' });
  });

  it('ends what time does: no timeout is charged and nothing is cleaned any more', async () => {
    const bench = await EngineBench.open();
    const ids = bench.enqueue(['a', 'b', 'c'], { ...SPEC, timeoutMs: 100 });
    const worker = await bench.addWorker();
    await bench.flush();
    bench.disk.fail('write', 'EIO');
    bench.enqueue(['d']);
    await turns();
    bench.clock.advance(10_000);
    await turns();
    expect(ids.map((id) => bench.state(id))).toEqual(['active', 'active', 'active']);
    expect(worker.revoked).toEqual([]);
    expect(bench.failures).toHaveLength(1);
    await expect(bench.engine.close()).rejects.toMatchObject({ code: 'STORAGE_FAILED' });
  });

  it('does not keep workers from leaving, not even one that runs what was to be cancelled', async () => {
    const bench = await EngineBench.open();
    const [id, other] = bench.enqueue(['a', 'b']);
    const worker = await bench.addWorker();
    bench.engine.commands.cancel(id);
    await bench.flush();
    bench.disk.fail('write', 'EIO');
    bench.enqueue(['c']);
    await turns();
    bench.removeWorker(worker, true);
    expect(bench.engine.core.assignments.workers.size).toBe(0);
    expect([bench.state(id), bench.state(other)]).toEqual(['ready', 'ready']);
    await expect(bench.engine.close()).rejects.toMatchObject({ code: 'STORAGE_FAILED' });
    await bench.crash();
    expect([bench.state(id), bench.state(other)]).toEqual(['cancelled', 'ready']);
    await bench.engine.close();
  });
});
