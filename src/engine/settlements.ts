import type { Core } from '../core/core.ts';
import type { FailureOutcome } from '../core/effects.ts';
import { NONE, State } from '../core/task-table.ts';
import { decideFailure } from '../core/views.ts';
import type { CoreWorker } from '../core/worker.ts';
import type { Clock } from '../io/clock.ts';
import type { Random } from '../io/random.ts';
import type { Journal } from '../journal/journal.ts';
import { readU32, writeF64, writeU16, writeU32, writeU64 } from '../protocol/bytes.ts';
import { CompletionReader, FailureReader, NO_RESULT, ReleaseReader } from '../protocol/settlement.ts';
import { encodeTaskError } from '../protocol/settlement-writer.ts';
import { keptTaskError } from '../protocol/task-error.ts';
import type { Commands } from './commands.ts';
import type { Events } from './events.ts';
import { FAILURE_HEAD_BYTES, OUTCOME, OUTCOME_LOST, packTime, RECORD, TIME_BYTES } from './records.ts';
import type { SegmentReader } from './segment-reader.ts';

const LOST_ERROR = {
  name: 'WorkerLost',
  code: 'WORKER_LOST',
  message: 'the worker died or lost its connection while it ran this attempt',
};

const LOST = { final: false, retryDelayMs: 0 } as const;

interface PlannedFailure {
  slot: number;
  error: Uint8Array;
  outcome: FailureOutcome;
  attempt: number;
  dueMs: number;
  lost: boolean;
}

/**
 * How attempts end: frames of workers, lost workers, timeouts. Each frame is checked against the leases first, then
 * journaled as one record, then applied; a frame that is malformed anywhere changes nothing.
 */
export class Settlements {
  readonly #core: Core;
  readonly #journal: Journal;
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #commands: Commands;
  readonly #events: Events;
  readonly #reader: SegmentReader;
  readonly #lostGraceMs: number;
  readonly #completions = new CompletionReader();
  readonly #failures = new FailureReader();
  readonly #releases = new ReleaseReader();
  #slots = new Uint32Array(1024);

  constructor(parts: {
    core: Core;
    journal: Journal;
    clock: Clock;
    random: Random;
    commands: Commands;
    events: Events;
    reader: SegmentReader;
    lostGraceMs: number;
  }) {
    this.#lostGraceMs = parts.lostGraceMs;
    this.#core = parts.core;
    this.#journal = parts.journal;
    this.#clock = parts.clock;
    this.#random = parts.random;
    this.#commands = parts.commands;
    this.#events = parts.events;
    this.#reader = parts.reader;
  }

  /** Takes the body of a COMPLETE frame; adds the ids whose lease is lost to `refused`. */
  complete(worker: CoreWorker, buffer: Buffer, start: number, end: number, refused: number[]): void {
    const count = this.#resolve(worker, buffer, start, end, refused);
    // Of nothing there is nothing to remember: the disk is not for whoever sends it without end.
    if (count === 0) return;
    if (refused.length === 0) {
      this.#completeAll(worker, buffer, start, end);
      return;
    }
    const valid = this.#withoutLost(worker, buffer, start, end);
    this.#resolve(worker, valid, 0, valid.length, []);
    this.#completeAll(worker, valid, 0, valid.length);
  }

  /** Puts the slots of all tasks named into `#slots`, but for those whose lease is lost; returns how many they are. */
  #resolve(worker: CoreWorker, buffer: Buffer, start: number, end: number, refused: number[]): number {
    const core = this.#core;
    const reader = this.#completions;
    let count = 0;
    reader.open(buffer, start, end);
    while (reader.next()) {
      if (count + reader.count > this.#slots.length) this.#growSlots(count + reader.count);
      const { firstId, firstToken } = reader;
      for (let i = 0; i < reader.count; i++) {
        const slot = core.leased(worker, firstId + i, firstToken + i);
        if (slot === NONE) refused.push(firstId + i);
        else this.#slots[count++] = slot;
      }
    }
    return count;
  }

