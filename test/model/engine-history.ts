import { isDeepStrictEqual } from 'node:util';
import { expect } from 'vitest';
import type { Payload, TaskSpec } from '../../src/broker/contract.ts';
import { NONE, State } from '../../src/core/task-table.ts';
import type { CoreWorker } from '../../src/core/worker.ts';
import { cancelTasks, retryTasks } from '../../src/engine/bulk.ts';
import type { EngineOptions } from '../../src/engine/engine.ts';
import { MillraceError } from '../../src/errors.ts';
import { NO_LIMITS } from '../../src/limits.ts';
import { MemoryDisk, seededRandom } from '../twins/memory-disk.ts';
import {
  type BenchWorker,
  batchBody,
  type Delivery,
  EngineBench,
  type Observed,
  type ObservedTask,
  observe,
  type Section,
  SPEC,
  turns,
} from './engine-bench.ts';
import { type EngineCommand, PRODUCERS, QUEUES } from './engine-commands.ts';

const SPECS: TaskSpec[] = [
  { ...SPEC, queue: 'a' },
  { ...SPEC, queue: 'a', name: 'other', priority: 9, maxAttempts: 1 },
  { ...SPEC, queue: 'b', maxAttempts: 12, timeoutMs: 2000 },
  { ...SPEC, queue: 'b', priority: 0, backoff: { type: 'exponential', delayMs: 50, maxDelayMs: 90, jitter: true } },
  { ...SPEC, queue: 'a', concurrencyKey: 'k' },
  { ...SPEC, queue: 'b', concurrencyKey: 'l' },
];

const NOBODY = { worker: () => undefined, workerIndex: () => undefined, progress: () => undefined };

/** A state that the journal had when `sequence` was the last in it. */
interface Candidate {
  sequence: number;
  observed: Observed;
}

/** Runs a history and checks, whenever the engine begins again, that what it was told is what it knows. */
export class EngineHistory {
  readonly bench: EngineBench;
  /** What was asked to be stored, by task; ids never mean two tasks, so this outlives every crash. */
  readonly #payloads = new Map<number, string>();
  readonly #results = new Map<number, string | undefined>();
  readonly #specs = new Map<number, TaskSpec>();
  readonly #tokens = new Set<number>();
  readonly #lastBatch = new Map<string, { batch: number; body: Buffer; firstId: number; count: number }>();
  readonly #nextBatch = new Map<string, number>();
  /** A number that no batch has come under yet though later ones did. */
  readonly #skippedBatch = new Map<string, number>();
  #candidates: Candidate[] = [];
  #serial = 0;
  restarts = 0;
  recycled = false;

  private constructor(bench: EngineBench) {
    this.bench = bench;
    this.#track();
  }

  static async begin(options: Partial<EngineOptions>, seed: number): Promise<EngineHistory> {
    const random = seededRandom(seed);
    const disk = new MemoryDisk({ random });
    return new EngineHistory(await EngineBench.open(options, disk));
  }

