import type { MessagePort } from 'node:worker_threads';
import type { Consumption, FailOptions, Payload, TaskError } from '../../broker/contract.ts';
import type { Clock } from '../../io/clock.ts';
import { LIMITS } from '../../limits.ts';
import type { RunningTasks } from '../attempt.ts';
import type { AttemptGate } from '../runner.ts';
import { Costs } from './costs.ts';
import type { GroupRun } from './group.ts';
import type { Marks } from './marks.ts';
import type { FailedTask, Remark, Report, TextResults } from './messages.ts';

/**
 * The thread's side of a worker's consumption: gathers what its runner says, and tells the worker once a turn. While handlers
 * keep the turn, what has gathered for LIMITS.threadReportMs goes before the next one begins: it would be lost with the thread. Results do not
 * gather beyond LIMITS.threadGroupBytesMax.
 */
export class Reporter implements Consumption, AttemptGate {
  readonly #port: MessagePort;
  readonly #marks: Marks;
  readonly #clock: Clock;
  readonly #costs: Costs;
  #begun = 0;
  /** Of the tasks that have begun, those whose handler did not return yet: the last ones. */
  #calling = 0;
  #recalledTo = 0;
  #recallAccepted = false;
  #completed: number[] = [];
  #results = new GatheredResults();
  #byteResults: { number: number; bytes: Uint8Array }[] = [];
  /** Of what was gathered; of text, roughly. */
  #resultBytes = 0;
  #failed: FailedTask[] = [];
  #released: number[] = [];
  #ended: number[] = [];
  #dropped: number[] = [];
  #remarks: Remark[] = [];
  /** Handlers that did not end at once, and whether the worker knows. */
  readonly #running = new Map<RunningTasks, boolean>();
  #newlyRunning = false;
  /** When the first thing was gathered that was not told yet; 0: there is none. */
  #sinceMs = 0;
  #scheduled = false;
  #idle: (() => void)[] = [];

  constructor(port: MessagePort, marks: Marks, clock: Clock, concurrency: number) {
    this.#port = port;
    this.#marks = marks;
    this.#clock = clock;
    this.#costs = new Costs(concurrency);
  }

  /** The attempt that has this task, if its handler runs and did not end at once. */
  find(number: number): RunningTasks | undefined {
    for (const task of this.#running.keys()) {
      const first = firstOf(task);
      if (number >= first && number < first + task.length) return task;
    }
    return undefined;
  }

  /** Whether a handler has begun with the task. */
  hasBegun(number: number): boolean {
    return number <= this.#begun;
  }

