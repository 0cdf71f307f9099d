import { describe, expect, it } from 'vitest';
import { Bench, KEEP_ALL, NOW_MS, READER } from '../../test/model/core-bench.ts';
import { NO_LIMITS } from '../limits.ts';
import { PARENT_END, type RelationsOf, type UniqueClaim } from './relations.ts';
import { NONE, State } from './task-table.ts';

const HOUR_MS = 3_600_000;
const CANCEL = 0;
const UNFINISHED: UniqueClaim = { queue: 'q', key: 'k', scope: 'unfinished', untilMs: 0 };
const FOR_AN_HOUR: UniqueClaim = { queue: 'q', key: 'k', scope: 'time', untilMs: NOW_MS + HOUR_MS };

function loaded(keep: Partial<typeof KEEP_ALL> = {}): Bench {
  const bench = new Bench({ ...KEEP_ALL, ...keep });
  bench.core.loaded(NOW_MS);
  return bench;
}

function unique(bench: Bench, claim: UniqueClaim): number {
  const id = bench.enqueue(1);
  bench.core.relate([{ id, edges: [], ends: [], unique: claim }], NOW_MS);
  return id;
}

function child(bench: Bench, parent: number): number {
  const id = bench.enqueue(1);
  const edges = [{ id: parent, onFailure: CANCEL } as const];
  bench.core.relate([{ id, edges, ends: [bench.core.relations.endOf(parent)], unique: undefined }], NOW_MS);
  return id;
}

function complete(bench: Bench, id: number, atMs = NOW_MS): void {
  bench.core.complete(bench.core.index.get(id), atMs, NONE, 0);
}

/** Ends as many tasks as it takes for retention to forget what it may. */
function fill(bench: Bench): void {
  for (let i = 0; i < 3; i++) complete(bench, bench.enqueue(1));
}

describe('a unique key', () => {
  it('stays with the task that took it last, though the one before is copied forward after it', () => {
    const bench = new Bench();
    const first = unique(bench, UNFINISHED);
    complete(bench, first);
    const held = bench.core.relations.of(first) as RelationsOf;
    const second = unique(bench, UNFINISHED);
    const lost = bench.core.relations.of(first) as RelationsOf;
    expect([held.isKeyLost, lost.isKeyLost]).toEqual([false, true]);
    bench.restore(first, State.COMPLETED, NOW_MS, 5, lost);
    bench.core.loaded(NOW_MS);
    expect(bench.core.relations.holder('q', 'k', NOW_MS)).toBe(second);
    expect(bench.core.relations.uniqueKey(first)).toBe('k');
  });

  it('that holds for a time keeps its task also when its children have ended, and no longer than that', () => {
    const bench = loaded({ completedCountMax: 1 });
    const parent = unique(bench, FOR_AN_HOUR);
    const last = child(bench, parent);
    complete(bench, parent);
    complete(bench, last);
    fill(bench);
    expect(bench.state(parent)).toBe('completed');
    expect(bench.core.relations.holder('q', 'k', NOW_MS + 1)).toBe(parent);
    bench.core.expire(NOW_MS + HOUR_MS + 1000, 100);
    fill(bench);
    expect(bench.state(parent)).toBe('forgotten');
    expect(bench.core.relations.holder('q', 'k', NOW_MS + 1)).toBe(-1);
  });

  it('whose time is over leaves its task to a child that has not ended', () => {
    const bench = loaded({ completedCountMax: 1 });
    const parent = unique(bench, FOR_AN_HOUR);
    const last = child(bench, parent);
    complete(bench, parent);
    fill(bench);
    bench.core.expire(NOW_MS + HOUR_MS + 1000, 100);
    expect(bench.state(parent)).toBe('completed');
    complete(bench, last, NOW_MS + HOUR_MS + 2000);
    fill(bench);
    expect(bench.state(parent)).toBe('forgotten');
  });

  it('is let go a portion at a time', () => {
    const bench = loaded({ completedCountMax: 0 });
    const ids = Array.from({ length: 5 }, (_, i) => unique(bench, { ...FOR_AN_HOUR, key: `k${i}` }));
    for (const id of ids) complete(bench, id);
    const kept = (): number => ids.filter((id) => bench.state(id) !== 'forgotten').length;
    const counts = [kept()];
    for (let i = 0; i < 3; i++) {
      bench.core.expire(NOW_MS + HOUR_MS + 1000, 2);
      counts.push(kept());
    }
    expect(counts).toEqual([5, 3, 1, 0]);
  });
});

describe('tasks that are submitted together', () => {
  it('are all cancelled when the first must be, though nothing is retained', () => {
    const bench = loaded({ completedCountMax: 0 });
    const dead = bench.enqueue(1);
    bench.kill(dead, NOW_MS);
    const ids = [0, 1, 2].map(() => bench.enqueue(1));
    const tasks = ids.map((id, index) => ({
      id,
      edges: [{ id: ids[index - 1] ?? dead, onFailure: CANCEL } as const],
      ends: [index === 0 ? PARENT_END.dead : PARENT_END.open],
      unique: undefined,
    }));
    bench.core.relate(tasks, NOW_MS);
    expect(ids.map((id) => bench.state(id))).toEqual(['forgotten', 'forgotten', 'forgotten']);
    const { blocked, ready, totals } = bench.core.queue('q');
    expect([blocked, ready, totals.cancelled]).toEqual([0, 0, 3]);
  });
});

describe('a rate and a concurrency', () => {
  it('together do not wake anybody while handlers are busy', () => {
    const bench = loaded();
    const { core } = bench;
    const queue = core.queue('q');
    const rate = { count: 1, periodMs: 1000, burst: 1 };
    core.queues.setLimits(queue, { ...NO_LIMITS, concurrency: 1, rate }, NOW_MS);
    bench.enqueue(2);
    const worker = core.queues.addWorker(['q'], 5, 5, NOW_MS);
    const out = new Uint32Array(5);
    let wakes = 0;
    for (let nowMs = NOW_MS; nowMs < NOW_MS + 10_000; nowMs = Math.max(core.nextSteadyMs(), nowMs + 1)) {
      wakes++;
      core.tick(nowMs, nowMs, 100);
      for (const marked of core.queues.marked.splice(0)) {
        marked.marked = false;
        core.take(worker, marked, 5, 1e6, READER, nowMs, out);
      }
    }
    expect(queue.active).toBe(1);
    expect(wakes).toBeLessThanOrEqual(2);
  });
});
