import { describe, expect, it } from 'vitest';
import { EngineBench, SPEC, turns } from '../../test/model/engine-bench.ts';
import { body } from '../../test/support/frame-body.ts';
import type { CoreWorker } from '../core/worker.ts';
import { FRAME } from '../protocol/frames.ts';
import { CompletionWriter } from '../protocol/settlement-writer.ts';

async function withWorker(count: number, concurrency = count, prefetch = concurrency) {
  const bench = await EngineBench.open();
  const ids = bench.enqueue(
    Array.from({ length: count }, (_, i) => `p${i}`),
    SPEC,
  );
  const worker = await bench.addWorker(['q'], concurrency, prefetch);
  return { bench, ids, worker };
}

/** In two steps: what became due on the way may set another timer. */
async function pass(bench: EngineBench, ms: number): Promise<void> {
  for (const step of [ms - 10, 10]) {
    bench.clock.advance(step);
    await turns();
  }
}

describe('a completion', () => {
  it('under an old token, of another worker, or of nobody’s task is refused; the others of its frame count', async () => {
    const { bench, ids, worker } = await withWorker(4, 3);
    const other = await bench.addWorker(['q'], 1);
    const [first, second, third] = worker.held;
    const stale = { ...second, token: second.token - 1 };
    const refused = bench.complete(worker, [
      { delivery: first, result: 'one' },
      { delivery: stale, result: 'two' },
      { delivery: other.held[0], result: 'not mine' },
      { delivery: third, result: 'three' },
      { delivery: { ...third, id: 1 } },
    ]);
    expect(refused).toEqual([stale.id, other.held[0].id, 1]);
    expect(ids.map((id) => bench.state(id))).toEqual(['completed', 'active', 'completed', 'active']);
    expect([await bench.result(ids[0]), await bench.result(ids[2])]).toEqual(['one', 'three']);
    await bench.flush();
    await bench.crash();
    expect([await bench.result(ids[0]), await bench.result(ids[2])]).toEqual(['one', 'three']);
    expect(ids.map((id) => bench.state(id))).toEqual(['completed', 'ready', 'completed', 'ready']);
    await bench.engine.close();
  });

  it('of a whole run is taken with and without results', async () => {
    const { bench, ids, worker } = await withWorker(300);
    const [first] = worker.held;
    const bytes = body(FRAME.COMPLETE, (writer) => {
      const completions = new CompletionWriter(writer);
      const results = ids.slice(100).map((id) => (id % 2 === 0 ? `result ${id}` : undefined));
      completions.add(first.id, first.token, 100);
      completions.addWithResults(first.id + 100, first.token + 100, 200, results, 0);
      completions.finish();
    });
    const refused: number[] = [];
    bench.engine.settlements.complete(worker.worker as CoreWorker, bytes, 0, bytes.length, refused);
    expect(refused).toEqual([]);
    await bench.flush();
    await bench.crash();
    const results = await Promise.all(ids.map((id) => bench.result(id)));
    expect(results).toEqual(ids.map((id, i) => (i >= 100 && id % 2 === 0 ? `result ${id}` : undefined)));
    await bench.engine.close();
  });

  it('named twice in one frame counts once', async () => {
    const { bench, ids, worker } = await withWorker(1);
    const [delivery] = worker.held;
    bench.complete(worker, [
      { delivery, result: 'first' },
      { delivery, result: 'second' },
    ]);
    expect(await bench.result(ids[0])).toBe('first');
    expect(bench.engine.core.queue('q').totals.completed).toBe(1);
    await bench.restart();
    expect(await bench.result(ids[0])).toBe('first');
    expect(bench.engine.core.queue('q').totals.completed).toBe(1);
    await bench.engine.close();
  });

  it('in a frame that is malformed further on changes nothing', async () => {
    const { bench, ids, worker } = await withWorker(2);
    const bytes = body(FRAME.COMPLETE, (writer) => {
      const completions = new CompletionWriter(writer);
      const [first, second] = worker.held;
      completions.addWithResults(first.id, first.token, 1, ['result'], 0);
      completions.add(second.id, second.token + 5, 1);
      completions.finish();
    });
    const cut = bytes.subarray(0, bytes.length - 1);
    const { appendedSequence } = bench.engine.journal;
    const act = (): void => bench.engine.settlements.complete(worker.worker as CoreWorker, cut, 0, cut.length, []);
    expect(act).toThrow('malformed');
    expect(ids.map((id) => bench.state(id))).toEqual(['active', 'active']);
    expect(bench.engine.journal.appendedSequence).toBe(appendedSequence);
    await bench.engine.close();
  });
});

