import { expect } from 'vitest';
import type { FailOptions, Payload, TaskHeaders, TaskSpec, When } from '../../src/broker/contract.ts';
import type { RetentionPolicy } from '../../src/core/queue.ts';
import { FLAG_LOST, NONE, STATE_NAMES, State } from '../../src/core/task-table.ts';
import { resultOf, timeOf } from '../../src/core/views.ts';
import type { CoreWorker } from '../../src/core/worker.ts';
import type { DeliveryTarget } from '../../src/engine/dispatcher.ts';
import { type Confirmation, Engine, type EngineOptions } from '../../src/engine/engine.ts';
import type { StoredOutcome } from '../../src/engine/segment-reader.ts';
import type { MillraceError } from '../../src/errors.ts';
import type { QueueLimits } from '../../src/limits.ts';
import { BatchWriter } from '../../src/protocol/batch-writer.ts';
import { DeliveryReader, WireRun } from '../../src/protocol/delivery.ts';
import { FRAME, FrameReader, HEADER_BYTES } from '../../src/protocol/frames.ts';
import { CompletionWriter, ReleaseWriter, writeFailure } from '../../src/protocol/settlement-writer.ts';
import { packHeaders } from '../../src/protocol/task-headers.ts';
import { BufferPool, FrameWriter } from '../../src/protocol/writer.ts';
import { body } from '../support/frame-body.ts';
import { ManualClock } from '../twins/manual-clock.ts';
import { MemoryDisk, memoryDirectory } from '../twins/memory-disk.ts';

/** An engine over a disk that can crash and a clock that stands still, and workers that hold what they are given. */
export const KEEP_ALL: RetentionPolicy = {
  completedCountMax: 100_000,
  completedAgeMs: 1e9,
  deadCountMax: 100_000,
  deadAgeMs: 1e9,
};
export const ENGINE_OPTIONS = {
  directory: memoryDirectory(),
  fsync: 'always',
  fsyncIntervalMs: 10,
  segmentBytes: 16 * 1024,
  cacheBytes: 1024 * 1024,
  retention: KEEP_ALL,
  timeoutGraceMs: 0,
  lostGraceMs: 0,
  random: { float: () => 0.5, hex: (count) => '00'.repeat(count) },
  onDurable: () => {},
} satisfies Partial<EngineOptions>;
export const START_MS = 1_800_000_000_000;
export const PRODUCER = '00112233445566778899aabbccddeeff';

export const SPEC: TaskSpec = {
  queue: 'q',
  name: 'n',
  priority: 4,
  maxAttempts: 3,
  timeoutMs: 60_000,
  backoff: { type: 'fixed', delayMs: 1000, maxDelayMs: 1000, jitter: false },
};

export interface Delivery {
  id: number;
  token: number;
  attempt: number;
  suspect: boolean;
  payload: string;
  spec: TaskSpec;
}

/** Lets what was deferred and what was written go on. */
export async function turns(count = 3): Promise<void> {
  for (let i = 0; i < count; i++) await new Promise<void>((resolve) => setImmediate(resolve));
}

/** From now on everything takes time: two milliseconds between two looks at the clock. */
export function slowDown({ clock }: { readonly clock: ManualClock }): void {
  const steadyMs = clock.steadyMs.bind(clock);
  clock.steadyMs = () => {
    clock.advance(2);
    return steadyMs();
  };
}

export class BenchWorker implements DeliveryTarget {
  readonly writer: FrameWriter;
  roomBytes = 1e9;
  /** How often it was asked for a sign of life. */
  probes = 0;
  worker: CoreWorker | undefined;
  held: Delivery[] = [];
  frameCount = 0;
  runCount = 0;
  readonly seen: Delivery[] = [];
  readonly revoked: { id: number; token: number; reason: string }[] = [];
  readonly #deliveries = new DeliveryReader(WireRun);

  constructor() {
    const reader = new FrameReader((type, _requestId, buffer, start, end) => {
      if (type === FRAME.DELIVER) this.#delivered(buffer, start, end);
    });
    const sink = {
      write: (bytes: Uint8Array, written?: () => void): void => {
        reader.push(Buffer.from(bytes));
        written?.();
      },
    };
    this.writer = new FrameWriter(sink, (flush) => process.nextTick(flush), new BufferPool());
  }

