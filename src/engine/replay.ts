import type { Core } from '../core/core.ts';
import { FLAG_FAILURES, FLAG_WATCHED, NONE, State } from '../core/task-table.ts';
import { InvariantError } from '../errors.ts';
import { EPOCH, type JournalRecord, SEGMENT_STATE } from '../journal/journal.ts';
import { EnqueueReader } from '../protocol/batch.ts';
import { readF64, readU16, readU32, readU48, readU64 } from '../protocol/bytes.ts';
import { CompletionReader, NO_RESULT } from '../protocol/settlement.ts';
import { splitSubmission } from '../protocol/submission.ts';
import { applyCommand } from './commands.ts';
import {
  type Command,
  ENQUEUE_HEAD_BYTES,
  FAILURE_HEAD_BYTES,
  fireTasksStart,
  OUTCOME,
  OUTCOME_LOST,
  PRODUCER_BYTES,
  RECORD,
  TIME_BYTES,
  unpackFireHead,
} from './records.ts';
import type { SegmentReader } from './segment-reader.ts';
import { unpackSnapshot } from './snapshot.ts';
import { applyEnqueue, applyFire, kindOfSpec, restoreState } from './state.ts';
import { applySubmission, type SubmissionPlan } from './submissions.ts';

const OUTCOMES = { [OUTCOME.retry]: 'retry', [OUTCOME.dead]: 'dead', [OUTCOME.cancelled]: 'cancelled' } as const;

/**
 * Brings a core to where the journal ends. Records may speak of tasks that are gone: their enqueue was in a segment that
 * has been given up because they had ended. These are passed over.
 */
export class Replay {
  readonly #core: Core;
  readonly #reader: SegmentReader;
  readonly #enqueues = new EnqueueReader();
  readonly #completions = new CompletionReader();
  #stateRestored = false;

  constructor(core: Core, reader: SegmentReader) {
    this.#core = core;
    this.#reader = reader;
  }

  /** The state at the begin of the oldest segment; the later ones only repeat what the records between say. */
  #restoreState(body: Buffer): void {
    if (this.#stateRestored) return;
    this.#stateRestored = true;
    restoreState(this.#core, body);
  }

  apply(record: JournalRecord): void {
    const tag = this.#reader.tag(record.segment);
    switch (record.type) {
      case RECORD.ENQUEUE:
        this.#enqueue(record.body, tag, record.offset);
        break;
      case RECORD.SUBMIT:
        this.#submit(record.body, tag, record.offset);
        break;
      case RECORD.FIRE:
        this.#fire(record.body, tag, record.offset);
        break;
      case RECORD.COMPLETE:
        this.#complete(record.body, tag, record.offset);
        break;
      case RECORD.FAIL:
        this.#fail(record.body, tag, record.offset);
        break;
      case RECORD.COMMAND:
        applyCommand(this.#core, JSON.parse(record.body.toString()) as Command);
        break;
      case RECORD.SNAPSHOT:
        this.#snapshot(record.body, tag, record.offset);
        break;
      case SEGMENT_STATE:
        this.#restoreState(record.body);
        break;
      case EPOCH:
        break;
      default:
        throw new InvariantError(`a record of unknown type ${record.type}`);
    }
  }

  #enqueue(body: Buffer, segment: number, offset: number): void {
    const place = { segment, shift: offset, steadyMs: readF64(body, 0), firstId: readU64(body, 8) };
    applyEnqueue(this.#core, this.#enqueues, body, ENQUEUE_HEAD_BYTES, body.length, place);
    this.#remember(body, place, undefined);
  }

  #submit(body: Buffer, segment: number, offset: number): void {
    const place = { segment, shift: offset, steadyMs: readF64(body, 0), firstId: readU64(body, 8) };
    const { enqueueEnd, relations } = splitSubmission(body, ENQUEUE_HEAD_BYTES, body.length);
    const plan = relations as unknown as SubmissionPlan;
    applySubmission(this.#core, this.#enqueues, body, ENQUEUE_HEAD_BYTES, enqueueEnd, place, plan);
    this.#remember(body, place, plan.existing);
  }

  #remember(
    body: Buffer,
    { firstId, steadyMs }: { firstId: number; steadyMs: number },
    existing: SubmissionPlan['existing'] | undefined,
  ): void {
    const start = ENQUEUE_HEAD_BYTES;
    const batch = readU48(body, start);
    const lowestUnconfirmed = readU48(body, start + 6);
    const producer = body.toString('hex', start - PRODUCER_BYTES, start);
    const { taskCount } = this.#enqueues;
    this.#core.producers.remember(producer, batch, lowestUnconfirmed, firstId, taskCount, steadyMs, existing);
  }

  #fire(body: Buffer, segment: number, offset: number): void {
    const place = { bytes: body, start: fireTasksStart(body), segment, shift: offset };
    applyFire(this.#core, this.#enqueues, unpackFireHead(body), place);
  }

  #complete(body: Buffer, segment: number, offset: number): void {
    const core = this.#core;
    const steadyMs = readF64(body, 0);
    const reader = this.#completions;
    reader.open(body, TIME_BYTES, body.length);
    while (reader.next()) {
      let result = reader.resultsStart;
      const hasResults = reader.resultsEnd > result;
      for (let i = 0; i < reader.count; i++) {
        const length = hasResults ? readU32(body, result) : NO_RESULT;
        const slot = core.index.get(reader.firstId + i);
        if (slot !== NONE && core.table.state(slot) < State.COMPLETED) {
          if (length === NO_RESULT) core.complete(slot, steadyMs, NONE, 0);
          else core.complete(slot, steadyMs, segment, offset + result);
        }
        if (hasResults) result += length === NO_RESULT ? 4 : 4 + length;
      }
    }
    core.reportDropped();
  }

  #fail(body: Buffer, segment: number, offset: number): void {
    const core = this.#core;
    const atMs = readF64(body, 0);
    for (let at = TIME_BYTES; at < body.length; ) {
      const slot = core.index.get(readU64(body, at));
      const outcome = body[at + 8];
      if (slot !== NONE && core.table.state(slot) < State.COMPLETED) {
        const place = { attempt: readU16(body, at + 9), atMs, segment, offset: offset + at + FAILURE_HEAD_BYTES - 4 };
        const kind = OUTCOMES[(outcome & ~OUTCOME_LOST) as keyof typeof OUTCOMES];
        core.fail(slot, place, kind, readF64(body, at + 11), (outcome & OUTCOME_LOST) !== 0);
      }
      at += FAILURE_HEAD_BYTES + readU32(body, at + 19);
    }
  }

  #snapshot(body: Buffer, segment: number, offset: number): void {
    for (let at = 0; at < body.length; ) {
      const task = unpackSnapshot(body, at);
      this.#core.restore({
        kind: kindOfSpec(this.#core, body, task.specStart, task.specEnd),
        id: task.id,
        state: task.state,
        flags: (task.flags << 24) & ~(FLAG_FAILURES | FLAG_WATCHED),
        attempts: task.attempts,
        enqueuedAtMs: task.enqueuedAtMs,
        atMs: task.atMs,
        segment,
        offset: offset + task.payload,
        result: task.result === undefined ? undefined : { segment, offset: offset + task.result },
        failures: task.failures.map((failure) => ({ ...failure, segment, offset: offset + failure.offset })),
        relations: task.relations,
      });
      at = task.end;
    }
  }
}
