import { expect } from 'vitest';
import { Core } from '../../src/core/core.ts';
import type { PayloadReader } from '../../src/core/effects.ts';
import type { Kind, KindSpec } from '../../src/core/kind.ts';
import type { RetentionPolicy } from '../../src/core/queue.ts';
import { NEXT, NONE, STATE_NAMES } from '../../src/core/task-table.ts';
import { deadIds, decideFailure, resultOf, timeOf, waitingIds } from '../../src/core/views.ts';
import type { CoreWorker } from '../../src/core/worker.ts';
import { NO_LIMITS } from '../../src/limits.ts';
import type { CoreCommand } from './core-commands.ts';
import { CoreModel, type ModelKind, type ModelTask, type ModelWorker } from './core-model.ts';

export const GRACE_MS = 7;
const ASIDE_MS = 15;
const START_MS = 1_800_000_000_000;
export const QUEUE_NAMES = ['a', 'b', 'c'];
const OUT = new Uint32Array(4096);
/** High, so that the 16 bits wrap. */
const FIRST_SEGMENT = 0xfffd;

/** The core and its model side by side: each command goes to both, and what they answer and become must agree. */
export class CoreTwin implements PayloadReader {
  readonly core: Core;
  readonly model: CoreModel;
  nowMs = START_MS;
  wallMs = START_MS;
  readonly #references = new Map<number, number>();
  readonly #lengths = new Map<string, number>();
  readonly #absent = new Set<number>();
  readonly #workers = new Map<number, CoreWorker>();
  readonly #tokens = new Set<number>();
  readonly #finished: string[] = [];
  readonly #revoked: string[] = [];
  readonly #kinds = new Map<string, ModelKind>();
  /** The last task of each queue, priority and key that was delivered in its turn. */
  readonly #lastFirst = new Map<string, number>();
  #segment = FIRST_SEGMENT;
  #offset = 100;
  #epoch = 0;