  revoke(id: number, token: number, reason: 'cancelled' | 'lease-lost'): void {
    this.revoked.push({ id, token, reason });
    if (reason === 'lease-lost') this.held = this.held.filter((one) => one.id !== id);
  }

  probe(): void {
    this.probes++;
  }

  take(id: number): Delivery {
    const delivery = this.held.find((one) => one.id === id) as Delivery;
    this.held = this.held.filter((one) => one !== delivery);
    return delivery;
  }

  #delivered(buffer: Buffer, start: number, end: number): void {
    this.frameCount++;
    for (const run of this.#deliveries.read(buffer, start, end)) {
      this.runCount++;
      for (let i = 0; i < run.length; i++) {
        const payload = Buffer.from(run.bytes(i)).toString();
        expect(run.headers(i)).toEqual(headersWith(payload));
        const delivery = {
          id: run.firstId + i,
          token: run.firstToken + i,
          attempt: run.attempt,
          suspect: run.suspect,
          payload,
          spec: run.spec,
        };
        this.held.push(delivery);
        this.seen.push(delivery);
      }
    }
  }
}

export interface Section {
  spec: TaskSpec;
  when?: When;
  payloads: readonly Payload[];
}

/** Every other task of a history has headers, which say whose they are. */
function headersWith(payload: string): TaskHeaders | undefined {
  const serial = /^payload (\d*[02468]) /.exec(payload)?.[1];
  return serial === undefined ? undefined : { of: serial, more: 'ü'.repeat(Number(serial) % 100) };
}

export function batchBody(batch: number, sections: readonly Section[], lowestUnconfirmed = batch): Buffer {
  const writer = new BatchWriter(new BufferPool());
  for (const { spec, when, payloads } of sections) {
    for (const payload of payloads) {
      const headers = headersWith(payload.toString());
      writer.add(spec, when ?? { kind: 'now' }, payload, headers === undefined ? undefined : packHeaders(headers));
    }
  }
  const frame = writer.seal(batch);
  writer.address(1, lowestUnconfirmed);
  return Buffer.from(frame.subarray(HEADER_BYTES));
}

export class EngineBench {
  disk: MemoryDisk;
  clock: ManualClock;
  engine!: Engine;
  readonly failures: MillraceError[] = [];
  readonly notices: string[] = [];
  workers: BenchWorker[] = [];
  readonly #options: Partial<EngineOptions>;
  #batch = 0;

  private constructor(options: Partial<EngineOptions>, disk: MemoryDisk) {
    this.#options = options;
    this.disk = disk;
    this.clock = new ManualClock(START_MS);
  }

  static async open(options: Partial<EngineOptions> = {}, disk = new MemoryDisk()): Promise<EngineBench> {
    const bench = new EngineBench(options, disk);
    await bench.reopen();
    return bench;
  }

  /** A new life: the clock goes on, the timers and workers of the old one are gone. */
  async reopen(options: Partial<EngineOptions> = {}): Promise<void> {
    this.clock = new ManualClock(this.clock.steadyMs());
    this.workers = [];
    const { engine } = await Engine.open({
      ...ENGINE_OPTIONS,
      onFailure: (error) => this.failures.push(error),
      onNotice: (_level, message) => this.notices.push(message),
      ...this.#options,
      ...options,
      disk: this.disk,
      clock: this.clock,
    });
    this.engine = engine;
  }

  /** Ends in order and begins again. */
  async restart(options: Partial<EngineOptions> = {}): Promise<void> {
    for (const worker of [...this.workers]) this.removeWorker(worker, false);
    await this.engine.close();
    await this.reopen(options);
  }

  /** Power fails; what was not synced may be gone. */
  async crash(options: Partial<EngineOptions> = {}): Promise<void> {
    this.disk.crash();
    await this.reopen(options);
  }

  /** Everything appended so far is on disk. */
  async flush(): Promise<void> {
    await turns();
    await this.engine.journal.flush();
  }

