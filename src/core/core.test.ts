import { describe, expect, it } from 'vitest';
import { Bench, EPOCH, KEEP_ALL, NOW_MS, READER } from '../../test/model/core-bench.ts';
import { LIMITS } from '../limits.ts';
import { NONE, State } from './task-table.ts';

describe('a core that is loading', () => {
  it('replaces the only task of its kind by its copy', () => {
    const bench = new Bench();
    const id = bench.enqueue(1);
    bench.restore(id, State.READY, 0, 5);
    bench.core.loaded(0);
    expect(bench.core.kindOf(bench.core.index.get(id)).spec).toEqual(bench.spec());
    expect(bench.references).toEqual(
      new Map([
        [1, 0],
        [5, 1],
      ]),
    );
    expect(bench.core.queue('q').kindCount).toBe(1);
  });

  it('finds a dead task that is retried, though copies have changed the order of the dead', () => {
    // Before: 0 and 1 died, 0 was copied forward, 2 died and 0 was forgotten for it, 1 was retried.
    const bench = new Bench({ ...KEEP_ALL, deadCountMax: 2 });
    const first = bench.enqueue(3);
    bench.kill(first, NOW_MS + 1);
    bench.kill(first + 1, NOW_MS + 2);
    bench.restore(first, State.DEAD, NOW_MS + 1, 3);
    bench.kill(first + 2, NOW_MS + 3);
    bench.core.retry(bench.core.index.get(first + 1), NOW_MS + 4);
    bench.core.loaded(0);
    expect(bench.state(first + 1)).toBe('ready');
    expect(bench.state(first + 2)).toBe('dead');
  });

  it('forgets the longest dead when it is loaded, wherever their copies stood in the log', () => {
    const bench = new Bench({ ...KEEP_ALL, deadCountMax: 2 });
    const first = bench.enqueue(4);
    for (let i = 0; i < 4; i++) bench.kill(first + i, NOW_MS + i);
    bench.restore(first, State.DEAD, NOW_MS, 3);
    bench.core.enforceRetention(bench.core.queue('q'));
    bench.core.loaded(0);
    expect([0, 1, 2, 3].map((i) => bench.state(first + i))).toEqual(['forgotten', 'forgotten', 'dead', 'dead']);
    expect(bench.references).toEqual(
      new Map([
        [1, 2],
        [2, 2],
        [3, 0],
      ]),
    );
  });

  it('expires what ended first, wherever its copy stood in the log', () => {
    const bench = new Bench({ ...KEEP_ALL, completedAgeMs: 100 });
    const first = bench.enqueue(2);
    bench.core.complete(bench.core.index.get(first), NOW_MS, NONE, 0);
    bench.core.complete(bench.core.index.get(first + 1), NOW_MS + 50, NONE, 0);
    bench.restore(first, State.COMPLETED, NOW_MS, 3);
    bench.core.loaded(0);
    bench.core.expire(NOW_MS + 100, 10);
    expect([bench.state(first), bench.state(first + 1)]).toEqual(['forgotten', 'completed']);
  });

  it('takes more queues and kinds than a running one may have: what had expired comes back for a while', () => {
    const bench = new Bench();
    for (let i = 0; i <= LIMITS.queuesMax; i++) bench.enqueue(1, 1, { queue: `q${i}` });
    for (let i = 0; i <= LIMITS.kindsMax - LIMITS.queuesMax; i++) bench.enqueue(1, 1, { timeoutMs: 100 + i });
    expect(bench.core.queues.size).toBe(LIMITS.queuesMax + 2);
    bench.core.loaded(0);
    expect(() => bench.enqueue(1, 1, { name: 'new' })).toThrow(
      expect.objectContaining({ code: 'QUEUE_FULL', details: { bound: LIMITS.kindsMax } }),
    );
  });

  it('lists ready tasks by id and names those whose cancelling was asked for', () => {
    const bench = new Bench();
    const first = bench.enqueue(3);
    bench.core.requestCancel(bench.core.index.get(first + 1));
    bench.restore(first, State.READY, 0, 7);
    const cancelled = bench.core.loaded(0);
    expect(cancelled.map((slot) => bench.core.table.id(slot))).toEqual([first + 1]);
    const worker = bench.core.queues.addWorker(['q'], 9, 9, NOW_MS);
    const out = new Uint32Array(9);
    const count = bench.core.take(worker, bench.core.queue('q'), 9, 1e6, READER, NOW_MS, out);
    expect([...out.subarray(0, count)].map((slot) => bench.core.table.id(slot))).toEqual([first, first + 1, first + 2]);
  });
});