  /** Remembers the state before each record, from which a crash may begin again. */
  #track(): void {
    const { journal } = this.bench.engine;
    const append = journal.append.bind(journal);
    this.#candidates = [];
    journal.append = (...args) => {
      this.#remember();
      return append(...args);
    };
  }

  #remember(): void {
    const { engine } = this.bench;
    const sequence = engine.journal.appendedSequence;
    const last = this.#candidates.at(-1);
    // What is not journaled (deliveries, time) moves on meanwhile; the newest of a sequence counts.
    if (last?.sequence === sequence) this.#candidates.pop();
    this.#candidates.push({ sequence, observed: observe(engine) });
    if (this.#candidates.length > 200) {
      const { durableSequence } = engine.journal;
      this.#candidates = this.#candidates.filter((one, i, all) => (all[i + 1] ?? one).sequence >= durableSequence);
    }
  }

  async run(command: EngineCommand): Promise<void> {
    const { bench } = this;
    const { commands } = bench.engine;
    switch (command.do) {
      case 'enqueue':
        this.#enqueue(command);
        break;
      case 'repeatBatch':
        this.#repeatBatch(PRODUCERS[command.producer]);
        break;
      case 'addWorker':
        if (bench.workers.length < 4) {
          await bench.addWorker(command.queues, command.concurrency, command.concurrency + command.extra);
        }
        break;
      case 'removeWorker':
        this.#withWorker(command.pick, (worker) => bench.removeWorker(worker, command.lost));
        break;
      case 'complete':
        this.#withDeliveries(command.pick, command.count, (worker, deliveries) => {
          const done = deliveries.map((delivery, i) => {
            const withResult = command.results[i % command.results.length];
            const result = withResult ? `result of ${delivery.id} `.padEnd(command.bytes, '.') : undefined;
            this.#results.set(delivery.id, result);
            return { delivery, result };
          });
          expect(bench.complete(worker, done)).toEqual([]);
        });
        break;
      case 'fail':
        this.#withDeliveries(command.pick, command.count, (worker, deliveries) => {
          const { final, retryDelayMs } = command;
          const refused = bench.fail(worker, deliveries, { final, retryDelayMs }, ({ id, attempt }) =>
            `error of ${id} in attempt ${attempt}`.padEnd(command.bytes, '!'),
          );
          expect(refused).toEqual([]);
        });
        break;
      case 'release':
        this.#withDeliveries(command.pick, command.count, (worker, deliveries) => {
          expect(bench.release(worker, deliveries)).toEqual([]);
        });
        break;
      case 'cancel':
        this.#withTask(command.pick, (id) => commands.cancel(id));
        break;
      case 'retry':
        this.#withTask(command.pick, (id) => commands.retry(id));
        break;
      case 'resume':
        this.#withWorker(command.worker, (worker) => this.#withTask(command.pick, (id) => this.#resume(worker, id)));
        break;
      case 'pause':
        commands.pauseQueue(QUEUES[command.queue]);
        break;
      case 'unpause':
        commands.pauseQueue(QUEUES[command.queue]);
        commands.resumeQueue(QUEUES[command.queue]);
        break;
      case 'purge':
        await commands.purgeQueue(QUEUES[command.queue]).catch(allow);
        break;
      case 'redrive':
        await commands.redriveQueue(QUEUES[command.queue]).catch(allow);
        break;
      case 'retryMany':
      case 'cancelMany': {
        const order = command.newest ? 'newest' : 'oldest';
        const filter = { queue: QUEUES[command.queue], order, limit: command.limit } as const;
        const change = command.do === 'retryMany' ? retryTasks : cancelTasks;
        await change(bench.engine, filter, NOBODY);
        break;
      }
      case 'retention': {
        const { countMax } = command;
        commands.setRetention(QUEUES[command.queue], { completedCountMax: countMax, deadCountMax: countMax });
        break;
      }
      case 'limit':
        commands.setLimits(QUEUES[command.queue], command.limits);
        break;
      case 'advance':
        bench.clock.advance(command.ms);
        break;
      case 'flush':
        await bench.flush();
        break;
      case 'restart':
        await this.restart();
        break;
      case 'crash':
        await this.crash(command.flushed);
        break;
      default:
        command satisfies never;
    }
    await turns();
    this.#checkDeliveries();
    expect(bench.failures).toEqual([]);
  }

  async restart(): Promise<void> {
    const { bench } = this;
    for (const worker of [...bench.workers]) bench.removeWorker(worker, false);
    await turns();
    await bench.flush();
    const before = observe(bench.engine);
    await bench.engine.close();
    await bench.reopen();
    await this.#compare([before], 'in order');
  }

  async crash(flushed: boolean): Promise<void> {
    const { bench } = this;
    if (flushed) await bench.flush();
    this.#remember();
    const { durableSequence } = bench.engine.journal;
    const later = this.#candidates.filter(({ sequence }) => sequence >= durableSequence);
    const earlier = this.#candidates.filter(({ sequence }) => sequence < durableSequence);
    bench.disk.crash();
    await bench.reopen();
    // A record of the journal's own may lie between a candidate and the durable end.
    const exact = later[0]?.sequence === durableSequence;
    const candidates = [...(exact ? [] : earlier.slice(-1)), ...later];
    await this.#compare(
      candidates.map(({ observed }) => observed),
      'by a crash',
    );
  }

  // ── Commands ──────────────────────────────────────────────────────────────────────────────────────────────────────

  #enqueue(command: Extract<EngineCommand, { do: 'enqueue' }>): void {
    const producer = PRODUCERS[command.producer];
    const batch = this.#numberOf(producer, command.order);
    const sections = command.sections.map(({ spec, when, bytes }): Section & { payloads: string[] } => ({
      spec: SPECS[spec],
      when,
      payloads: bytes.map((count) => `payload ${this.#serial++} `.padEnd(count, '-')),
    }));
    const unconfirmed = Math.max(1, Math.min(batch, this.#skippedBatch.get(producer) ?? batch) - 3);
    const body = batchBody(batch, sections, unconfirmed);
    if (this.#isTooMuch(sections)) {
      const before = this.#comparable(observe(this.bench.engine), true);
      const refused = expect.objectContaining({ code: 'QUEUE_FULL' });
      expect(() => this.bench.engine.enqueue(producer, body, 0, body.length)).toThrow(refused);
      expect(this.#comparable(observe(this.bench.engine), true)).toEqual(before);
      return;
    }
    const { firstId, count } = this.bench.engine.enqueue(producer, body, 0, body.length);
    const flat = sections.flatMap(({ spec, payloads }) => payloads.map((payload: Payload) => ({ spec, payload })));
    expect(count).toBe(flat.length);
    flat.forEach(({ spec, payload }, i) => {
      expect(this.#payloads.has(firstId + i), `id ${firstId + i} came twice`).toBe(false);
      this.#payloads.set(firstId + i, payload as string);
      this.#specs.set(firstId + i, spec);
    });
    this.#lastBatch.set(producer, { batch, body, firstId, count });
  }

  /** For a queue of limited length. */
  #isTooMuch(sections: readonly Section[]): boolean {
    const { core } = this.bench.engine;
    return QUEUES.some((name) => {
      const length = core.queues.get(name)?.limits?.length ?? Number.POSITIVE_INFINITY;
      const own = sections.filter(({ spec }) => spec.queue === name);
      let unfinished = own.reduce((sum, { payloads }) => sum + payloads.length, 0);
      if (unfinished === 0) return false;
      core.index.scan(0, (_id, slot) => {
        if (core.kindOf(slot).spec.queue === name && core.table.state(slot) < State.COMPLETED) unfinished++;
        return true;
      });
      return unfinished > length;
    });
  }

  #numberOf(producer: string, order: 'next' | 'skip' | 'late'): number {
    const skipped = this.#skippedBatch.get(producer);
    if (order === 'late' && skipped !== undefined) {
      this.#skippedBatch.delete(producer);
      return skipped;
    }
    const next = this.#nextBatch.get(producer) ?? 1;
    const skips = order === 'skip' && skipped === undefined;
    if (skips) this.#skippedBatch.set(producer, next);
    this.#nextBatch.set(producer, next + (skips ? 2 : 1));
    return skips ? next + 1 : next;
  }

  /** As after a reconnect: the same ids, if the server has not lost the batch before it was confirmed. */
  #repeatBatch(producer: string): void {
    const last = this.#lastBatch.get(producer);
    if (last === undefined) return;
    const known = this.bench.engine.core.producers.find(producer, last.batch);
    if (known < 0) return;
    expect(known).toBe(last.firstId);
    const before = observe(this.bench.engine);
    const { firstId, count } = this.bench.engine.enqueue(producer, last.body, 0, last.body.length);
    expect({ firstId, count }).toEqual({ firstId: last.firstId, count: last.count });
    expect(observe(this.bench.engine)).toEqual(before);
  }

  #resume(worker: BenchWorker, id: number): void {
    const kept = this.bench.engine.resume(worker.worker as CoreWorker, [{ id, attempt: undefined }]);
    const token = kept.get(id);
    if (token === undefined) return;
    const slot = this.bench.engine.core.index.get(id);
    const attempt = this.bench.engine.core.table.attempts(slot) + 1;
    const delivery = {
      id,
      token,
      attempt,
      suspect: false,
      payload: this.#payloads.get(id) ?? '',
      spec: this.#specs.get(id) ?? SPEC,
    };
    worker.held.push(delivery);
    worker.seen.push(delivery);
  }

  #withWorker(pick: number, act: (worker: BenchWorker) => void): void {
    const { workers } = this.bench;
    if (workers.length > 0) act(workers[pick % workers.length]);
  }

  #withDeliveries(pick: number, count: number, act: (worker: BenchWorker, deliveries: Delivery[]) => void): void {
    const busy = this.bench.workers.filter(({ held }) => held.length > 0);
    if (busy.length === 0) return;
    const worker = busy[pick % busy.length];
    act(worker, worker.held.slice(pick % worker.held.length).slice(0, count));
  }

  #withTask(pick: number, act: (id: number) => void): void {
    const ids: number[] = [];
    this.bench.engine.core.index.scan(0, (id) => {
      ids.push(id);
      return true;
    });
    if (ids.length > 0) allowed(() => act(ids[pick % ids.length]));
  }

  // ── Checks ────────────────────────────────────────────────────────────────────────────────────────────────────────

  #checkDeliveries(): void {
    for (const worker of this.bench.workers) {
      for (const { id, token, payload, spec } of worker.seen.splice(0)) {
        expect(this.#tokens.has(token), `token ${token} came twice`).toBe(false);
        this.#tokens.add(token);
        expect(payload).toBe(this.#payloads.get(id));
        expect(spec).toEqual(this.#specs.get(id));
      }
    }
  }

  /** The engine has begun again: it knows one of the states, and all bytes. */
  async #compare(states: readonly Observed[], ended: 'in order' | 'by a crash'): Promise<void> {
    const { bench } = this;
    this.restarts++;
    const after = observe(bench.engine);
    this.recycled ||= !bench.segmentNames().includes('0000000001.segment');
    // A crash may come between a segment's being given up and the totals' being written.
    const withTotals = ended === 'in order' || !this.recycled;
    const actual = this.#comparable(after, withTotals);
    const found = states.find((state) => isDeepStrictEqual(this.#comparable(state, withTotals), actual));
    if (found === undefined) expect(actual).toEqual(this.#comparable(states.at(-1) as Observed, withTotals));
    else this.#compareBounded(found, after);
    await this.#checkBytes();
    this.#track();
  }

  #comparable(state: Observed, withTotals: boolean): unknown {
    const queues = [...state.queues]
      // One that was only listened to is nothing to remember.
      .filter(
        ([, { paused, limits, hasOwnRetention, totals }]) =>
          paused || limits !== undefined || totals.enqueued > 0 || hasOwnRetention,
      )
      .map(([name, { paused, limits, retention, totals }]) => ({
        name,
        paused,
        limits,
        retention,
        totals: withTotals ? totals : undefined,
      }));
    return {
      tasks: [...state.tasks].filter(([, task]) => !this.#isBounded(state, task)),
      queues: queues.sort((a, b) => (a.name < b.name ? -1 : 1)),
      producers: [...state.producers].sort(([a], [b]) => (a < b ? -1 : 1)),
    };
  }

  /** Ended, in a queue that keeps only some of these. */
  #isBounded({ queues }: Observed, task: ObservedTask): boolean {
    const ended = task.state === 'completed' || task.state === 'cancelled' || task.state === 'dead';
    return ended && (queues.get(task.queue)?.retention.deadCountMax ?? 0) < 100;
  }

  /** Which of them are kept is not journaled and copying may change it; not how they ended, nor how many are left. */
  #compareBounded(before: Observed, after: Observed): void {
    for (const [id, task] of after.tasks) {
      const known = before.tasks.get(id);
      if (known !== undefined && this.#isBounded(after, task)) expect(task).toEqual(known);
    }
    const count = ({ tasks }: Observed, queue: string, dead: boolean): number =>
      [...tasks.values()].filter(
        (task) => task.queue === queue && (task.state === 'dead') === dead && this.#isBounded(before, task),
      ).length;
    for (const [name, { retention }] of before.queues) {
      for (const dead of [true, false]) {
        // What is cancelled by the restart may push others out.
        const left = Math.min(count(before, name, dead), dead ? retention.deadCountMax : retention.completedCountMax);
        expect(count(after, name, dead), `${dead ? 'dead' : 'finished'} in ${name}`).toBeGreaterThanOrEqual(left);
      }
    }
    for (const queue of this.bench.engine.core.queues.values()) {
      const { name } = queue;
      expect(queue.finished.count, `finished in ${name}`).toBeLessThanOrEqual(queue.retention.completedCountMax);
      expect(queue.dead.count, `dead in ${name}`).toBeLessThanOrEqual(queue.retention.deadCountMax);
    }
  }

  async #checkBytes(): Promise<void> {
    const { bench } = this;
    const { core } = bench.engine;
    const ids: number[] = [];
    core.index.scan(0, (id) => {
      ids.push(id);
      return true;
    });
    for (const id of ids) {
      const slot = core.index.get(id);
      if (slot === NONE) continue;
      expect(await bench.payload(id)).toBe(this.#payloads.get(id));
      if (bench.state(id) === 'completed') expect(await bench.result(id)).toBe(this.#results.get(id));
      const errors = await bench.errors(id);
      core.failures(slot).forEach(({ attempt }, i) => {
        const own = errors[i].startsWith(`error of ${id} in attempt ${attempt}`);
        expect(own || errors[i].startsWith('the worker died') || errors[i].startsWith('the attempt ran longer')).toBe(
          true,
        );
      });
    }
  }

  /** Ends everything that is left, by a worker that does what comes; nothing may be missing or come twice. */
  async finish(): Promise<void> {
    const { bench } = this;
    for (const worker of [...bench.workers]) bench.removeWorker(worker, false);
    for (const name of QUEUES) {
      bench.engine.commands.pauseQueue(name);
      bench.engine.commands.resumeQueue(name);
      bench.engine.commands.setLimits(name, NO_LIMITS);
    }
    const worker = await bench.addWorker(QUEUES, 1000, 1000);
    const waiting = (): number =>
      [...bench.engine.core.queues.values()].reduce(
        (sum, queue) => sum + queue.ready + queue.active + queue.scheduled,
        0,
      );
    for (let round = 0; round < 20 && waiting() > 0; round++) {
      bench.complete(
        worker,
        worker.held.map((delivery) => ({ delivery })),
      );
      bench.clock.advance(1000);
      await turns();
      this.#checkDeliveries();
    }
    expect(waiting()).toBe(0);
    await bench.engine.close();
    expect(bench.failures).toEqual([]);
  }
}

/** What a client may ask for in vain. */
function allowed(act: () => unknown): void {
  try {
    act();
  } catch (error) {
    allow(error);
  }
}

function allow(error: unknown): void {
  if (!(error instanceof MillraceError) || (error.code !== 'CONFLICT' && error.code !== 'NOT_FOUND')) throw error;
}
