import type { Core } from '../core/core.ts';
import { KIND_STATE, NONE, State } from '../core/task-table.ts';
import { resultOf, timeOf } from '../core/views.ts';
import type { Journal, JournalRecord } from '../journal/journal.ts';
import { EnqueueReader } from '../protocol/batch.ts';
import { readU64 } from '../protocol/bytes.ts';
import { splitSubmission } from '../protocol/submission.ts';
import { taskBytes } from '../protocol/task-headers.ts';
import { ENQUEUE_HEAD_BYTES, fireTasksStart, RECORD } from './records.ts';
import { asReadError, type SegmentReader } from './segment-reader.ts';
import { packSnapshot, unpackSnapshot } from './snapshot.ts';

/** The log may be this many times as large as what is live in it, and a few segments more. */
const LOG_FACTOR = 3;
const SEGMENTS_FREE = 4;
/** A segment with so small a share of live tasks is cleaned once it is the oldest of several. */
const SPARSE_SHARE = 0.1;
const SNAPSHOT_BYTES = 256 * 1024;
const REST_AFTER_FAILURE = 60;
/** About what a task takes beside its bytes. */
const SNAPSHOT_TASK_BYTES = 100;

/**
 * Gives up the oldest segment when little in it is live, or when the log has outgrown what is live: the tasks left in it
 * are copied to the log's end. Segments go strictly from the oldest on, because a record that ends a task must not
 * disappear before the record that began it.
 */
export class Cleaner {
  readonly #core: Core;
  readonly #journal: Journal;
  readonly #reader: SegmentReader;
  readonly #failed: (error: unknown) => void;
  #running: Promise<void> | undefined;
  #stopped = false;
  /** So many times `consider` does nothing. */
  #rest = 0;

  constructor(core: Core, journal: Journal, reader: SegmentReader, failed: (error: unknown) => void) {
    this.#core = core;
    this.#journal = journal;
    this.#reader = reader;
    this.#failed = failed;
  }