describe('a lost worker’s task', () => {
  it('is not uncharged any more once another attempt has failed', () => {
    const bench = new Bench();
    bench.core.loaded(0);
    const id = bench.enqueue(1);
    const slot = bench.core.index.get(id);
    const { core } = bench;
    const fail = (attempt: number, lost: boolean): void =>
      core.fail(slot, { attempt, atMs: NOW_MS, segment: 2, offset: attempt }, 'retry', NOW_MS, lost);
    const worker = core.queues.addWorker(['q'], 1, 1, NOW_MS);
    const out = new Uint32Array(1);
    core.take(worker, core.queue('q'), 1, 1e6, READER, NOW_MS, out);
    fail(1, true);
    core.take(worker, core.queue('q'), 1, 1e6, READER, NOW_MS, out);
    fail(2, false);
    expect(core.resume(worker, id, 3, NOW_MS)?.charged).toBe(false);
    expect(core.table.attempts(slot)).toBe(2);
  });
});

describe('a worker that comes back', () => {
  it('keeps the attempt that it was given after another worker was lost with the one before', () => {
    const bench = new Bench();
    bench.core.loaded(0);
    const id = bench.enqueue(1);
    const slot = bench.core.index.get(id);
    const { core } = bench;
    const worker = core.queues.addWorker(['q'], 1, 1, NOW_MS);
    const take = (): number => core.take(worker, core.queue('q'), 1, 1e6, READER, NOW_MS, new Uint32Array(1));
    take();
    core.fail(slot, { attempt: 1, atMs: NOW_MS, segment: 2, offset: 1 }, 'retry', NOW_MS, true);
    take();
    core.release(slot, NOW_MS);
    expect(core.resume(worker, id, 2, NOW_MS)?.charged).toBe(false);
    core.release(slot, NOW_MS);
    expect(core.resume(worker, id, 1, NOW_MS)?.charged).toBe(true);
  });
});

describe('queues at their limit', () => {
  function full(): Bench {
    const bench = new Bench();
    bench.core.loaded(0);
    for (let i = 0; i < LIMITS.queuesMax; i++) bench.core.queue(`unused${i}`);
    return bench;
  }

  it('give way to new ones as long as nobody uses them', () => {
    const bench = full();
    const id = bench.enqueue(1, 1, { queue: 'new' });
    expect(bench.core.queues.get('new')).toBe(bench.core.kindOf(bench.core.index.get(id)).queue);
  });

  it('stay whole while a worker subscribes to several of them', () => {
    const bench = full();
    // All but one are in use, so that each new name drops what is unused.
    for (let i = 0; i < LIMITS.queuesMax - 1; i++) bench.core.queue(`unused${i}`).paused = true;
    bench.core.queue('one');
    expect(() => bench.core.queues.addWorker(['one', 'two'], 1, 1, NOW_MS)).toThrow('use fewer queues');
    expect(bench.core.queue('one').workers).toEqual([]);
    expect(bench.core.assignments.workers.size).toBe(0);
  });

  it('are the ones that a worker listens to', () => {
    const bench = full();
    const worker = bench.core.queues.addWorker(['one', 'two'], 2, 2, NOW_MS);
    expect(worker.queues).toEqual([bench.core.queues.get('one'), bench.core.queues.get('two')]);
    bench.core.queues.removeWorker(worker);
    for (let i = 0; i < LIMITS.queuesMax; i++) bench.core.queue(`other${i}`);
    const again = bench.core.queues.addWorker(['three', 'four'], 2, 2, NOW_MS);
    expect(again.queues.map(({ name }) => bench.core.queues.has(name))).toEqual([true, true]);
  });
});

describe('ids and tokens', () => {
  it('of an epoch never come in another', () => {
    const bench = new Bench();
    bench.core.loaded(0);
    const before = bench.enqueue(3);
    bench.core.ids.begin(2);
    expect(bench.enqueue(1)).toBe(2 * EPOCH);
    expect(before).toBe(EPOCH);
    expect(() => bench.core.ids.begin(2)).toThrow('epochs only grow');
  });

  it('run out with a broken invariant, not with an id of the next epoch', () => {
    const bench = new Bench();
    bench.core.loaded(0);
    bench.core.ids.reserveIds(EPOCH - 1);
    expect(bench.core.ids.left).toBe(1);
    bench.core.ids.reserveIds(1);
    expect(() => bench.core.ids.reserveIds(1)).toThrow('no id left');
  });
});