describe('a failure', () => {
  it('waits as its backoff says, or as the worker says, and counts', async () => {
    const { bench, ids, worker } = await withWorker(3);
    const [one, two, three] = worker.held;
    bench.fail(worker, [one]);
    bench.fail(worker, [two], { final: false, retryDelayMs: 200 });
    bench.fail(worker, [three], { final: true, retryDelayMs: undefined });
    expect(ids.map((id) => bench.state(id))).toEqual(['scheduled', 'scheduled', 'dead']);
    await turns();
    bench.clock.advance(201);
    await turns();
    expect(ids.map((id) => bench.state(id))).toEqual(['scheduled', 'active', 'dead']);
    bench.clock.advance(800);
    await turns();
    expect(worker.held.map(({ id, attempt }) => [id, attempt])).toEqual([
      [ids[1], 2],
      [ids[0], 2],
    ]);
    await bench.engine.close();
  });

  it('ends the task dead with its last attempt, and keeps every error', async () => {
    const { bench, ids, worker } = await withWorker(1);
    for (let attempt = 1; attempt <= 3; attempt++) {
      bench.fail(worker, [worker.take(ids[0])], { final: false, retryDelayMs: 0 });
      await turns();
    }
    expect(bench.state(ids[0])).toBe('dead');
    expect(await bench.errors(ids[0])).toEqual([1, 2, 3].map((attempt) => `error of ${ids[0]} in attempt ${attempt}`));
    await bench.engine.close();
  });

  it('named twice in one frame is refused the second time', async () => {
    const { bench, ids, worker } = await withWorker(1);
    const [delivery] = worker.held;
    expect(bench.fail(worker, [delivery, delivery])).toEqual([ids[0]]);
    expect(await bench.errors(ids[0])).toHaveLength(1);
    await bench.engine.close();
  });

  it('of a task whose cancelling was asked for cancels it', async () => {
    const { bench, ids, worker } = await withWorker(1);
    expect(bench.engine.commands.cancel(ids[0])).toBe('requested');
    expect(bench.engine.commands.cancel(ids[0])).toBe('requested');
    expect(worker.revoked.map(({ id, reason }) => [id, reason])).toEqual([[ids[0], 'cancelled']]);
    bench.fail(worker, [worker.take(ids[0])]);
    expect(bench.state(ids[0])).toBe('cancelled');
    await bench.restart();
    expect(bench.state(ids[0])).toBe('cancelled');
    await bench.engine.close();
  });
});

