import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { TaskSpec } from '../../src/broker/contract.ts';
import type { CoreWorker } from '../../src/core/worker.ts';
import { NO_LIMITS, type QueueLimits } from '../../src/limits.ts';
import { limits } from './core-commands.ts';
import { type BenchWorker, type Delivery, EngineBench, SPEC, turns } from './engine-bench.ts';
import { FlowModel } from './flow-model.ts';

/** Limits and keys on a real engine, with its dispatcher, timers and journal, against what they allow. */
const RUNS = Number(process.env.MODEL_RUNS ?? 300);
const SEED = process.env.MODEL_SEED === undefined ? {} : { seed: Number(process.env.MODEL_SEED) };
const QUEUES = ['a', 'b'];
const ENDLESS: TaskSpec = { ...SPEC, maxAttempts: 1000, timeoutMs: 86_400_000 };

type Command =
  | { do: 'enqueue'; queue: number; priority: number; concurrencyKey: string; count: number }
  | { do: 'limit'; queue: number; limits: QueueLimits }
  | { do: 'complete' | 'fail' | 'release'; pick: number; count: number }
  | { do: 'addWorker'; concurrency: number; extra: number }
  | { do: 'loseWorker'; pick: number }
  | { do: 'advance'; ms: number }
  /** So many of the tasks that ran are kept by a worker that comes back. */
  | { do: 'restart'; isCrash: boolean; kept: number };

const pick = fc.nat(1000);
const queue = fc.nat(1);
const settle = fc.record({
  do: fc.constantFrom('complete' as const, 'complete' as const, 'fail' as const, 'release' as const),
  pick,
  count: fc.integer({ min: 1, max: 4 }),
});
const command: fc.Arbitrary<Command> = fc.oneof(
  {
    weight: 8,
    arbitrary: fc.record({
      do: fc.constant('enqueue' as const),
      queue,
      priority: fc.constantFrom(4, 4, 9),
      concurrencyKey: fc.constantFrom('', 'k', 'l', 'm'),
      count: fc.integer({ min: 1, max: 8 }),
    }),
  },
  { weight: 5, arbitrary: fc.record({ do: fc.constant('limit' as const), queue, limits }) },
  { weight: 12, arbitrary: settle },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant('addWorker' as const),
      concurrency: fc.integer({ min: 1, max: 5 }),
      extra: fc.nat(3),
    }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('loseWorker' as const), pick }) },
  {
    weight: 8,
    arbitrary: fc.record({ do: fc.constant('advance' as const), ms: fc.constantFrom(1, 2, 7, 20, 143, 1000) }),
  },
  {
    weight: 1,
    arbitrary: fc.record({ do: fc.constant('restart' as const), isCrash: fc.boolean(), kept: fc.nat(4) }),
  },
);

interface Task {
  readonly kind: { readonly queue: string; readonly priority: number; readonly concurrencyKey: string };
  state: 'waiting' | 'active' | 'over';
}

class History {
  readonly #bench: EngineBench;
  readonly #tasks = new Map<number, Task>();
  readonly #flows = new Map(QUEUES.map((name) => [name, new FlowModel()]));

  constructor(bench: EngineBench) {
    this.#bench = bench;
  }

  async run(command: Command): Promise<void> {
    const bench = this.#bench;
    switch (command.do) {
      case 'enqueue': {
        const { priority, concurrencyKey } = command;
        const name = QUEUES[command.queue] as string;
        const spec = { ...ENDLESS, queue: name, priority };
        const payloads = new Array(command.count).fill('x');
        const enqueue = (): number[] =>
          bench.enqueue(payloads, concurrencyKey === '' ? spec : { ...spec, concurrencyKey });
        const unfinished = this.#tasksIn('waiting', name).length + this.#tasksIn('active', name).length;
        if ((this.#flows.get(name) as FlowModel).takes(command.count, unfinished) === false) {
          expect(enqueue).toThrow(expect.objectContaining({ code: 'QUEUE_FULL' }));
          break;
        }
        for (const id of enqueue())
          this.#tasks.set(id, { kind: { queue: name, priority, concurrencyKey }, state: 'waiting' });
        break;
      }
      case 'limit':
        this.#limit(QUEUES[command.queue] as string, command.limits);
        break;
      case 'addWorker':
        if (bench.workers.length < 3) bench.subscribe(QUEUES, command.concurrency, command.concurrency + command.extra);
        break;
      case 'loseWorker': {
        const worker = bench.workers[command.pick % Math.max(1, bench.workers.length)];
        if (worker === undefined) break;
        for (const { id } of worker.held) this.#become(id, 'waiting');
        bench.removeWorker(worker, true);
        break;
      }
      case 'advance':
        // A timer is set anew only once what the one before it led to is over.
        bench.clock.advance(command.ms - 1);
        await turns();
        this.#checkDeliveries();
        bench.clock.advance(1);
        break;
      case 'restart':
        await this.#restart(command.isCrash, command.kept);
        break;
      default:
        this.#settle(command.do, command.pick, command.count);
    }
    await turns();
    this.#checkDeliveries();
    this.#checkLeft();
  }

  #limit(name: string, limits: QueueLimits): void {
    expect(this.#bench.engine.commands.setLimits(name, limits)).toEqual(limits);
    this.#flows.get(name)?.setLimits(limits);
  }

  #settle(how: 'complete' | 'fail' | 'release', pick: number, count: number): void {
    const bench = this.#bench;
    const busy = bench.workers.filter(({ held }) => held.length > 0);
    const worker = busy[pick % Math.max(1, busy.length)];
    if (worker === undefined) return;
    const chosen = worker.held.slice(pick % worker.held.length).slice(0, count);
    for (const { id } of chosen) this.#become(id, how === 'complete' ? 'over' : 'waiting');
    if (how === 'release') bench.release(worker, chosen);
    else if (how === 'fail') bench.fail(worker, chosen, { final: false, retryDelayMs: 0 });
    else {
      const done = chosen.map((delivery) => ({ delivery }));
      bench.complete(worker, done);
    }
  }

