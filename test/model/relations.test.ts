import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { OnParentFailure } from '../../src/broker/contract.ts';
import { formatTaskId } from '../../src/ids.ts';
import { BatchWriter } from '../../src/protocol/batch-writer.ts';
import { HEADER_BYTES } from '../../src/protocol/frames.ts';
import { packTrailer } from '../../src/protocol/submission.ts';
import { BufferPool } from '../../src/protocol/writer.ts';
import { type BenchWorker, EngineBench, KEEP_ALL, PRODUCER, SPEC, turns } from './engine-bench.ts';

/** Random graphs on a real engine and journal, against plain objects: with failures, cancels, redrives, crashes, restarts. */
const RUNS = Number(process.env.MODEL_RUNS ?? 150);
const SEED = process.env.MODEL_SEED === undefined ? {} : { seed: Number(process.env.MODEL_SEED) };
const ONCE = { ...SPEC, maxAttempts: 1 };

type Parent = { back: number; onFailure: OnParentFailure };
type Command =
  | { do: 'submit'; parents: Parent[][]; bytes: number }
  | { do: 'complete' | 'fail' | 'cancel' | 'retry'; pick: number }
  | { do: 'advance'; ms: number }
  | { do: 'crash' | 'restart' };

const parent: fc.Arbitrary<Parent> = fc.record({
  back: fc.integer({ min: 1, max: 12 }),
  onFailure: fc.constantFrom('cancel' as const, 'run' as const, 'wait' as const),
});
const pick = fc.nat(1000);
const command: fc.Arbitrary<Command> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      do: fc.constant('submit' as const),
      parents: fc.array(fc.array(parent, { maxLength: 4 }), { minLength: 1, maxLength: 6 }),
      bytes: fc.constantFrom(10, 300, 3000),
    }),
  },
  { weight: 12, arbitrary: fc.record({ do: fc.constant('complete' as const), pick }) },
  { weight: 4, arbitrary: fc.record({ do: fc.constant('fail' as const), pick }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('cancel' as const), pick }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('retry' as const), pick }) },
  {
    weight: 4,
    arbitrary: fc.record({ do: fc.constant('advance' as const), ms: fc.constantFrom(1, 1000, 1000, 5000) }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constantFrom('crash' as const, 'restart' as const) }) },
);

interface ModelTask {
  id: number;
  state: 'blocked' | 'ready' | 'completed' | 'dead' | 'cancelled';
  parents: { task: ModelTask; onFailure: OnParentFailure; open: boolean }[];
  children: ModelTask[];
  runs: number;
}

class Model {
  readonly tasks: ModelTask[] = [];

  add(id: number, parents: { task: ModelTask; onFailure: OnParentFailure }[]): void {
    const task: ModelTask = { id, state: 'ready', parents: [], children: [], runs: 0 };
    this.tasks.push(task);
    for (const { task: on, onFailure } of parents) {
      task.parents.push({ task: on, onFailure, open: true });
      on.children.push(task);
    }
    if (parents.length > 0) task.state = 'blocked';
    for (const { task: on } of parents) this.#tell(on, task);
  }

  end(task: ModelTask, state: 'completed' | 'dead' | 'cancelled'): void {
    task.state = state;
    for (const child of task.children) this.#tell(task, child);
  }

  /** What `from` has become, if it has ended. */
  #tell(from: ModelTask, child: ModelTask): void {
    const edge = child.parents.find(({ task }) => task === from) as ModelTask['parents'][number];
    if (child.state !== 'blocked' || from.state === 'ready' || from.state === 'blocked') return;
    if (from.state === 'dead' && edge.onFailure === 'wait') return;
    edge.open = false;
    if (from.state !== 'completed' && edge.onFailure !== 'run') this.end(child, 'cancelled');
    else if (child.parents.every(({ open }) => !open)) child.state = 'ready';
  }
}

class History {
  readonly #bench: EngineBench;
  readonly #model = new Model();
  #worker!: BenchWorker;
  #batch = 0;
  recycled = false;

  constructor(bench: EngineBench) {
    this.#bench = bench;
  }

  static async begin(segmentBytes: number): Promise<History> {
    const history = new History(await EngineBench.open({ segmentBytes, retention: KEEP_ALL }));
    await history.#subscribe();
    return history;
  }

