import type { Core } from '../core/core.ts';
import type { PayloadReader } from '../core/effects.ts';
import { State } from '../core/task-table.ts';
import { resultOf } from '../core/views.ts';
import { MillraceError } from '../errors.ts';
import type { Extent, Journal } from '../journal/journal.ts';
import { hasHeaders, payloadStart, taskBytes, unpackHeaders } from '../protocol/task-headers.ts';

/** How a task ended, with a copy of its result or error. */
export type StoredOutcome =
  | { state: 'completed'; result: Buffer | undefined }
  | { state: 'dead'; error: Buffer }
  | { state: 'cancelled' }
  | { state: 'notFound' }
  /** It has ended, and its result or error cannot be read. */
  | { state: 'unreadable'; error: MillraceError };

/** How a task ended, and where its result or error lies, which stays there until `release`. */
export interface KeptOutcome {
  state: 'completed' | 'dead' | 'cancelled';
  place: { segment: number; offset: number } | undefined;
  /** In whole, not its tag. */
  segment: number;
  release: () => void;
}

const SEGMENT_TAGS = 0x1_0000;
const NO_BYTES = Buffer.alloc(0);

/**
 * Tasks, results and errors by the places that the core knows: all are blobs of a u32 length and bytes, before which a task
 * may have headers (see protocol/task-headers.ts). The core keeps
 * the low 16 bits of segment numbers; fewer segments than that exist at a time.
 */
export class SegmentReader implements PayloadReader {
  journal: Journal | undefined;
  /** At least every segment number that the core was given. */
  newestSegment = 0;
  /** How many places the core knows. */
  references = 0;
  #extentTag = -1;
  #extent: Extent = { bytes: NO_BYTES, base: 0 };

  full(tag: number): number {
    return this.newestSegment - ((this.newestSegment - tag) & (SEGMENT_TAGS - 1));
  }

  /** The tag of a segment that is about to be used. */
  tag(segment: number): number {
    if (segment > this.newestSegment) this.newestSegment = segment;
    return segment & (SEGMENT_TAGS - 1);
  }

  /** The bytes around a place, if they are in memory. Valid until the next await. */
  extent(tag: number, offset: number): Extent | undefined {
    const extent = this.#extent;
    if (tag === this.#extentTag && offset >= extent.base && offset < extent.base + extent.bytes.length) return extent;
    const found = this.journal?.locate(this.full(tag), offset);
    if (found !== undefined) {
      this.#extentTag = tag;
      this.#extent = found;
    }
    return found;
  }

  /** Forgets what `extent` remembers: pages may have been given up since. Call at the begin of each turn. */
  refresh(): void {
    this.#extentTag = -1;
  }

  lengthAt(tag: number, offset: number): number {
    const extent = this.extent(tag, offset);
    return extent === undefined ? -1 : 4 + taskBytes(extent.bytes, offset - extent.base);
  }

  /** Bytes of a task's payload; 0 when it is not in memory. */
  payloadBytesAt(tag: number, offset: number): number {
    const extent = this.extent(tag, offset);
    if (extent === undefined) return 0;
    const start = offset - extent.base;
    return start + 4 + taskBytes(extent.bytes, start) - payloadStart(extent.bytes, start);
  }

  /** A copy of a blob with its length, or undefined when it is not in memory. */
  stored(tag: number, offset: number): Buffer | undefined {
    const extent = this.extent(tag, offset);
    if (extent === undefined) return undefined;
    const start = offset - extent.base;
    return Buffer.from(extent.bytes.subarray(start, start + 4 + taskBytes(extent.bytes, start)));
  }

  /** A copy of a result or an error, or undefined when it is not in memory. */
  blob(tag: number, offset: number): Buffer | undefined {
    return this.stored(tag, offset)?.subarray(4);
  }

  /** Rejects with JOURNAL_DAMAGED or STORAGE_FAILED. */
  async load(tag: number, offset: number): Promise<void> {
    try {
      await (this.journal as Journal).load(this.full(tag), offset);
    } catch (error) {
      throw asReadError(error);
    }
  }

  /** A copy of a result or an error that may have to be read, and may move meanwhile: `find` says where it is now, if it still is. */
  loadBlob(find: () => { segment: number; offset: number }): Promise<Buffer>;
  loadBlob(find: () => { segment: number; offset: number } | undefined): Promise<Buffer | undefined>;
  async loadBlob(find: () => { segment: number; offset: number } | undefined): Promise<Buffer | undefined> {
    const stored = await this.#loadStored(find);
    return stored?.subarray(4);
  }

  /** A copy of what a task was enqueued with; as `loadBlob`. */
  async loadTask(
    find: () => { segment: number; offset: number },
  ): Promise<{ payload: Buffer; headers: ReturnType<typeof unpackHeaders> | undefined }> {
    const stored = (await this.#loadStored(find)) as Buffer;
    return {
      payload: stored.subarray(payloadStart(stored, 0)),
      headers: hasHeaders(stored, 0) ? unpackHeaders(stored, 4) : undefined,
    };
  }

  async #loadStored(find: () => { segment: number; offset: number } | undefined): Promise<Buffer | undefined> {
    for (;;) {
      const place = find();
      if (place === undefined) return undefined;
      const { segment, offset } = place;
      const stored = this.stored(segment, offset);
      if (stored !== undefined) return stored;
      await this.load(segment, offset);
      this.refresh();
    }
  }

  /** Where a task's result or last error lies; undefined when there is none. */
  #outcomePlace(core: Core, slot: number, state: State): { segment: number; offset: number } | undefined {
    if (state === State.COMPLETED) return resultOf(core, slot);
    return state === State.DEAD ? core.failures(slot).at(-1) : undefined;
  }