  /** The rate begins with a full bucket; what the worker that comes back keeps takes nothing from it. */
  async #restart(isCrash: boolean, kept: number): Promise<void> {
    const bench = this.#bench;
    const running = this.#in('active').map(([id]) => id);
    await bench.flush();
    if (isCrash) await bench.crash();
    else await bench.restart();
    for (const id of running) this.#become(id, 'waiting');
    for (const flow of this.#flows.values()) flow.beginAgain();
    const worker = bench.subscribe(QUEUES, 5, 8);
    const resumed = running.slice(0, kept).map((id) => ({ id, attempt: undefined }));
    for (const [id, token] of bench.engine.resume(worker.worker as CoreWorker, resumed)) {
      this.#become(id, 'active');
      worker.held.push({ id, token, attempt: 1, suspect: false, payload: 'x', spec: ENDLESS });
    }
    expect(worker.held.map(({ id }) => id)).toEqual(resumed.map(({ id }) => id));
  }

  #become(id: number, state: Task['state']): void {
    (this.#tasks.get(id) as Task).state = state;
  }

  #in(state: Task['state'], queue?: string): [number, Task][] {
    return [...this.#tasks].filter(
      ([, task]) => task.state === state && (queue ?? task.kind.queue) === task.kind.queue,
    );
  }

  #checkDeliveries(): void {
    const delivered = this.#bench.workers.flatMap((worker) => worker.seen.splice(0)).sort((a, b) => a.token - b.token);
    for (const { id } of delivered) this.#checkDelivery(id, this.#bench.clock.steadyMs());
  }

  /** While a worker has room nothing waits that may go; the engine's timer is late by up to a millisecond. */
  #checkLeft(): void {
    const { workers, clock } = this.#bench;
    const isRoom = workers.some((worker) => hasRoom(worker));
    for (const [name, flow] of this.#flows) {
      // Asked in any case: a key that may not go now loses its turn, though the room that there was went to another queue.
      const left = flow.next(this.#tasksIn('waiting', name), this.#tasksIn('active', name), clock.steadyMs() - 1);
      if (isRoom) expect(left, `may go from ${name}, and does not`).toEqual([]);
    }
  }

  #checkDelivery(id: number, nowMs: number): void {
    const task = this.#tasks.get(id) as Task;
    const { queue, priority, concurrencyKey } = task.kind;
    const flow = this.#flows.get(queue) as FlowModel;
    const [waiting, active] = [this.#tasksIn('waiting', queue), this.#tasksIn('active', queue)];
    expect(task.state, `task ${id}`).toBe('waiting');
    const turns = flow.next(waiting, active, nowMs).map(({ kind }) => kind);
    expect(turns, `${active.length} active`).toContainEqual({ queue, priority, concurrencyKey });
    flow.goes(task, waiting, active, nowMs);
    task.state = 'active';
  }

  #tasksIn(state: Task['state'], queue: string): Task[] {
    return this.#in(state, queue).map(([, task]) => task);
  }

  /** Without limits everything goes. */
  async finish(): Promise<void> {
    for (const name of QUEUES) this.#limit(name, NO_LIMITS);
    await this.run({ do: 'addWorker', concurrency: 5, extra: 3 });
    for (let left = this.#tasks.size; left > 0; left--) await this.run({ do: 'complete', pick: 0, count: 100 });
    expect([...this.#tasks.values()].filter(({ state }) => state !== 'over')).toEqual([]);
    await this.#bench.engine.close();
  }
}

function hasRoom({ held, worker }: { held: Delivery[]; worker: BenchWorker['worker'] }): boolean {
  return held.length < (worker as CoreWorker).prefetch;
}

describe('limits and keys', () => {
  it('let in and let go what they allow, at once, and nothing else, whatever is set, settled, lost, or begins again', {
    timeout: 3_600_000,
  }, async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(command, { minLength: 10, maxLength: 80, size: 'max' }), async (commands) => {
        const history = new History(await EngineBench.open());
        for (const each of commands) await history.run(each);
        await history.finish();
      }),
      { numRuns: RUNS, ...SEED },
    );
  });
});