  /** Resolves when no handler runs. */
  idle(): Promise<void> {
    if (this.#running.size === 0) return Promise.resolve();
    return new Promise((resolve) => this.#idle.push(resolve));
  }

  // ── What its runner asks before it begins, and says of handlers ───────────────────────────────────────────────────

  begins(run: GroupRun, from: number, length: number, nowMs: number): boolean {
    const last = run.first + from + length - 1;
    if (last <= this.#recalledTo) return false;
    this.#costs.started(run.spec.name, length, nowMs);
    if (this.#sinceMs !== 0 && nowMs - this.#sinceMs >= LIMITS.threadReportMs) this.tell();
    if (!this.#marks.claim(last, length, nowMs)) return false;
    this.#begun = last;
    this.#calling = length;
    this.#schedule();
    return true;
  }

  entered(task: RunningTasks): void {
    this.#running.set(task, false);
    this.#newlyRunning = true;
    this.#costs.entered();
    this.#gathered();
  }

  ended(task: RunningTasks): void {
    this.#costs.ended(task.name, task.length, this.#clock.steadyMs() - task.startedMs);
    const first = firstOf(task);
    if (this.#running.get(task)) {
      this.#ended.push(first);
      this.#gathered();
    } else if (task.isLost) {
      // Nothing else is said of it, and the worker does not know that it ran.
      for (let number = first; number < first + task.length; number++) this.#dropped.push(number);
      this.#gathered();
    }
    this.#running.delete(task);
    if (this.#running.size > 0) return;
    for (const resolve of this.#idle.splice(0)) resolve();
  }

  // ── What its runner settles ───────────────────────────────────────────────────────────────────────────────────────

  complete(run: GroupRun, index: number, result: Payload | undefined): void {
    const number = run.first + index;
    if (result === undefined) this.#completeRange(number, number + 1);
    else if (typeof result === 'string') this.#results.add(number, result);
    // Of its own: with a view, all of the memory that it is a part of would cross.
    else this.#byteResults.push({ number, bytes: new Uint8Array(result) });
    this.#resultBytes += result?.length ?? 0;
    this.#gathered();
    if (this.#resultBytes >= LIMITS.threadGroupBytesMax) this.tell();
  }

  completeMany(run: GroupRun, from: number, to: number): void {
    this.#completeRange(run.first + from, run.first + to);
    this.#gathered();
  }

  fail(run: GroupRun, index: number, error: TaskError, options: FailOptions, startedMs: number): void {
    this.#failed.push({ number: run.first + index, error, ...options, startedMs });
    this.#gathered();
  }

  release(run: GroupRun, index: number): void {
    this.#released.push(run.first + index);
    this.#gathered();
  }

  /** The marks have it. */
  begun(): void {}

  progress(run: GroupRun, index: number, progress: string): void {
    this.#remark({ number: run.first + index, kind: 'progress', text: progress });
  }

  log(run: GroupRun, index: number, text: string): void {
    this.#remark({ number: run.first + index, kind: 'log', text });
  }

  async stop(): Promise<void> {}

  async settled(): Promise<void> {}

  async close(): Promise<void> {}

  // ── Telling ───────────────────────────────────────────────────────────────────────────────────────────────────────

  /** What did not begin of the tasks up to this one was taken back. */
  recalled(last: number): void {
    this.#recalledTo = last;
    this.#marks.acceptRecall();
    this.#recallAccepted = true;
    this.#schedule();
  }

  /** The lease of a task was lost, and its runner was told: if no handler has it, none will. */
  lost(run: GroupRun, index: number): void {
    if (this.find(run.first + index) !== undefined) return;
    this.#dropped.push(run.first + index);
    this.#gathered();
  }

  tell(): void {
    this.#sinceMs = 0;
    const report: Report = {
      type: 'report',
      returned: this.#begun - this.#calling,
      completed: this.#completed,
      results: this.#results.take(),
      byteResults: this.#byteResults,
      failed: this.#failed,
      released: this.#released,
      entered: this.#takeEntered(),
      ended: this.#ended,
      dropped: this.#dropped,
      recallAccepted: this.#recallAccepted,
      remarks: this.#remarks,
      costs: this.#costs.take(),
    };
    this.#completed = [];
    this.#byteResults = [];
    this.#resultBytes = 0;
    this.#failed = [];
    this.#released = [];
    this.#ended = [];
    this.#dropped = [];
    this.#recallAccepted = false;
    this.#remarks = [];
    this.#port.postMessage(report);
  }

  /** A handler that keeps the thread has something to say for as long as it runs. */
  #remark(remark: Remark): void {
    const nowMs = this.#clock.steadyMs();
    if (this.#sinceMs === 0) this.#sinceMs = nowMs;
    this.#remarks.push(remark);
    if (nowMs - this.#sinceMs >= LIMITS.threadReportMs) this.tell();
    else this.#schedule();
  }

  #takeEntered(): Report['entered'] {
    if (!this.#newlyRunning) return [];
    this.#newlyRunning = false;
    const entered: Report['entered'][number][] = [];
    for (const [task, told] of this.#running) {
      if (told) continue;
      this.#running.set(task, true);
      entered.push({ first: firstOf(task), length: task.length, startedMs: task.startedMs });
    }
    return entered;
  }

  #completeRange(from: number, to: number): void {
    const completed = this.#completed;
    if (completed.at(-1) === from) completed[completed.length - 1] = to;
    else completed.push(from, to);
  }

  #gathered(): void {
    this.#calling = 0;
    if (this.#sinceMs === 0) this.#sinceMs = this.#clock.steadyMs();
    this.#schedule();
  }

  #schedule(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    // Also past promises: a handler that only looks asynchronous is over by then.
    this.#clock.deferPastInput(() => {
      this.#scheduled = false;
      this.#calling = 0;
      this.#costs.pause(this.#clock.steadyMs());
      this.tell();
    });
  }
}

function firstOf({ run, from }: RunningTasks): number {
  return (run as GroupRun).first + from;
}

/** Room for the results of a group; grows for more. */
const RESULTS_FIRST = 256;

class GatheredResults {
  #base = 0;
  #count = 0;
  #ends = new Uint32Array(2 * RESULTS_FIRST);
  #text = '';

  add(number: number, json: string): void {
    if (this.#count === 0) this.#base = number;
    if (2 * this.#count === this.#ends.length) {
      const larger = new Uint32Array(2 * this.#ends.length);
      larger.set(this.#ends);
      this.#ends = larger;
    }
    this.#text += json;
    // One that began before the first of these wraps around, and back when it is read.
    this.#ends[2 * this.#count] = number - this.#base;
    this.#ends[2 * this.#count + 1] = this.#text.length;
    this.#count++;
  }

  take(): TextResults | undefined {
    if (this.#count === 0) return undefined;
    const results = { base: this.#base, ends: this.#ends.slice(0, 2 * this.#count), text: this.#text };
    this.#count = 0;
    this.#text = '';
    return results;
  }
}
