/**
 * One record of eight 32-bit words a task, in chunks of typed arrays: 32 bytes and one cache line, no object, so that ten
 * million queued tasks fit and the garbage collector has nothing to trace. A slot is a record's index; it is reused after
 * the task is forgotten, so slots never leave the core (ids do).
 *
 * `NEXT` and `PREV` mean what the state says:
 *   ready      neighbours in the queue's list of its priority
 *   scheduled  NEXT = position in the timer heap
 *   active     NEXT = lease
 *   finished   NEXT = position in the queue's history
 *   free       NEXT = next free slot
 */
export const CHUNK_BITS = 15;
export const CHUNK_MASK = (1 << CHUNK_BITS) - 1;
/** `(slot & CHUNK_MASK) << WORD_BITS` is the record's first word in its chunk. */
export const WORD_BITS = 3;

export const ID_LOW = 0;
/** Epoch in the low 21 bits, the time's high 11 bits above. */
export const EPOCH_TIME = 1;
/** Low 32 bits of the enqueue time, in sixteenths of a millisecond since 2025. */
export const TIME_LOW = 2;
/** Where the payload lies: byte offset in its segment … */
export const OFFSET = 3;
/** … and the segment number's low 16 bits (high half), with the count of failed attempts (low half). */
export const SEGMENT_ATTEMPTS = 4;
/** Kind (low 20 bits), state (4 bits), flags (8 bits). */
export const KIND_STATE = 5;
export const NEXT = 6;
export const PREV = 7;

export const NONE = 0xffff_ffff;

export const KIND_BITS = 20;
export const KIND_MASK = (1 << KIND_BITS) - 1;
export const STATE_SHIFT = 20;
export const STATE_MASK = 0xf;
export const FLAG_CANCEL_REQUESTED = 1 << 24;
/** Has an entry in the failures side table. */
export const FLAG_FAILURES = 1 << 25;
/** Scheduled by wall clock (`runAt`), not by steady time. */
export const FLAG_WALL = 1 << 26;
/** Someone waits for the outcome. */
export const FLAG_WATCHED = 1 << 27;
/** Became ready later than it was enqueued, so its age says nothing of the queue's latency. */
export const FLAG_DEFERRED = 1 << 28;
/** The newest failure is a lost worker, which a resuming worker may take back. */
export const FLAG_LOST = 1 << 29;
/** A worker was lost, or fell silent, while it held the task: perhaps because of it. */
export const FLAG_SUSPECT = 1 << 30;
/** Has to do with other tasks: see relations.ts. */
export const FLAG_RELATED = 1 << 31;

export const State = {
  FREE: 0,
  SCHEDULED: 1,
  BLOCKED: 2,
  READY: 3,
  ACTIVE: 4,
  COMPLETED: 5,
  DEAD: 6,
  CANCELLED: 7,
} as const;
export type State = (typeof State)[keyof typeof State];

/** By state number, as everyone outside calls them. */
export const STATE_NAMES = [
  'free',
  'scheduled',
  'blocked',
  'ready',
  'active',
  'completed',
  'dead',
  'cancelled',
] as const;

const EPOCH_MASK = 0x1f_ffff;
const EPOCH_BITS = 21;
const TIME_ORIGIN_MS = 1_735_689_600_000;
const TICKS_PER_MS = 16;
const TICKS_MAX = 2 ** 43 - 1;
const TWO_32 = 2 ** 32;

/** A steady time as the table stores it; reached in 2042. */
export function timeTicks(ms: number): number {
  return Math.min(Math.max(Math.floor((ms - TIME_ORIGIN_MS) * TICKS_PER_MS), 0), TICKS_MAX);
}

export class TaskTable {
  readonly chunks: Uint32Array[] = [];
  #freeHead = NONE;
  #fresh = 0;
  #count = 0;

  get count(): number {
    return this.#count;
  }

