import type { Engine } from '../engine/engine.ts';
import type { KeptOutcome, StoredOutcome } from '../engine/segment-reader.ts';
import type { Waiting } from '../engine/waiters.ts';
import type { MillraceError } from '../errors.ts';
import { LIMITS } from '../limits.ts';

/**
 * The outcomes that one connection asked for and was not sent.
 *
 *   asked ──ends──► held ──durable, and the link has room──► sent
 *     │              │ ▲
 *     │     too much │ │ read
 *     │              ▼ │
 *     └─had ended──► put off (where it lies), until the link has room
 *
 * So a client that reads slowly gets everything in its time, and costs no more memory than what its link and the outcomes
 * held may take. What is put off keeps its segment of the journal: the task may be forgotten before it is read.
 */
interface Held {
  sequence: number;
  /** Undefined: put off. */
  outcome: StoredOutcome | undefined;
  kept: KeptOutcome | undefined;
}

export interface ResultSink {
  /** How many more bytes the link may be given. */
  readonly roomBytes: number;
  send(id: number, outcome: StoredOutcome): void;
}

export class Results implements Waiting {
  readonly #engine: Engine;
  readonly #sink: ResultSink;
  readonly #changed: () => void;
  readonly #asked = new Set<number>();
  /** Those that ended, in the order in which that was seen. */
  readonly #ended = new Map<number, Held>();
  #heldBytes = 0;
  #readCount = 0;

  /** `changed` is called when something has ended, or was sent after it had been read. */
  constructor(engine: Engine, sink: ResultSink, changed: () => void) {
    this.#engine = engine;
    this.#sink = sink;
    this.#changed = changed;
  }

  get count(): number {
    return this.#asked.size;
  }

  /** Whether something that has ended is not sent yet. */
  get pending(): boolean {
    return this.#ended.size > 0 || this.#readCount > 0;
  }

  get heldBytes(): number {
    return this.#heldBytes;
  }

  /** The oldest segment of the journal that is kept for what is put off; infinite when none is. */
  get oldestSegment(): number {
    let oldest = Number.POSITIVE_INFINITY;
    for (const { kept } of this.#ended.values()) if (kept !== undefined) oldest = Math.min(oldest, kept.segment);
    return oldest;
  }

  ask(id: number): void {
    if (this.#asked.has(id)) return;
    this.#asked.add(id);
    const kept = this.#engine.keepOutcome(id);
    if (kept !== undefined) this.#add(id, undefined, kept);
    else this.#engine.wait(id, this);
  }

  /** It is not for whoever asks, which is told as an outcome is: when there is room. */
  refuse(id: number, error: MillraceError): void {
    if (this.#asked.has(id)) return;
    this.#asked.add(id);
    this.#add(id, { state: 'unreadable', error }, undefined, 0);
  }

  drop(id: number): void {
    if (!this.#asked.delete(id)) return;
    this.#engine.waiters.remove(id, this);
    const held = this.#ended.get(id);
    if (held === undefined) return;
    this.#ended.delete(id);
    this.#heldBytes -= bytesOf(held.outcome);
    held.kept?.release();
  }

  close(): void {
    for (const { kept } of this.#ended.values()) kept?.release();
    for (const id of this.#asked) this.#engine.waiters.remove(id, this);
    this.#asked.clear();
    this.#ended.clear();
    this.#heldBytes = 0;
  }

  settled(id: number, outcome: StoredOutcome): void {
    if (!this.#asked.has(id)) return;
    const fits = this.#heldBytes + bytesOf(outcome) <= LIMITS.sendBufferBytesMax;
    const kept = fits ? undefined : this.#engine.keepOutcome(id);
    this.#add(id, kept === undefined ? outcome : undefined, kept);
  }

  #add(id: number, outcome: StoredOutcome | undefined, kept?: KeptOutcome, sequence?: number): void {
    this.#ended.set(id, { sequence: sequence ?? this.#engine.journal.appendedSequence, outcome, kept });
    this.#heldBytes += bytesOf(outcome);
    // Whatever is before it cannot go yet, or it would have gone.
    if (this.#ended.size === 1) this.send();
    this.#changed();
  }

  /** Sends what may be sent, and reads what will be next. */
  send(): void {
    const { durableSequence } = this.#engine.journal;
    for (const [id, { sequence, outcome, kept }] of this.#ended) {
      if (this.#sink.roomBytes <= this.#readCount * LIMITS.resultBytesMax) return;
      if (sequence > durableSequence) return;
      if (kept !== undefined) {
        this.#ended.delete(id);
        this.#read(id, kept);
      } else if (outcome !== undefined) {
        this.#ended.delete(id);
        this.#asked.delete(id);
        this.#heldBytes -= bytesOf(outcome);
        this.#sink.send(id, outcome);
      }
    }
  }

  #read(id: number, kept: KeptOutcome): void {
    this.#readCount++;
    void this.#engine.readKept(kept).then((outcome) => {
      this.#readCount--;
      kept.release();
      // What it was put off for was durable when it was read.
      if (outcome !== undefined && this.#asked.has(id)) this.#add(id, outcome, undefined, 0);
      this.send();
      this.#changed();
    });
  }
}

function bytesOf(outcome: StoredOutcome | undefined): number {
  if (outcome?.state === 'completed') return outcome.result?.length ?? 0;
  return outcome?.state === 'dead' ? outcome.error.length : 0;
}