  enqueue(payloads: readonly Payload[], spec: TaskSpec = SPEC, when: When = { kind: 'now' }): number[] {
    const { firstId, count } = this.enqueueBatch(++this.#batch, [{ spec, when, payloads }]);
    return Array.from({ length: count }, (_, i) => firstId + i);
  }

  enqueueBatch(
    batch: number,
    sections: readonly Section[],
    producer = PRODUCER,
    lowestUnconfirmed = batch,
  ): Confirmation {
    const bytes = batchBody(batch, sections, lowestUnconfirmed);
    return this.engine.enqueue(producer, bytes, 0, bytes.length);
  }

  async addWorker(queues: readonly string[] = ['q'], concurrency = 10, prefetch = concurrency): Promise<BenchWorker> {
    const worker = this.subscribe(queues, concurrency, prefetch);
    await turns();
    return worker;
  }

  /** Nothing is delivered yet. */
  subscribe(queues: readonly string[], concurrency: number, prefetch = concurrency): BenchWorker {
    const worker = new BenchWorker();
    worker.worker = this.engine.addWorker(queues, concurrency, prefetch, worker);
    this.workers.push(worker);
    return worker;
  }

  removeWorker(worker: BenchWorker, lost: boolean): void {
    this.engine.removeWorker(worker.worker as CoreWorker, lost);
    this.workers = this.workers.filter((other) => other !== worker);
  }

  /** It says that it has begun the first `count` tasks that it holds. */
  begin(worker: BenchWorker, count = worker.held.length): void {
    this.engine.begun(worker.worker as CoreWorker, worker.held[count - 1].token);
  }

  /** Returns the ids whose lease was lost. */
  complete(worker: BenchWorker, done: readonly { delivery: Delivery; result?: Payload | undefined }[]): number[] {
    const bytes = body(FRAME.COMPLETE, (writer) => {
      const completions = new CompletionWriter(writer);
      for (const { delivery, result } of done) {
        if (result === undefined) completions.add(delivery.id, delivery.token, 1);
        else completions.addWithResults(delivery.id, delivery.token, 1, [result], 0);
      }
      completions.finish();
    });
    const refused: number[] = [];
    this.engine.settlements.complete(worker.worker as CoreWorker, bytes, 0, bytes.length, refused);
    this.#settled(
      worker,
      done.map(({ delivery }) => delivery),
    );
    return refused;
  }

  fail(
    worker: BenchWorker,
    failed: readonly Delivery[],
    options: FailOptions = { final: false, retryDelayMs: undefined },
    error = (delivery: Delivery): string => `error of ${delivery.id} in attempt ${delivery.attempt}`,
  ): number[] {
    const bytes = body(FRAME.FAIL, (writer) => {
      for (const delivery of failed) {
        const json = JSON.stringify({ name: 'Error', message: error(delivery), code: 'HANDLER_FAILED' });
        writeFailure(writer, delivery.id, delivery.token, json, options);
      }
    });
    const refused: number[] = [];
    this.engine.settlements.fail(worker.worker as CoreWorker, bytes, 0, bytes.length, refused);
    this.#settled(worker, failed);
    return refused;
  }

  release(worker: BenchWorker, released: readonly Delivery[]): number[] {
    const bytes = body(FRAME.RELEASE, (writer) => {
      const releases = new ReleaseWriter(writer);
      for (const { id, token } of released) releases.add(id, token);
      releases.finish();
    });
    const refused: number[] = [];
    this.engine.settlements.release(worker.worker as CoreWorker, bytes, 0, bytes.length, refused);
    this.#settled(worker, released);
    return refused;
  }