  /** A slot whose words are all stale; the caller sets every one. */
  allocate(): number {
    this.#count++;
    const slot = this.#freeHead;
    if (slot !== NONE) {
      this.#freeHead = this.chunks[slot >>> CHUNK_BITS][((slot & CHUNK_MASK) << WORD_BITS) + NEXT];
      return slot;
    }
    const fresh = this.#fresh++;
    if (fresh >>> CHUNK_BITS === this.chunks.length) this.chunks.push(new Uint32Array((CHUNK_MASK + 1) << WORD_BITS));
    return fresh;
  }

  free(slot: number): void {
    const words = this.words(slot);
    const at = this.at(slot);
    words[at + KIND_STATE] = 0;
    words[at + NEXT] = this.#freeHead;
    this.#freeHead = slot;
    this.#count--;
  }

  words(slot: number): Uint32Array {
    return this.chunks[slot >>> CHUNK_BITS] as Uint32Array;
  }

  at(slot: number): number {
    return (slot & CHUNK_MASK) << WORD_BITS;
  }

  get(slot: number, word: number): number {
    return this.chunks[slot >>> CHUNK_BITS][((slot & CHUNK_MASK) << WORD_BITS) + word];
  }

  set(slot: number, word: number, value: number): void {
    this.chunks[slot >>> CHUNK_BITS][((slot & CHUNK_MASK) << WORD_BITS) + word] = value;
  }

  id(slot: number): number {
    const words = this.words(slot);
    const at = this.at(slot);
    return (words[at + EPOCH_TIME] & EPOCH_MASK) * TWO_32 + words[at + ID_LOW];
  }

  setIdAndTime(slot: number, id: number, ticks: number): void {
    const words = this.words(slot);
    const at = this.at(slot);
    const epoch = Math.floor(id / TWO_32);
    const timeHigh = Math.floor(ticks / TWO_32);
    words[at + ID_LOW] = id - epoch * TWO_32;
    words[at + EPOCH_TIME] = ((timeHigh << EPOCH_BITS) | epoch) >>> 0;
    words[at + TIME_LOW] = ticks - timeHigh * TWO_32;
  }

  enqueuedAtMs(slot: number): number {
    const words = this.words(slot);
    const at = this.at(slot);
    const ticks = (words[at + EPOCH_TIME] >>> EPOCH_BITS) * TWO_32 + words[at + TIME_LOW];
    return TIME_ORIGIN_MS + ticks / TICKS_PER_MS;
  }

  state(slot: number): State {
    return ((this.get(slot, KIND_STATE) >>> STATE_SHIFT) & STATE_MASK) as State;
  }

  setState(slot: number, state: State): void {
    const words = this.words(slot);
    const at = this.at(slot) + KIND_STATE;
    words[at] = (words[at] & ~(STATE_MASK << STATE_SHIFT)) | (state << STATE_SHIFT);
  }

  hasFlag(slot: number, flag: number): boolean {
    return (this.get(slot, KIND_STATE) & flag) !== 0;
  }

  setFlag(slot: number, flag: number): void {
    this.set(slot, KIND_STATE, this.get(slot, KIND_STATE) | flag);
  }

  clearFlag(slot: number, flag: number): void {
    this.set(slot, KIND_STATE, this.get(slot, KIND_STATE) & ~flag);
  }

  kind(slot: number): number {
    return this.get(slot, KIND_STATE) & KIND_MASK;
  }

  /** Attempts that have ended in failure. */
  attempts(slot: number): number {
    return this.get(slot, SEGMENT_ATTEMPTS) & 0xffff;
  }

  setAttempts(slot: number, attempts: number): void {
    this.set(slot, SEGMENT_ATTEMPTS, (this.get(slot, SEGMENT_ATTEMPTS) & 0xffff_0000) | attempts);
  }

  segment(slot: number): number {
    return this.get(slot, SEGMENT_ATTEMPTS) >>> 16;
  }

  offset(slot: number): number {
    return this.get(slot, OFFSET);
  }

  setPayload(slot: number, segment: number, offset: number): void {
    this.set(slot, SEGMENT_ATTEMPTS, (this.get(slot, SEGMENT_ATTEMPTS) & 0xffff) | (segment << 16));
    this.set(slot, OFFSET, offset);
  }
}