  #completeAll(worker: CoreWorker, buffer: Buffer, start: number, end: number): void {
    const core = this.#core;
    const journal = this.#journal;
    const nowMs = this.#clock.steadyMs();
    journal.append(RECORD.COMPLETE, packTime(nowMs), buffer.subarray(start, end));
    const segment = this.#reader.tag(journal.lastSegment);
    const shift = journal.lastOffset + TIME_BYTES - start;
    const events = this.#events.isWatched ? this.#events : undefined;
    const reader = this.#completions;
    let next = 0;
    reader.open(buffer, start, end);
    while (reader.next()) {
      let result = reader.resultsStart;
      const hasResults = reader.resultsEnd > result;
      for (let i = 0; i < reader.count; i++) {
        const slot = this.#slots[next++];
        const length = hasResults ? readU32(buffer, result) : NO_RESULT;
        // A task named twice in one frame is finished, or even forgotten, the second time.
        if (core.table.state(slot) === State.ACTIVE) {
          events?.completed(slot);
          if (length === NO_RESULT) core.complete(slot, nowMs, NONE, 0);
          else core.complete(slot, nowMs, segment, result + shift);
        }
        if (hasResults) result += length === NO_RESULT ? 4 : 4 + length;
      }
    }
    core.reportDropped();
    worker.completed += next;
  }

  /** The same COMPLETE body without the tasks whose lease is lost. */
  #withoutLost(worker: CoreWorker, buffer: Buffer, start: number, end: number): Buffer {
    const reader = this.#completions;
    const parts: Uint8Array[] = [];
    reader.open(buffer, start, end);
    while (reader.next()) {
      let result = reader.resultsStart;
      const hasResults = reader.resultsEnd > result;
      for (let i = 0; i < reader.count; i++) {
        const length = hasResults ? readU32(buffer, result) : NO_RESULT;
        const resultEnd = hasResults ? result + (length === NO_RESULT ? 4 : 4 + length) : result;
        const bytes = buffer.subarray(result, resultEnd);
        result = resultEnd;
        if (this.#core.leased(worker, reader.firstId + i, reader.firstToken + i) === NONE) continue;
        const head = Buffer.allocUnsafe(24);
        writeU64(head, 0, reader.firstId + i);
        writeU64(head, 8, reader.firstToken + i);
        writeU32(head, 16, 1);
        writeU32(head, 20, bytes.length);
        parts.push(head, bytes);
      }
    }
    return Buffer.concat(parts);
  }

  /** Takes the body of a FAIL frame. */
  fail(worker: CoreWorker, buffer: Buffer, start: number, end: number, refused: number[]): void {
    const nowMs = this.#clock.steadyMs();
    const reader = this.#failures;
    const planned: PlannedFailure[] = [];
    const seen = new Set<number>();
    reader.open(buffer, start, end);
    while (reader.next()) {
      const slot = this.#core.leased(worker, reader.id, reader.token);
      if (slot === NONE || seen.has(slot)) {
        refused.push(reader.id);
        continue;
      }
      seen.add(slot);
      const error = keptTaskError(buffer.subarray(reader.errorStart, reader.errorEnd));
      planned.push(this.#plan(slot, error, nowMs, { final: reader.final, retryDelayMs: reader.retryDelayMs }));
    }
    this.#failAll(planned, nowMs);
    worker.failed += planned.length;
  }

  /** One task's attempt ends as failed, whatever its worker thinks. */
  failOne(slot: number, error: { name: string; code: string; message: string }): void {
    const nowMs = this.#clock.steadyMs();
    const bytes = this.#describe(slot, error);
    this.#failAll([this.#plan(slot, bytes, nowMs, { final: false, retryDelayMs: undefined })], nowMs);
  }

  /** A task that can never be handed out ends dead, whatever attempts are left. */
  bury(slot: number, error: { name: string; code: string; message: string }): void {
    const nowMs = this.#clock.steadyMs();
    const bytes = Buffer.from(JSON.stringify(error));
    this.#failAll([this.#plan(slot, bytes, nowMs, { final: true, retryDelayMs: undefined })], nowMs);
  }

  /**
   * Takes back what a worker that is gone held. What it had begun counts as a failed attempt when the worker was `lost`; what
   * it had not begun does not, nor what a stopping server takes back. What this would end is set aside for a while.
   */
  takeBack(worker: CoreWorker, lost: boolean): void {
    const { leases } = this.#core.assignments;
    const nowMs = this.#clock.steadyMs();
    const running: number[] = [];
    const waiting: number[] = [];
    this.#core.assignments.presume(nowMs);
    // From the last to the first: each goes to the front of its list, so that the order is kept.
    for (let lease = worker.leaseTail; lease !== NONE; lease = leases.prev(lease)) {
      const hasBegun = leases.running(lease) && lease !== worker.presumed;
      (lost && hasBegun ? running : waiting).push(leases.slot(lease));
    }
    for (const slot of waiting) this.#releaseOne(slot, nowMs, lost);
    const planned: PlannedFailure[] = [];
    for (const slot of running) {
      const failure = this.#plan(slot, this.#describe(slot, LOST_ERROR), nowMs, LOST);
      failure.lost = failure.outcome === 'retry';
      if (failure.outcome !== 'dead' || this.#lostGraceMs === 0) planned.push(failure);
      else this.#core.assignments.setAside(slot, nowMs, this.#lostGraceMs);
    }
    this.#failAll(planned, nowMs);
  }

  /** Its worker was lost in its last attempt and did not come back. */
  loseForGood(slot: number): void {
    const nowMs = this.#clock.steadyMs();
    this.#failAll([this.#plan(slot, this.#describe(slot, LOST_ERROR), nowMs, LOST)], nowMs);
  }

  /** Takes back what a worker has not begun that gives no sign of life; returns ids and tokens. */
  takeUnbegun(worker: CoreWorker): [number, number][] {
    const { leases } = this.#core.assignments;
    const nowMs = this.#clock.steadyMs();
    const taken: [number, number][] = [];
    const slots: number[] = [];
    for (let lease = worker.leaseTail; lease !== NONE; lease = leases.prev(lease)) {
      if (leases.running(lease) && lease !== worker.presumed) break;
      slots.push(leases.slot(lease));
      taken.push([this.#core.table.id(leases.slot(lease)), leases.token(lease)]);
    }
    for (const slot of slots) this.#releaseOne(slot, nowMs, true);
    return taken;
  }

  /** Takes back what a worker held when nothing can be journaled any more. */
  abandon(worker: CoreWorker): void {
    const { leases } = this.#core.assignments;
    const nowMs = this.#clock.steadyMs();
    while (worker.leaseTail !== NONE) this.#core.release(leases.slot(worker.leaseTail), nowMs);
  }

  /** Takes the body of a RELEASE frame. Nothing is journaled: waiting and active are the same there. */
  release(worker: CoreWorker, buffer: Buffer, start: number, end: number, refused: number[]): void {
    const nowMs = this.#clock.steadyMs();
    const reader = this.#releases;
    const slots: number[] = [];
    reader.open(buffer, start, end);
    while (reader.next()) {
      for (let i = 0; i < reader.count; i++) {
        const slot = this.#core.leased(worker, reader.firstId + i, reader.firstToken + i);
        if (slot === NONE) refused.push(reader.firstId + i);
        else slots.push(slot);
      }
    }
    for (const slot of slots.reverse()) {
      if (this.#core.table.state(slot) === State.ACTIVE) this.#releaseOne(slot, nowMs);
    }
  }

  #releaseOne(slot: number, nowMs: number, suspect = false): void {
    if (this.#events.isWatched) this.#events.released(slot);
    if (this.#core.cancelRequested(slot)) this.#commands.cancelNow(slot);
    else this.#core.release(slot, nowMs, suspect);
  }

  /** An error of ours, with who ran the attempt. */
  #describe(slot: number, error: { name: string; code: string; message: string }): Buffer {
    const { worker, begunMs } = this.#core.assignments.runOf(slot);
    const run = {
      ...(worker === '' ? {} : { worker }),
      ...(begunMs === undefined ? {} : { startedAtMs: Math.round(begunMs) }),
    };
    return Buffer.from(encodeTaskError(error, run));
  }

  #plan(
    slot: number,
    error: Uint8Array,
    nowMs: number,
    options: { final: boolean; retryDelayMs: number | undefined },
  ): PlannedFailure {
    const { outcome, attempt, delayMs } = decideFailure(this.#core, slot, {
      final: options.final,
      retryDelayMs: options.retryDelayMs ?? -1,
      random: this.#random.float(),
    });
    return { slot, error, outcome, attempt, dueMs: nowMs + delayMs, lost: false };
  }

  #failAll(planned: readonly PlannedFailure[], nowMs: number): void {
    if (planned.length === 0) return;
    const parts: Uint8Array[] = [packTime(nowMs)];
    for (const failure of planned) {
      const head = Buffer.allocUnsafe(FAILURE_HEAD_BYTES);
      writeU64(head, 0, this.#core.table.id(failure.slot));
      head[8] = OUTCOME[failure.outcome] | (failure.lost ? OUTCOME_LOST : 0);
      writeU16(head, 9, failure.attempt);
      writeF64(head, 11, failure.dueMs);
      writeU32(head, 19, failure.error.length);
      parts.push(head, failure.error);
    }
    const journal = this.#journal;
    journal.append(RECORD.FAIL, Buffer.concat(parts));
    const segment = this.#reader.tag(journal.lastSegment);
    let offset = journal.lastOffset + TIME_BYTES;
    for (const { slot, error, outcome, attempt, dueMs, lost } of planned) {
      const place = { attempt, atMs: nowMs, segment, offset: offset + FAILURE_HEAD_BYTES - 4 };
      if (this.#events.isWatched) {
        this.#events.failed(slot, error, outcome, this.#core.table.state(slot) === State.ACTIVE);
      }
      this.#core.fail(slot, place, outcome, dueMs, lost);
      offset += FAILURE_HEAD_BYTES + error.length;
    }
  }

  #growSlots(countMin: number): void {
    const grown = new Uint32Array(Math.max(countMin, this.#slots.length * 2));
    grown.set(this.#slots);
    this.#slots = grown;
  }
}