  #settled(worker: BenchWorker, deliveries: readonly Delivery[]): void {
    worker.held = worker.held.filter((held) => !deliveries.includes(held));
    this.engine.workerReady(worker.worker as CoreWorker);
  }

  /** Resolves with how the task ends. */
  outcome(id: number): Promise<StoredOutcome> {
    return new Promise((resolve) => this.engine.wait(id, { settled: (_id, outcome) => resolve(outcome) }));
  }

  state(id: number): string {
    const slot = this.engine.core.index.get(id);
    return slot === NONE ? 'forgotten' : STATE_NAMES[this.engine.core.table.state(slot)];
  }

  async payload(id: number): Promise<string> {
    const { core, reader } = this.engine;
    const place = (): { segment: number; offset: number } => {
      const slot = core.index.get(id);
      return { segment: core.table.segment(slot), offset: core.table.offset(slot) };
    };
    const { payload, headers } = await reader.loadTask(place);
    expect(headers).toEqual(headersWith(payload.toString()));
    return payload.toString();
  }

  async result(id: number): Promise<string | undefined> {
    const { core, reader } = this.engine;
    const find = () => resultOf(core, core.index.get(id));
    return find() === undefined
      ? undefined
      : (await reader.loadBlob(find as () => { segment: number; offset: number })).toString();
  }

  async errors(id: number): Promise<string[]> {
    const { core, reader } = this.engine;
    const count = core.failures(core.index.get(id)).length;
    const errors: string[] = [];
    for (let i = 0; i < count; i++) {
      const bytes = await reader.loadBlob(() => core.failures(core.index.get(id))[i]);
      errors.push((JSON.parse(bytes.toString()) as { message: string }).message);
    }
    return errors;
  }

  segmentNames(): string[] {
    return this.disk.names(memoryDirectory()).filter((name) => name.endsWith('.segment'));
  }
}

export interface ObservedTask {
  queue: string;
  state: string;
  spec: string;
  attempts: number;
  lost: boolean;
  enqueuedAtMs: number;
  timeMs: number;
  failures: { attempt: number; atMs: number }[];
  hasResult: boolean;
}

export interface ObservedQueue {
  paused: boolean;
  limits: QueueLimits | undefined;
  retention: RetentionPolicy;
  hasOwnRetention: boolean;
  totals: Record<string, number>;
}

export interface Observed {
  tasks: Map<number, ObservedTask>;
  queues: Map<string, ObservedQueue>;
  producers: Map<string, { lastSeenMs: number; lowest: number; batches: number[] }>;
}

/**
 * What a restart must keep, as it will be after one: nobody runs anything, what is due is ready, and what was asked to be
 * cancelled is.
 */
export function observe(engine: Engine): Observed {
  const { core } = engine;
  const nowMs = engine.clock.steadyMs();
  const observed: Observed = { tasks: new Map(), queues: new Map(), producers: new Map() };
  for (const queue of core.queues.values()) {
    observed.queues.set(queue.name, {
      paused: queue.paused,
      limits: queue.limits,
      retention: { ...queue.retention },
      hasOwnRetention: queue.hasOwnRetention,
      totals: { ...queue.totals },
    });
  }
  core.index.scan(0, (id, slot) => {
    const state = core.table.state(slot);
    const waits = state < State.COMPLETED;
    const due = state === State.SCHEDULED && core.dueMs(slot) <= nowMs;
    const ready = state === State.ACTIVE || state === State.READY || due;
    const cancelled = ready && core.cancelRequested(slot);
    const spec = core.kindOf(slot).key;
    const queue = observed.queues.get(core.kindOf(slot).spec.queue);
    if (cancelled && queue !== undefined) queue.totals.cancelled++;
    observed.tasks.set(id, {
      queue: core.kindOf(slot).spec.queue,
      state: cancelled ? 'cancelled' : ready ? 'ready' : STATE_NAMES[state],
      spec,
      attempts: core.table.attempts(slot),
      lost: waits && !cancelled && core.table.hasFlag(slot, FLAG_LOST),
      enqueuedAtMs: core.table.enqueuedAtMs(slot),
      timeMs: cancelled ? nowMs : ready ? 0 : timeOf(core, slot),
      failures: core.failures(slot).map(({ attempt, atMs }) => ({ attempt, atMs })),
      hasResult: resultOf(core, slot) !== undefined,
    });
    return true;
  });
  for (const { producer, lastSeenMs, lowest, batches } of core.producers.export()) {
    observed.producers.set(producer, { lastSeenMs, lowest, batches: [...batches] });
  }
  return observed;
}