describe('a worker that is lost', () => {
  it('is charged for what it had begun, not for what waited at it; all come first again, in order', async () => {
    const { bench, ids, worker } = await withWorker(6, 3, 4);
    expect(worker.held.map(({ id }) => id)).toEqual(ids.slice(0, 4));
    bench.begin(worker, 2);
    bench.removeWorker(worker, true);
    const next = await bench.addWorker(['q'], 10);
    expect(next.held.map(({ id, attempt }) => [id, attempt])).toEqual(ids.map((id, i) => [id, i < 2 ? 2 : 1]));
    await bench.engine.close();
  });

  it('is charged for nothing that it did not say, and all that it held is suspect until an attempt has ended', async () => {
    const { bench, ids, worker } = await withWorker(5, 3, 4);
    bench.begin(worker, 1);
    bench.removeWorker(worker, true);
    const next = await bench.addWorker(['q'], 10);
    expect(next.held.map(({ id, attempt, suspect }) => [id, attempt, suspect])).toEqual(
      ids.map((id, i) => [id, i === 0 ? 2 : 1, i < 4]),
    );
    bench.fail(next, [next.take(ids[1])], { final: false, retryDelayMs: 0 });
    await turns();
    expect(next.held.at(-1)).toMatchObject({ id: ids[1], attempt: 2, suspect: false });
    await bench.engine.close();
  });

  it('kills no more tasks than their attempts allow, and ends these dead', async () => {
    const { bench, ids, worker } = await withWorker(1);
    for (let victim = worker, i = 0; i < 3; i++) {
      bench.begin(victim);
      bench.removeWorker(victim, true);
      victim = await bench.addWorker(['q'], 1);
    }
    expect(bench.state(ids[0])).toBe('dead');
    expect(await bench.errors(ids[0])).toHaveLength(3);
    await bench.engine.close();
  });

  it('that only stops is charged for nothing', async () => {
    const { bench, worker } = await withWorker(6, 2, 4);
    bench.removeWorker(worker, false);
    const next = await bench.addWorker(['q'], 10);
    expect(next.held.every(({ attempt }) => attempt === 1)).toBe(true);
    await bench.engine.close();
  });

  it('does not bring back what was to be cancelled', async () => {
    const { bench, ids, worker } = await withWorker(4, 1, 4);
    for (const id of ids) bench.engine.commands.cancel(id);
    bench.removeWorker(worker, true);
    expect(ids.map((id) => bench.state(id))).toEqual(['cancelled', 'cancelled', 'cancelled', 'cancelled']);
    await bench.engine.close();
  });
});

describe('the time of an attempt', () => {
  it('counts from when the worker has begun it, as it says', async () => {
    const { bench, ids, worker } = await withWorker(3);
    bench.engine.begun(worker.worker as CoreWorker, worker.held[1].token);
    await turns();
    bench.clock.advance(30_000);
    bench.engine.begun(worker.worker as CoreWorker, worker.held[2].token);
    await turns();
    bench.clock.advance(33_000);
    await turns();
    expect(worker.revoked.map(({ id }) => id)).toEqual([ids[0], ids[1]]);
    await pass(bench, 30_000);
    expect(worker.revoked.map(({ id }) => id)).toEqual(ids);
    await bench.engine.close();
  });

  it('counts for one task after the other when handlers leave the worker no time to say so', async () => {
    const { bench, ids, worker } = await withWorker(40);
    for (const id of ids) {
      bench.clock.advance(50_000);
      await turns();
      bench.complete(worker, [{ delivery: worker.take(id) }]);
      await turns();
    }
    expect(ids.every((id) => bench.state(id) === 'completed')).toBe(true);
    expect(worker.revoked).toEqual([]);
    await bench.engine.close();
  });

  it('is not over for what only waits at a worker that is there', async () => {
    const bench = await EngineBench.open({ timeoutGraceMs: 500 });
    const ids = bench.enqueue(['a', 'b', 'c'], SPEC);
    const worker = await bench.addWorker(['q'], 3);
    bench.begin(worker, 1);
    await turns();
    await pass(bench, 60_600);
    expect(worker.probes).toBe(1);
    bench.engine.heard(worker.worker as CoreWorker);
    await turns();
    await pass(bench, 600);
    expect(ids.map((id) => bench.state(id))).toEqual(['scheduled', 'active', 'active']);
    expect(worker.revoked.map(({ id }) => id)).toEqual([ids[0]]);
    await bench.engine.close();
  });

  it('ends for a worker that gives no sign of life: what it has not begun goes to others, uncharged and suspect', async () => {
    const bench = await EngineBench.open({ timeoutGraceMs: 500 });
    const ids = bench.enqueue(['a', 'b', 'c'], SPEC);
    const silent = await bench.addWorker(['q'], 2, 3);
    await pass(bench, 60_600);
    expect([silent.probes, silent.revoked]).toEqual([1, []]);
    await pass(bench, 600);
    expect(silent.revoked.map(({ id }) => id).sort()).toEqual(ids);
    // It gets nothing, until it is heard of.
    expect(ids.map((id) => bench.state(id))).toEqual(['ready', 'ready', 'ready']);
    const other = await bench.addWorker(['q'], 1, 1);
    expect(other.held).toMatchObject([{ id: ids[0], attempt: 1, suspect: true }]);
    bench.engine.heard(silent.worker as CoreWorker);
    await turns();
    expect(silent.held.map(({ id, attempt }) => [id, attempt])).toEqual([
      [ids[1], 1],
      [ids[2], 1],
    ]);
    await bench.engine.close();
  });
});