  /** The outcome of a task that ends now: what it points at was just written, so it is in memory. */
  outcome(core: Core, slot: number, state: State): StoredOutcome {
    const place = this.#outcomePlace(core, slot, state);
    const bytes = place === undefined ? undefined : this.blob(place.segment, place.offset);
    if (state === State.COMPLETED) return { state: 'completed', result: bytes };
    return state === State.DEAD ? { state: 'dead', error: bytes ?? NO_BYTES } : { state: 'cancelled' };
  }

  /** The outcome of a task that has ended, to be read later. */
  keepOutcome(core: Core, slot: number): KeptOutcome {
    const state = core.table.state(slot);
    const place = this.#outcomePlace(core, slot, state);
    const segment = place === undefined ? Number.POSITIVE_INFINITY : this.full(place.segment);
    return {
      state: state === State.COMPLETED ? 'completed' : state === State.DEAD ? 'dead' : 'cancelled',
      place,
      segment,
      release: place === undefined ? () => {} : (this.journal as Journal).hold(segment),
    };
  }

  async loadKept({ state, place }: KeptOutcome): Promise<StoredOutcome> {
    const bytes = place === undefined ? undefined : await this.loadBlob(() => place);
    if (state === 'completed') return { state, result: bytes };
    return state === 'dead' ? { state, error: bytes ?? NO_BYTES } : { state };
  }

  /** The outcome of a task that ended earlier. */
  async loadOutcome(core: Core, slot: number): Promise<StoredOutcome> {
    const id = core.table.id(slot);
    for (;;) {
      if (core.index.get(id) !== slot || core.table.state(slot) < State.COMPLETED) return { state: 'notFound' };
      const state = core.table.state(slot);
      const place = this.#outcomePlace(core, slot, state);
      if (place === undefined || this.extent(place.segment, place.offset) !== undefined) {
        return this.outcome(core, slot, state);
      }
      await this.load(place.segment, place.offset);
      this.refresh();
    }
  }
}

/** A page that the system cannot read is STORAGE_FAILED, one that is not what was written JOURNAL_DAMAGED. */
export function asReadError(error: unknown): unknown {
  if (error instanceof MillraceError || !(error instanceof Error) || !('code' in error)) return error;
  return new MillraceError('STORAGE_FAILED', `the journal cannot be read: ${error.message}`, { cause: error });
}