  /** Starts to clean if there is something to clean and nothing is being cleaned. Call it once a second. */
  consider(): void {
    if (this.#running !== undefined || this.#stopped || this.#rest-- > 0 || !this.#worthwhile()) return;
    this.#running = this.#cleanOldest()
      .catch((error: unknown) => {
        // What cannot be read stays where it is, and so does everything behind it.
        this.#rest = REST_AFTER_FAILURE;
        if (!this.#stopped) this.#failed(error);
      })
      .finally(() => {
        this.#running = undefined;
      });
  }

  /** Resolves when nothing is being copied any more. */
  async stop(): Promise<void> {
    this.#stopped = true;
    await this.#running;
  }

  #worthwhile(): boolean {
    const oldest = this.#journal.oldestSegment();
    if (oldest === undefined || oldest.liveCount === 0) return false;
    const share = oldest.liveCount / Math.max(oldest.recordedCount, 1);
    if (this.#journal.segmentCount > 2 && share < SPARSE_SHARE) return true;
    const liveBytes = this.#reader.references * (oldest.bytes / Math.max(oldest.recordedCount, 1));
    return this.#journal.stats().bytes > liveBytes * LOG_FACTOR + SEGMENTS_FREE * oldest.bytes;
  }

  async #cleanOldest(): Promise<void> {
    const oldest = this.#journal.oldestSegment();
    if (oldest === undefined) return;
    const tag = this.#reader.tag(oldest.segment);
    // Places of task records, collected per page of the segment; copying needs awaits, which `read` does not offer.
    const live: number[] = [];
    await this.#journal
      .read(oldest.segment, (record) => this.#collect(record, tag, live))
      .catch((error: unknown) => {
        throw asReadError(error);
      });
    await this.#copy(live, tag);
  }

  /** The ids of tasks whose payload the record holds. */
  #collect(record: JournalRecord, tag: number, live: number[]): void {
    const { body, offset } = record;
    const { type } = record;
    if (type === RECORD.ENQUEUE || type === RECORD.SUBMIT || type === RECORD.FIRE) {
      const reader = new EnqueueReader();
      const start = type === RECORD.FIRE ? fireTasksStart(body) : ENQUEUE_HEAD_BYTES;
      const end = type === RECORD.SUBMIT ? splitSubmission(body, start, body.length).enqueueEnd : body.length;
      reader.open(body, start, end);
      let id = readU64(body, 8);
      while (reader.next()) {
        for (let i = 0, at = reader.tasksStart; i < reader.count; i++, id++, at += 4 + taskBytes(body, at)) {
          if (this.#isAt(id, tag, offset + at)) live.push(id);
        }
      }
    } else if (record.type === RECORD.SNAPSHOT) {
      for (let at = 0; at < body.length; ) {
        const task = unpackSnapshot(body, at);
        if (this.#isAt(task.id, tag, offset + task.payload)) live.push(task.id);
        at = task.end;
      }
    }
  }

  #isAt(id: number, tag: number, offset: number): boolean {
    const slot = this.#core.index.get(id);
    if (slot === NONE) return false;
    return this.#core.table.segment(slot) === tag && this.#core.table.offset(slot) === offset;
  }

  async #copy(ids: readonly number[], tag: number): Promise<void> {
    let batch = new SnapshotBatch(this.#core, this.#journal, this.#reader);
    for (const id of ids) {
      if (this.#stopped) return;
      await batch.gather(id, tag);
      if (batch.bytes < SNAPSHOT_BYTES) continue;
      batch.commit();
      await this.#journal.flush();
      batch = new SnapshotBatch(this.#core, this.#journal, this.#reader);
    }
    batch.commit();
    await this.#journal.flush();
  }
}

interface Place {
  segment: number;
  offset: number;
}

/** Payload, failures, result if any. */
function placesOf(core: Core, slot: number): Place[] {
  const { table } = core;
  const places: Place[] = [{ segment: table.segment(slot), offset: table.offset(slot) }, ...core.failures(slot)];
  const result = resultOf(core, slot);
  if (result !== undefined) places.push(result);
  return places;
}

interface Gathered {
  id: number;
  places: Place[];
  blobs: Buffer[];
}

/**
 * Tasks to be copied forward. Their bytes never change, so they are gathered one by one, however little fits into the
 * memory; how the tasks stand is written in one turn, so that none can change between its copy and the new place being
 * known.
 */
class SnapshotBatch {
  readonly #core: Core;
  readonly #journal: Journal;
  readonly #reader: SegmentReader;
  readonly #gathered: Gathered[] = [];
  bytes = 0;

  constructor(core: Core, journal: Journal, reader: SegmentReader) {
    this.#core = core;
    this.#journal = journal;
    this.#reader = reader;
  }

  /** Passes over a task that has gone or moved. */
  async gather(id: number, tag: number): Promise<void> {
    const slot = this.#core.index.get(id);
    if (slot === NONE || this.#core.table.segment(slot) !== tag) return;
    const places = placesOf(this.#core, slot);
    const blobs: Buffer[] = [];
    for (const place of places) {
      const blob = await this.#load(id, place);
      if (blob === undefined) return;
      blobs.push(blob);
      this.bytes += blob.length;
    }
    this.bytes += SNAPSHOT_TASK_BYTES;
    this.#gathered.push({ id, places, blobs });
  }

  /** A copy of the bytes with their length; undefined when the task has gone or moved meanwhile. */
  async #load(id: number, place: Place): Promise<Buffer | undefined> {
    for (;;) {
      const slot = this.#core.index.get(id);
      if (slot === NONE || !placesOf(this.#core, slot).some((known) => isSame(known, place))) return undefined;
      const blob = this.#reader.stored(place.segment, place.offset);
      if (blob !== undefined) return blob;
      await this.#reader.load(place.segment, place.offset);
      this.#reader.refresh();
    }
  }

  /** Writes the tasks as they are now. One that has got a result or another failure meanwhile stays for the next time. */
  commit(): void {
    const parts: Buffer[] = [];
    const moves: ((segment: number, offset: number) => void)[] = [];
    let size = 0;
    for (const { id, places, blobs } of this.#gathered) {
      const slot = this.#core.index.get(id);
      if (slot === NONE) continue;
      const now = placesOf(this.#core, slot);
      if (now.length !== places.length || !now.every((place, i) => isSame(place, places[i]))) continue;
      const { bytes, offsets } = this.#pack(slot, id, blobs);
      const at = size;
      moves.push((segment, offset) => {
        const place = (blob: number): Place => ({ segment, offset: offset + at + blob });
        const result = offsets.result === undefined ? undefined : place(offsets.result);
        this.#core.relocate(slot, place(offsets.payload), result, offsets.failures.map(place));
      });
      parts.push(bytes);
      size += bytes.length;
    }
    if (parts.length === 0) return;
    this.#journal.append(RECORD.SNAPSHOT, Buffer.concat(parts));
    const segment = this.#reader.tag(this.#journal.lastSegment);
    for (const move of moves) move(segment, this.#journal.lastOffset);
  }

  /** `blobs` in the order of `placesOf`. */
  #pack(slot: number, id: number, blobs: readonly Buffer[]): ReturnType<typeof packSnapshot> {
    const { table } = this.#core;
    const state = table.state(slot);
    const failures = this.#core.failures(slot);
    return packSnapshot({
      id,
      // Who runs it is not journaled.
      state: state === State.ACTIVE ? State.READY : state,
      flags: table.get(slot, KIND_STATE) >>> 24,
      attempts: table.attempts(slot),
      enqueuedAtMs: table.enqueuedAtMs(slot),
      atMs: timeOf(this.#core, slot),
      spec: this.#core.kindOf(slot).packed,
      payload: blobs[0],
      failures: failures.map(({ attempt, atMs }, i) => ({ attempt, atMs, error: blobs[i + 1] })),
      result: blobs[failures.length + 1],
      relations: this.#core.relations.of(id),
    });
  }
}

function isSame(a: Place, b: Place): boolean {
  return a.segment === b.segment && a.offset === b.offset;
}