describe('a task whose worker is lost in its last attempt', () => {
  async function lost() {
    const bench = await EngineBench.open({ lostGraceMs: 5000 });
    const [id] = bench.enqueue(['a'], { ...SPEC, maxAttempts: 1 });
    const worker = await bench.addWorker(['q'], 1);
    bench.begin(worker);
    bench.removeWorker(worker, true);
    await turns();
    return { bench, id };
  }

  it('goes on when its worker comes back soon', async () => {
    const { bench, id } = await lost();
    const other = await bench.addWorker(['q'], 1);
    expect(other.held).toEqual([]);
    bench.clock.advance(4000);
    const back = bench.subscribe(['q'], 1);
    const token = bench.engine.resume(back.worker as CoreWorker, [{ id, attempt: 1 }]).get(id) as number;
    await turns();
    bench.clock.advance(4000);
    await turns();
    bench.complete(back, [
      { delivery: { id, token, attempt: 1, suspect: false, payload: 'a', spec: SPEC }, result: 'r' },
    ]);
    expect(bench.state(id)).toBe('completed');
    expect(bench.engine.core.queue('q').totals.failed).toBe(0);
    await bench.engine.close();
  });

  it('is dead when its worker does not', async () => {
    const { bench, id } = await lost();
    expect(bench.state(id)).toBe('active');
    bench.clock.advance(5001);
    await turns();
    expect(bench.state(id)).toBe('dead');
    expect(await bench.errors(id)).toHaveLength(1);
    await bench.engine.close();
  });

  it('is kept for that worker only, when another was lost with it before', async () => {
    const bench = await EngineBench.open({ lostGraceMs: 5000 });
    const [id] = bench.enqueue(['a'], { ...SPEC, maxAttempts: 2 });
    for (let attempt = 1; attempt <= 2; attempt++) {
      const worker = await bench.addWorker(['q'], 1);
      bench.begin(worker);
      bench.removeWorker(worker, true);
      await turns();
    }
    expect(bench.state(id)).toBe('active');
    const comesBack = (attempt: number): number =>
      bench.engine.resume(bench.subscribe(['q'], 1).worker as CoreWorker, [{ id, attempt }]).size;
    expect(comesBack(1)).toBe(0);
    expect(comesBack(2)).toBe(1);
    expect(await bench.errors(id)).toHaveLength(1);
    await bench.engine.close();
  });

  it('is cancelled at once when it is to be', async () => {
    const { bench, id } = await lost();
    expect(bench.engine.commands.cancel(id)).toBe('cancelled');
    expect(bench.state(id)).toBe('cancelled');
    bench.clock.advance(5001);
    await turns();
    expect(bench.state(id)).toBe('cancelled');
    await bench.engine.close();
  });
});

describe('a release', () => {
  it('puts tasks back in front, in their order, uncharged and unjournaled', async () => {
    const { bench, ids, worker } = await withWorker(5, 3);
    const { appendedSequence } = bench.engine.journal;
    (worker.worker as CoreWorker).paused = true;
    expect(bench.release(worker, worker.held)).toEqual([]);
    expect(bench.engine.journal.appendedSequence).toBe(appendedSequence);
    const next = await bench.addWorker(['q'], 10);
    expect(next.held.map(({ id, attempt }) => [id, attempt])).toEqual(ids.map((id) => [id, 1]));
    await bench.engine.close();
  });

  it('of what is not held is refused', async () => {
    const { bench, ids, worker } = await withWorker(2);
    const [one, two] = worker.held;
    expect(bench.release(worker, [{ ...one, token: one.token + 9 }, two])).toEqual([ids[0]]);
    await bench.engine.close();
  });
});
