import type { Clock } from '../io/clock.ts';

/** What is read in one turn of the event loop from all who send without end, and from each of them at least. */
const TURN_BYTES = 1024 * 1024;
const SHARE_BYTES = 64 * 1024;
/** Smaller pieces are counted together, whenever they came: who sends now and then is not worth a look in each turn. */
const COUNTED_BYTES = 16 * 1024;

export interface Reader {
  /** Of a frame that was begun, what has come, and what has not. */
  readonly unfinishedFrameBytes: number;
  readonly missingFrameBytes: number;
  /** Of small pieces, what was not counted yet; only `ReadingTurns` changes it. */
  uncountedBytes: number;
  /** Reads again. */
  readOn(): void;
}

/**
 * Who sends more than his share in one turn of the event loop is not read from before the others have had theirs: the system
 * would hand over two megabytes of each connection, and so some hundred milliseconds of work of a few of them, before it
 * looks at the next. The share is what a turn has divided by those who take so much; who sends less never waits.
 *
 *   reading ──has had its share──► resting ──its turn, first come first served──► reading
 */
export class ReadingTurns {
  readonly #clock: Clock;
  /** In this turn, of those who are counted. */
  readonly #read = new Map<Reader, number>();
  readonly #resting = new Set<Reader>();
  #shareBytes = TURN_BYTES;
  #isOpen = false;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** So much has come. Returns whether the reader is to rest, until it is told to read on. */
  read(reader: Reader, bytes: number): boolean {
    reader.uncountedBytes += bytes;
    if (reader.uncountedBytes < COUNTED_BYTES) return false;
    this.#open();
    const sum = (this.#read.get(reader) ?? 0) + reader.uncountedBytes;
    reader.uncountedBytes = 0;
    this.#read.set(reader, sum);
    if (sum < this.#shareBytes) return false;
    this.#resting.add(reader);
    return true;
  }

  leave(reader: Reader): void {
    this.#read.delete(reader);
    this.#resting.delete(reader);
  }

  #open(): void {
    if (this.#isOpen) return;
    this.#isOpen = true;
    this.#clock.deferPastInput(this.#next);
  }

  readonly #next = (): void => {
    this.#isOpen = false;
    let many = 0;
    for (const bytes of this.#read.values()) if (bytes >= SHARE_BYTES) many++;
    this.#read.clear();
    this.#shareBytes = Math.max(SHARE_BYTES, TURN_BYTES / Math.max(1, many, this.#resting.size));
    let left = TURN_BYTES;
    for (const reader of this.#resting) {
      if (left <= 0) break;
      this.#resting.delete(reader);
      left -= this.#shareBytes;
      // It will be worked on whole.
      if (reader.missingFrameBytes <= this.#shareBytes) left -= reader.unfinishedFrameBytes;
      reader.readOn();
    }
    if (this.#resting.size > 0) this.#open();
  };
}