  async #subscribe(): Promise<void> {
    this.#worker = await this.#bench.addWorker(['q'], 5, 8);
  }

  async run(command: Command): Promise<void> {
    switch (command.do) {
      case 'submit':
        this.#submit(command.parents, command.bytes);
        break;
      case 'complete':
      case 'fail':
        this.#settle(command.do, command.pick);
        break;
      case 'cancel':
        this.#cancel(command.pick);
        break;
      case 'retry':
        this.#retry(command.pick);
        break;
      case 'advance':
        this.#bench.clock.advance(command.ms);
        break;
      default:
        await this.#bench.flush();
        if (command.do === 'crash') await this.#bench.crash();
        else await this.#bench.restart();
        await this.#subscribe();
    }
    await turns();
    this.check();
    this.recycled ||= !this.#bench.segmentNames().includes('0000000001.segment');
  }

  #submit(lists: readonly Parent[][], bytes: number): void {
    const { tasks } = this.#model;
    const known = tasks.length;
    const writer = new BatchWriter(new BufferPool());
    const added = lists.map((parents, index) => {
      writer.add(ONCE, { kind: 'now' }, 'x'.repeat(bytes));
      const chosen = new Map<number, OnParentFailure>();
      for (const { back, onFailure } of parents) {
        const place = known + index - back;
        if (place >= 0) chosen.set(place, onFailure);
      }
      return [...chosen];
    });
    const relations = added.flatMap((parents, index) => {
      const dependsOn = parents.map(([place, onFailure]) => {
        const on = place < known ? formatTaskId((tasks[place] as ModelTask).id) : place - known;
        return [on, onFailure];
      });
      return dependsOn.length === 0 ? [] : [{ index, dependsOn }];
    });
    const trailer = packTrailer({ tasks: relations.length === 0 ? [{ index: 0 }] : relations });
    const frame = writer.seal(++this.#batch, trailer);
    writer.address(1, this.#batch);
    const body = Buffer.from(frame.subarray(HEADER_BYTES));
    const { firstId } = this.#bench.engine.submit(PRODUCER, body, 0, body.length);
    // Sent again, it is the same.
    expect(this.#bench.engine.submit(PRODUCER, body, 0, body.length).firstId).toBe(firstId);
    for (const [index, parents] of added.entries()) {
      const on = parents.map(([place, onFailure]) => ({ task: tasks[place] as ModelTask, onFailure }));
      this.#model.add(firstId + index, on);
    }
  }

  #settle(how: 'complete' | 'fail', at: number): void {
    const delivery = this.#worker.held[at % Math.max(1, this.#worker.held.length)];
    if (delivery === undefined) return;
    const task = this.#model.tasks.find(({ id }) => id === delivery.id) as ModelTask;
    for (const { task: on, onFailure } of task.parents) {
      if (task.runs > 0) break;
      expect(['completed', 'dead', 'cancelled', ...(onFailure === 'cancel' ? [] : ['ready'])]).toContain(on.state);
    }
    task.runs++;
    if (how === 'complete') {
      this.#bench.complete(this.#worker, [{ delivery, result: `"${task.id}"` }]);
      this.#model.end(task, 'completed');
    } else {
      this.#bench.fail(this.#worker, [delivery], { final: true, retryDelayMs: undefined });
      this.#model.end(task, 'dead');
    }
  }

  #cancel(at: number): void {
    const held = new Set(this.#worker.held.map(({ id }) => id));
    const waiting = this.#model.tasks.filter(
      ({ id, state }) => !held.has(id) && (state === 'blocked' || state === 'ready'),
    );
    const task = waiting[at % Math.max(1, waiting.length)];
    if (task === undefined) return;
    this.#bench.engine.commands.cancel(task.id);
    this.#model.end(task, 'cancelled');
  }

  #retry(at: number): void {
    const dead = this.#model.tasks.filter(({ state }) => state === 'dead');
    const task = dead[at % Math.max(1, dead.length)];
    if (task === undefined) return;
    this.#bench.engine.commands.retry(task.id);
    task.state = 'ready';
  }

  check(): void {
    const { engine } = this.#bench;
    const states = this.#model.tasks.map(({ id }) => {
      const state = this.#bench.state(id);
      return [id, state === 'active' ? 'ready' : state];
    });
    expect(states).toEqual(this.#model.tasks.map(({ id, state }) => [id, state]));
    const queue = engine.core.queue('q');
    expect(queue.blocked).toBe(this.#model.tasks.filter(({ state }) => state === 'blocked').length);
    for (const { id, parents, state } of this.#model.tasks) {
      if (state !== 'blocked') continue;
      const known = engine.core.relations.of(id);
      expect(known?.ends.map((end) => end === 0)).toEqual(parents.map(({ open }) => open));
    }
  }

  /** Everything that can run does, whatever waits for a redrive gets one. */
  async finish(): Promise<void> {
    for (let round = 0; round < 10_000; round++) {
      await turns(1);
      if (this.#worker.held.length > 0) this.#settle('complete', 0);
      else if (this.#model.tasks.some(({ state }) => state === 'dead')) this.#retry(0);
      else break;
    }
    await turns();
    this.check();
    const left = this.#model.tasks.filter(({ state }) => state === 'blocked' || state === 'ready');
    expect(left).toEqual([]);
    await this.#bench.restart();
    this.check();
    for (const { id, state } of this.#model.tasks) {
      if (state === 'completed') expect(await this.#bench.result(id)).toBe(`"${id}"`);
    }
  }
}

describe('random graphs of tasks', () => {
  it('are worked off in their order, whatever fails, is cancelled, redriven, or breaks down', {
    timeout: 3_600_000,
  }, async () => {
    let recycled = 0;
    await fc.assert(
      fc.asyncProperty(
        fc.array(command, { minLength: 10, maxLength: 80, size: 'max' }),
        fc.constantFrom(8 * 1024, 16 * 1024, 256 * 1024),
        async (commands, segmentBytes) => {
          const history = await History.begin(segmentBytes);
          for (const each of commands) await history.run(each);
          await history.finish();
          if (history.recycled) recycled++;
        },
      ),
      { numRuns: RUNS, ...SEED },
    );
    // Otherwise nothing would have been copied forward.
    expect(recycled).toBeGreaterThan(RUNS / 20);
  });
});