  constructor(retention: RetentionPolicy) {
    this.core = new Core({
      retention,
      graceMs: GRACE_MS,
      effects: {
        referenced: (segment, delta) => {
          const count = (this.#references.get(segment) ?? 0) + delta;
          expect(count, `references to segment ${segment}`).toBeGreaterThanOrEqual(0);
          this.#references.set(segment, count);
        },
        finished: (id, slot, state) => {
          expect(this.core.table.id(slot)).toBe(id);
          this.#finished.push(`${id} ${STATE_NAMES[state]}`);
        },
        revoked: (worker, id, token, reason) => this.#revoked.push(`${worker.index} ${id} ${token} ${reason}`),
        startedAfter: (ms) => expect(ms).toBeGreaterThanOrEqual(0),
        completedAfter: (ms) => expect(ms).toBeGreaterThanOrEqual(0),
        ranFor: (ms) => expect(ms).toBeGreaterThanOrEqual(0),
      },
    });
    this.model = new CoreModel(retention, GRACE_MS);
    this.core.ids.begin(++this.#epoch);
    this.core.loaded(0);
  }

  lengthAt(segment: number, offset: number): number {
    if (this.#absent.has(segment)) return -1;
    const length = this.#lengths.get(`${segment}:${offset}`);
    if (length === undefined) throw new Error(`the core asks for bytes at ${segment}:${offset}, where none begin`);
    return length;
  }

  run(command: CoreCommand): void {
    const { core, model } = this;
    switch (command.do) {
      case 'enqueue':
        this.#enqueue(command);
        break;
      case 'skipIds':
        core.ids.reserveIds(command.count);
        break;
      case 'beginEpoch':
        core.ids.begin(++this.#epoch);
        break;
      case 'rollSegment':
        this.#segment = (this.#segment + 1) & 0xffff;
        this.#offset = 100;
        break;
      case 'evictSegment':
        this.#absent.add((this.#segment - command.back) & 0xffff);
        break;
      case 'loadSegments':
        this.#absent.clear();
        break;
      case 'addWorker':
        this.#addWorker(command);
        break;
      case 'removeWorker':
        this.#withWorker(command.pick, (of, worker) => {
          if (command.begun > 0) this.#begin(of, worker, command.begun);
          core.assignments.presume(this.nowMs);
          model.presume(this.nowMs);
          this.#removeWorker(of, worker, command.lost);
        });
        break;
      case 'dispatch':
        this.#dispatch(command.bytesMax);
        break;
      case 'take':
        this.#withWorker(command.pick, (worker, of) => {
          const name = worker.queues[command.queue % worker.queues.length];
          this.#take(worker, of, name, command.countMax, command.bytesMax);
        });
        break;
      case 'complete':
        this.#withTask(['active'], command.pick, (task, slot) => {
          if (task.aside) return;
          const { worker: of, token } = task;
          const worker = this.#workers.get((of as ModelWorker).index) as CoreWorker;
          expect(core.leased(worker, task.id, token)).toBe(slot);
          const result = command.result ? this.#append(20) : undefined;
          core.complete(slot, this.nowMs, result?.segment ?? NONE, result?.offset ?? 0);
          model.complete(task, this.nowMs, result);
          expect(core.leased(worker, task.id, token)).toBe(NONE);
          core.reportDropped();
          core.queues.markQueuesOf(worker);
        });
        break;
      case 'fail':
        this.#withTask(['active'], command.pick, (task, slot) => {
          if (task.aside) return;
          const worker = this.#workers.get((task.worker as ModelWorker).index) as CoreWorker;
          this.#fail(task, slot, { final: command.final, delayMs: command.delayMs, lost: false });
          core.queues.markQueuesOf(worker);
        });
        break;
      case 'release':
        this.#withTask(['active'], command.pick, (task, slot) => {
          if (task.aside) return;
          const worker = this.#workers.get((task.worker as ModelWorker).index) as CoreWorker;
          this.#release(task, slot);
          core.queues.markQueuesOf(worker);
        });
        break;
      case 'cancel':
        this.#withTask(['ready', 'scheduled', 'active'], command.pick, (task, slot) => this.#cancel(task, slot));
        break;
      case 'retry':
        this.#withTask(['dead', 'scheduled'], command.pick, (task, slot) => {
          core.retry(slot, this.nowMs);
          model.retry(task);
        });
        break;
      case 'purge':
        this.#withTask(['ready', 'scheduled'], command.pick, (task, slot) => {
          core.purge(slot, this.nowMs);
          model.purge(task);
        });
        break;
      case 'purgeQueue':
        this.#purgeQueue(QUEUE_NAMES[command.queue]);
        break;
      case 'resume':
        this.#withWorker(command.worker, (worker, of) =>
          this.#withTask(['ready', 'active', 'scheduled', 'completed', 'dead'], command.pick, (task) =>
            this.#resume(worker, of, task, command.attempt),
          ),
        );
        break;
      case 'watch':
        this.#withTask(['ready', 'scheduled', 'active'], command.pick, (task, slot) => {
          core.watch(slot);
          task.watched = true;
        });
        break;
      case 'relocate':
        this.#withTask(['ready', 'scheduled', 'active', 'completed', 'dead', 'cancelled'], command.pick, (task, slot) =>
          this.#relocate(task, slot),
        );
        break;
      case 'pause': {
        const queue = core.queue(QUEUE_NAMES[command.queue]);
        queue.paused = command.paused;
        core.queues.mark(queue);
        model.queue(queue.name).paused = command.paused;
        break;
      }
      case 'retention': {
        const queue = core.queue(QUEUE_NAMES[command.queue]);
        queue.retention = command.retention;
        core.enforceRetention(queue);
        model.setRetention(queue.name, command.retention);
        break;
      }
      case 'limit': {
        const queue = core.queue(QUEUE_NAMES[command.queue]);
        const { limits } = command;
        core.queues.setLimits(
          queue,
          Object.values(limits).every((each) => each === null) ? undefined : limits,
          this.nowMs,
        );
        // The owner's timer: whoever waited for a token of another rate waits no more.
        core.queues.markPaced(this.nowMs);
        model.setLimits(queue.name, limits);
        break;
      }
      case 'advance':
        this.nowMs += command.steadyMs;
        this.wallMs += command.wallMs;
        core.tick(this.nowMs, this.wallMs, command.countMax);
        model.tick(this.nowMs, this.wallMs, command.countMax);
        break;
      case 'endOverdue':
        this.#endOverdue();
        break;
      case 'expire':
        core.expire(this.nowMs, 100_000);
        model.expire(this.nowMs);
        break;
      case 'heard':
        this.#withWorker(command.pick, (of, worker) => {
          if (core.assignments.heard(worker, this.nowMs)) core.queues.markQueuesOf(worker);
          model.heard(of, this.nowMs);
        });
        break;
      case 'setAside':
        this.#withTask(['active'], command.pick, (task, slot) => {
          if (task.aside) return;
          const worker = this.#workers.get((task.worker as ModelWorker).index) as CoreWorker;
          this.#setAside(task, slot);
          core.queues.markQueuesOf(worker);
        });
        break;
      case 'begin':
        this.#withWorker(command.pick, (of, worker) => this.#begin(of, worker, command.count));
        break;
      default:
        command satisfies never;
    }
    core.assignments.presume(this.nowMs);
    model.presume(this.nowMs);
  }

  // ── Commands ──────────────────────────────────────────────────────────────────────────────────────────────────────

  #enqueue(command: Extract<CoreCommand, { do: 'enqueue' }>): void {
    const { core, model } = this;
    const kind = this.#kind(command);
    const start = 5;
    const parts = [Buffer.alloc(start, 0xff)];
    const lengths: number[] = [];
    for (let i = 0; i < command.count; i++) {
      const length = (command.payloadBytes + i * 3) % 40;
      const head = Buffer.alloc(4);
      head.writeUInt32LE(length);
      parts.push(head, Buffer.alloc(length, 1));
      lengths.push(4 + length);
    }
    const firstId = core.ids.reserveIds(command.count);
    const dueMs = command.when === 'now' ? 0 : (command.when === 'at' ? this.wallMs : this.nowMs) + command.delayMs;
    const wall = command.when === 'at';
    const { segment } = this.#append(0);
    core.enqueue(kind, {
      firstId,
      count: command.count,
      enqueuedAtMs: this.nowMs,
      bytes: Buffer.concat(parts),
      start,
      segment,
      offset: this.#offset,
      dueMs,
      wall,
    });
    lengths.forEach((bytes, i) => {
      const place = this.#append(bytes);
      model.enqueue(this.#kinds.get(kind.key) as ModelKind, {
        id: firstId + i,
        ...place,
        bytes,
        atMs: this.nowMs,
        dueMs,
        wall,
      });
    });
  }

  #kind(command: Extract<CoreCommand, { do: 'enqueue' }>): Kind {
    const spec: KindSpec = {
      queue: QUEUE_NAMES[command.queue],
      name: command.name,
      priority: command.priority,
      maxAttempts: command.maxAttempts,
      timeoutMs: command.timeoutMs,
      backoff: { type: 'fixed', delayMs: 10, maxDelayMs: 10, jitter: false },
      concurrencyKey: command.concurrencyKey === '' ? undefined : command.concurrencyKey,
    };
    const key = JSON.stringify(spec);
    const { queue, name, priority, maxAttempts, timeoutMs } = spec;
    const { concurrencyKey } = command;
    this.#kinds.set(key, { key, queue, name, priority, maxAttempts, timeoutMs, concurrencyKey });
    return this.core.knownKind(key) ?? this.core.addKind(key, Buffer.from(key), spec);
  }

  #addWorker(command: Extract<CoreCommand, { do: 'addWorker' }>): void {
    if (this.#workers.size >= 6) return;
    const names = command.queues.map((index) => QUEUE_NAMES[index]);
    const prefetch = command.concurrency + command.extra;
    const worker = this.core.queues.addWorker(names, command.concurrency, prefetch, this.nowMs);
    this.#workers.set(worker.index, worker);
    this.model.addWorker(worker.index, names, command.concurrency, prefetch);
  }

  #removeWorker(of: ModelWorker, worker: CoreWorker, lost: boolean): void {
    const begun = (task: ModelTask): boolean => lost && task.deadlineMs > 0 && task !== of.presumed;
    const running = of.held.filter(begun);
    const waiting = of.held.filter((task) => !begun(task));
    for (const task of waiting.reverse()) this.#release(task, this.#slotOf(task));
    for (const task of running.reverse()) {
      const isLast = task.attempts + 1 >= task.kind.maxAttempts;
      if (isLast && of.index % 2 === 0) this.#setAside(task, this.#slotOf(task));
      else this.#fail(task, this.#slotOf(task), { final: false, delayMs: 0, lost: true });
    }
    this.core.queues.removeWorker(worker);
    this.model.removeWorker(of);
    this.#workers.delete(of.index);
  }

  /** What the owner does once a turn. */
  #dispatch(bytesMax: number): void {
    for (const queue of this.core.queues.marked.splice(0)) {
      queue.marked = false;
      if (queue.paused) continue;
      for (const worker of [...queue.workers]) {
        const of = this.model.workers.find(({ index }) => index === worker.index) as ModelWorker;
        this.#take(of, worker, queue.name, worker.credit, bytesMax);
        // The owner marks the queue again when the bytes have come.
        if (this.core.missing !== NONE) {
          this.core.queues.mark(queue);
          break;
        }
        if (worker.credit > 0 && this.model.next(queue.name, this.nowMs).length > 0) this.core.queues.mark(queue);
      }
    }
  }

  #take(of: ModelWorker, worker: CoreWorker, name: string, countMax: number, bytesMax: number): void {
    const { core, model } = this;
    const wanted = Math.min(countMax, worker.credit);
    const count = core.take(worker, core.queue(name), wanted, bytesMax, this, this.nowMs, OUT);
    const taken = [...OUT.subarray(0, count)].map((slot) => core.table.id(slot));
    let bytes = 0;
    for (const [i, id] of taken.entries()) {
      const next = model.next(name, this.nowMs);
      const task = next.find((each) => each.id === id) as ModelTask;
      expect(
        next.map((each) => each.id),
        `next from ${name} after ${taken.slice(0, i).join(', ')}`,
      ).toContain(id);
      expect(this.#absent.has(task.segment), `bytes of ${id} are not in memory`).toBe(false);
      bytes += task.bytes;
      expect(i === 0 || bytes <= bytesMax, `${bytes} bytes of ${bytesMax}`).toBe(true);
      const token = core.firstToken + i;
      this.#newToken(token);
      if (!task.deliveredBefore && task.immediate) this.#checkTurn(task);
      model.handOut(of, task, token, this.nowMs);
    }
    const left = count < wanted ? model.next(name, this.nowMs) : [];
    const missing = left.filter(({ segment }) => this.#absent.has(segment)).map(({ id }) => id);
    if (core.missing !== NONE) expect(missing, `missing in ${name}`).toContain(core.table.id(core.missing));
    else if (left.length > 0) {
      const isTooLarge = (task: ModelTask): boolean => !missing.includes(task.id) && bytes + task.bytes > bytesMax;
      expect(count > 0 && left.some(isTooLarge), `${left[0]?.id} may go, and does not`).toBe(true);
    }
  }

  /** FIFO on first delivery, said independently of any list. */
  #checkTurn(task: ModelTask): void {
    const { queue, priority, concurrencyKey } = task.kind;
    const list = `${queue} ${priority} ${concurrencyKey}`;
    expect(task.id, `first delivery from ${list}`).toBeGreaterThan(this.#lastFirst.get(list) ?? -1);
    this.#lastFirst.set(list, task.id);
  }

  #newToken(token: number): void {
    expect(this.#tokens.has(token), `token ${token} came twice`).toBe(false);
    this.#tokens.add(token);
  }

  #begin(of: ModelWorker, worker: CoreWorker, count: number): void {
    const last = of.held[Math.min(count, of.held.length) - 1];
    if (last === undefined) return;
    this.core.assignments.begin(worker, last.token, this.nowMs);
    this.model.begin(of, count, this.nowMs);
  }

  #fail(task: ModelTask, slot: number, options: { final: boolean; delayMs: number; lost: boolean }): void {
    const { core, model, nowMs } = this;
    const place = this.#append(30);
    const decided = decideFailure(core, slot, { final: options.final, retryDelayMs: options.delayMs, random: 0.5 });
    const lost = options.lost && decided.outcome === 'retry';
    const delayMs = options.delayMs < 0 ? 10 : options.delayMs;
    const outcome = model.fail(task, place, { final: options.final, delayMs, lost: options.lost, atMs: nowMs });
    expect(decided).toEqual({ outcome, attempt: expect.any(Number), delayMs: outcome === 'retry' ? delayMs : 0 });
    core.fail(slot, { attempt: decided.attempt, atMs: nowMs, ...place }, outcome, nowMs + decided.delayMs, lost);
  }

  #release(task: ModelTask, slot: number): void {
    if (task.cancelRequested) {
      this.#cancel(task, slot);
      return;
    }
    this.core.release(slot, this.nowMs);
    this.model.release(task);
  }

  #cancel(task: ModelTask, slot: number): void {
    const { core, model, nowMs } = this;
    const { worker, token } = task;
    const requested = task.state === 'active' && !task.aside && !task.cancelRequested;
    model.cancel(task, nowMs);
    if (requested) {
      core.requestCancel(slot);
      expect(this.#revoked.pop()).toBe(`${(worker as ModelWorker).index} ${task.id} ${token} cancelled`);
    } else {
      core.cancel(slot, nowMs);
      if (worker !== undefined) core.queues.markQueuesOf(this.#workers.get(worker.index) as CoreWorker);
    }
  }

  #purgeQueue(name: string): void {
    const waiting = [...this.model.in(name, 'ready'), ...this.model.in(name, 'scheduled')];
    const ids = waiting.map(({ id }) => id).sort((a, b) => a - b);
    expect(waitingIds(this.core, name, 0, Number.POSITIVE_INFINITY)).toEqual({ ids, next: undefined });
    for (const id of ids) {
      this.core.purge(this.core.index.get(id), this.nowMs);
      this.model.purge(this.model.tasks.get(id) as ModelTask);
    }
  }

  #setAside(task: ModelTask, slot: number): void {
    this.core.assignments.setAside(slot, this.nowMs, ASIDE_MS);
    this.model.setAside(task, this.nowMs, ASIDE_MS);
  }

  #resume(of: ModelWorker, worker: CoreWorker, task: ModelTask, which: 'next' | 'last' | 'unknown'): void {
    const attempt = which === 'unknown' ? undefined : task.attempts + (which === 'next' ? 1 : 0);
    const charged = this.model.resumes(of, task, which);
    const resumed = this.core.resume(worker, task.id, attempt, this.nowMs);
    expect(resumed?.charged, `${task.id} goes on with attempt ${attempt}`).toBe(charged);
    if (resumed === undefined) return;
    this.#newToken(resumed.token);
    this.model.resume(of, task, resumed.token, resumed.charged);
    if (resumed.charged) this.core.uncharge(this.#slotOf(task));
  }

  #relocate(task: ModelTask, slot: number): void {
    const payload = this.#append(task.bytes);
    const result = task.result && this.#append(20);
    const failures = task.failures.map(() => this.#append(30));
    this.core.relocate(slot, payload, result, failures);
    Object.assign(task, payload);
    task.result = result;
    task.failures = task.failures.map((failure, i) => ({ ...failure, ...failures[i] }));
  }

  #endOverdue(): void {
    for (;;) {
      const slots = this.core.assignments.overdue(this.nowMs);
      if (slots.length === 0) break;
      for (const slot of slots) {
        const task = this.model.tasks.get(this.core.table.id(slot)) as ModelTask;
        expect(this.model.overdue(this.nowMs)).toContain(task);
        this.#endOverdueTask(task, slot);
      }
    }
    expect(this.model.overdue(this.nowMs)).toEqual([]);
  }

  #endOverdueTask(task: ModelTask, slot: number): void {
    const { core, model, nowMs } = this;
    const of = task.worker;
    expect(core.assignments.isAside(slot)).toBe(task.aside);
    if (of === undefined) {
      this.#fail(task, slot, { final: false, delayMs: -1, lost: false });
      return;
    }
    const worker = this.#workers.get(of.index) as CoreWorker;
    expect(core.assignments.isPresumed(worker, slot)).toBe(of.presumed === task);
    if (of.presumed !== task) {
      this.#fail(task, slot, { final: false, delayMs: -1, lost: false });
      core.queues.markQueuesOf(worker);
    } else if (of.probed) {
      worker.silent = true;
      of.silent = true;
      for (const each of model.unbegun(of).reverse()) this.#release(each, this.#slotOf(each));
    } else {
      core.assignments.probe(worker, nowMs);
      model.probe(of, nowMs);
    }
  }

  #append(bytes: number): { segment: number; offset: number } {
    const place = { segment: this.#segment, offset: this.#offset };
    if (bytes > 0) this.#lengths.set(`${place.segment}:${place.offset}`, bytes);
    this.#offset += bytes;
    return place;
  }

  #withTask(states: readonly string[], pick: number, act: (task: ModelTask, slot: number) => void): void {
    const tasks = [...this.model.tasks.values()].filter(({ state }) => states.includes(state));
    if (tasks.length === 0) return;
    // Few have lost a worker, and these have more that may go wrong.
    const lost = pick % 2 === 0 ? tasks.filter((task) => task.lost || task.aside) : [];
    const among = lost.length > 0 ? lost : tasks;
    const task = among[(pick >>> 1) % among.length];
    act(task, this.#slotOf(task));
  }

  #withWorker(pick: number, act: (of: ModelWorker, worker: CoreWorker) => void): void {
    const { workers } = this.model;
    if (workers.length === 0) return;
    const of = workers[pick % workers.length];
    act(of, this.#workers.get(of.index) as CoreWorker);
  }

  #slotOf(task: ModelTask): number {
    const slot = this.core.index.get(task.id);
    expect(slot, `slot of task ${task.id}`).not.toBe(NONE);
    return slot;
  }

  // ── Comparison ────────────────────────────────────────────────────────────────────────────────────────────────────

  check(): void {
    const { core, model } = this;
    expect(core.index.size).toBe(model.tasks.size);
    expect(core.table.count).toBe(model.tasks.size);
    for (const task of model.tasks.values()) this.#checkTask(task);
    this.#checkIds();
    for (const name of core.queues.names()) this.#checkQueue(name);
    for (const worker of model.workers) this.#checkWorker(worker);
    const references = [...this.#references].filter(([, count]) => count !== 0);
    expect(new Map(references)).toEqual(model.references());
    for (const key of this.#kinds.keys()) {
      const used = [...model.tasks.values()].filter(({ kind }) => kind.key === key).length;
      expect(core.knownKind(key)?.taskCount ?? 0, `tasks of kind ${key}`).toBe(used);
      expect(core.knownKind(key) !== undefined, `kind ${key} is kept`).toBe(used > 0);
      this.#checkKey(key);
    }
    const aside = [...model.tasks.values()].filter((task) => task.aside).length;
    expect(core.assignments.leases.count).toBe(model.workers.reduce((sum, { held }) => sum + held.length, aside));
    expect(this.#finished).toEqual(model.finishedEvents);
    expect(core.nextSteadyMs()).toBe(Math.min(model.nextMs(false), core.queues.nextPacedMs()));
    this.#checkPaced();
    expect(core.nextWallMs()).toBe(model.nextMs(true));
  }

  /** How many tasks with its concurrency key run. */
  #checkKey(kindKey: string): void {
    const { queue, concurrencyKey } = this.#kinds.get(kindKey) as ModelKind;
    if (concurrencyKey === '') return;
    const running = this.model.in(queue, 'active').filter(({ kind }) => kind.concurrencyKey === concurrencyKey);
    const known = this.core.knownKind(kindKey);
    if (known !== undefined) expect(known.group.active, `${concurrencyKey} in ${queue}`).toBe(running.length);
  }

  #checkTask(task: ModelTask): void {
    const { core } = this;
    const slot = this.#slotOf(task);
    const { table } = core;
    const known = {
      id: table.id(slot),
      state: STATE_NAMES[table.state(slot)],
      attempts: table.attempts(slot),
      segment: table.segment(slot),
      offset: table.offset(slot),
      enqueuedAtMs: table.enqueuedAtMs(slot),
      kind: core.kindOf(slot).key,
      failures: core.failures(slot),
      result: resultOf(core, slot),
      cancelRequested: core.cancelRequested(slot),
      timeMs: timeOf(core, slot),
    };
    const { state } = task;
    const ended = state === 'completed' || state === 'dead' || state === 'cancelled';
    expect(known).toEqual({
      id: task.id,
      state,
      attempts: task.attempts,
      segment: task.segment,
      offset: task.offset,
      enqueuedAtMs: task.enqueuedAtMs,
      kind: task.kind.key,
      failures: task.failures,
      result: task.result,
      cancelRequested: task.cancelRequested,
      timeMs: ended ? task.atMs : state === 'scheduled' ? task.dueMs : 0,
    });
    if (task.worker === undefined) return;
    const { worker, token } = core.assignments.of(slot);
    expect({ worker: worker.index, token }).toEqual({ worker: task.worker.index, token: task.token });
    expect(core.assignments.leases.deadlineMs(table.get(slot, NEXT))).toBe(task.deadlineMs);
    expect(core.leased(worker, task.id, token + 1)).toBe(NONE);
  }

  #checkIds(): void {
    const scanned: number[] = [];
    this.core.index.scan(0, (id, slot) => {
      expect(this.core.table.id(slot)).toBe(id);
      scanned.push(id);
      return true;
    });
    expect(scanned).toEqual([...this.model.tasks.keys()].sort((a, b) => a - b));
  }

  #checkQueue(name: string): void {
    const { core, model } = this;
    const queue = core.queue(name);
    const expected = model.queue(name);
    const kept = (state: 'completed' | 'dead' | 'cancelled' | 'active' | 'scheduled'): number =>
      model.in(name, state).length;
    expect({
      ready: queue.ready,
      active: queue.active,
      scheduled: queue.scheduled,
      blocked: queue.blocked,
      completed: queue.finished.count - queue.cancelledKept,
      cancelled: queue.cancelledKept,
      dead: queue.dead.count,
      totals: queue.totals,
      kinds: queue.kindCount,
    }).toEqual({
      ready: model.readyOrder(name).length,
      active: kept('active'),
      scheduled: kept('scheduled'),
      blocked: 0,
      completed: kept('completed'),
      cancelled: kept('cancelled'),
      dead: kept('dead'),
      totals: expected.totals,
      kinds: new Set([...model.tasks.values()].filter(({ kind }) => kind.queue === name).map(({ kind }) => kind.key))
        .size,
    });
    expect(deadIds(core, name)).toEqual(expected.dead.map(({ id }) => id));
    this.#checkReady(name);
    const { flow } = expected;
    expect(queue.limits ?? NO_LIMITS, `limits of ${name}`).toEqual(flow.limits);
    expect(queue.allowance(this.nowMs), `allowance of ${name}`).toBe(
      flow.allowance(model.in(name, 'active'), this.nowMs),
    );
    const mayGo = model.next(name, this.nowMs).length > 0;
    const canDeliver = mayGo && !queue.paused && queue.workers.some(({ credit }) => credit > 0);
    if (canDeliver) expect(core.queues.marked, `${name} can deliver`).toContain(queue);
    for (const marked of core.queues.marked) expect(marked.marked).toBe(true);
  }

  /** Each key has the tasks that it should have, in their order. */
  #checkReady(name: string): void {
    const { core } = this;
    const listed: number[][] = [];
    for (const lists of core.queue(name).readyLists()) {
      const ids: number[] = [];
      for (let priority = 9; priority >= 0; priority--) {
        for (let slot = lists.head(priority); slot !== NONE; slot = core.table.get(slot, NEXT))
          ids.push(core.table.id(slot));
      }
      if (ids.length > 0) listed.push(ids);
    }
    const expected = new Map<string, number[]>();
    for (const { id, kind } of this.model.readyOrder(name)) {
      expected.set(kind.concurrencyKey, [...(expected.get(kind.concurrencyKey) ?? []), id]);
    }
    const byFirst = (a: number[], b: number[]): number => (a[0] as number) - (b[0] as number);
    expect(listed.sort(byFirst), `ready in ${name}`).toEqual([...expected.values()].sort(byFirst));
  }

  /** The owner is woken when the first token comes that somebody may wait for: not before, and not later. */
  #checkPaced(): void {
    const empty = [...this.model.queues.values()].filter(({ flow }) => flow.tokens(this.nowMs) < 1);
    const nextMs = Math.min(...empty.map(({ flow }) => flow.nextTokenMs()));
    // The time of day is known to a quarter of a microsecond.
    expect(Math.ceil(this.core.queues.nextPacedMs() - 0.0005), 'next token').toBe(nextMs);
    expect(nextMs).toBeGreaterThan(this.nowMs);
  }

  #checkWorker(of: ModelWorker): void {
    const worker = this.#workers.get(of.index) as CoreWorker;
    const { core } = this;
    const held: number[] = [];
    for (let lease = worker.leaseHead; lease !== NONE; lease = core.assignments.leases.next(lease)) {
      held.push(core.table.id(core.assignments.leases.slot(lease)));
    }
    expect(held).toEqual(of.held.map(({ id }) => id));
    const reversed: number[] = [];
    for (let lease = worker.leaseTail; lease !== NONE; lease = core.assignments.leases.prev(lease)) {
      reversed.unshift(core.table.id(core.assignments.leases.slot(lease)));
    }
    expect(reversed).toEqual(held);
    expect({ held: worker.held, begun: worker.begun, busy: worker.busy, credit: worker.credit }).toEqual({
      held: of.held.length,
      begun: of.held.filter((task) => task.deadlineMs > 0).length,
      busy: Math.min(of.held.length, of.concurrency),
      credit: of.silent ? 0 : of.prefetch - of.held.length,
    });
  }

  /** Ends and forgets everything; nothing may be left behind. */
  drain(): void {
    const { core, model } = this;
    for (const of of [...model.workers]) this.#removeWorker(of, this.#workers.get(of.index) as CoreWorker, true);
    for (const task of [...model.tasks.values()].filter(({ aside }) => aside)) this.#cancel(task, this.#slotOf(task));
    for (const name of QUEUE_NAMES) {
      this.#purgeQueue(name);
      const none = { completedCountMax: 0, completedAgeMs: 0, deadCountMax: 0, deadAgeMs: 0 };
      this.run({ do: 'retention', queue: QUEUE_NAMES.indexOf(name), retention: none });
    }
    this.check();
    expect(model.tasks.size).toBe(0);
    expect(core.table.count).toBe(0);
    expect([...this.#references.values()].every((count) => count === 0)).toBe(true);
  }
}
