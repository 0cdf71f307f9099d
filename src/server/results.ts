import type { Engine } from '../engine/engine.ts';
import type { StoredOutcome } from '../engine/segment-reader.ts';
import type { Waiting } from '../engine/waiters.ts';
import { LIMITS } from '../limits.ts';

/**
 * The outcomes that one connection asked for and was not sent.
 *
 *   asked ──ends──► held ──durable, and the link has room──► sent
 *     │              │ ▲
 *     │     too much │ │ read
 *     │              ▼ │
 *     └─had ended──► put off (its id only), until the link has room
 *
 * So a client that reads slowly gets everything in its time, and costs no more than what its link and the outcomes held
 * may take.
 */
interface Held {
  sequence: number;
  /** Undefined: put off. */
  outcome: StoredOutcome | undefined;
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

  ask(id: number): void {
    if (this.#asked.has(id)) return;
    this.#asked.add(id);
    if (this.#engine.hasEnded(id)) this.#add(id, undefined);
    else this.#engine.wait(id, this);
  }

  drop(id: number): void {
    if (!this.#asked.delete(id)) return;
    this.#engine.waiters.remove(id, this);
    const held = this.#ended.get(id);
    if (held === undefined) return;
    this.#ended.delete(id);
    this.#heldBytes -= bytesOf(held.outcome);
  }

  close(): void {
    for (const id of this.#asked) this.#engine.waiters.remove(id, this);
    this.#asked.clear();
    this.#ended.clear();
  }

  settled(id: number, outcome: StoredOutcome): void {
    if (!this.#asked.has(id)) return;
    const fits = this.#heldBytes + bytesOf(outcome) <= LIMITS.sendBufferBytesMax;
    this.#add(id, fits ? outcome : undefined);
  }

  #add(id: number, outcome: StoredOutcome | undefined): void {
    this.#ended.set(id, { sequence: this.#engine.journal.appendedSequence, outcome });
    this.#heldBytes += bytesOf(outcome);
    // Whatever is before it cannot go yet, or it would have gone.
    if (this.#ended.size === 1) this.send();
    this.#changed();
  }

  /** Sends what may be sent, and reads what will be next. */
  send(): void {
    const { durableSequence } = this.#engine.journal;
    for (const [id, { sequence, outcome }] of this.#ended) {
      if (this.#sink.roomBytes <= this.#readCount * LIMITS.resultBytesMax) return;
      if (outcome === undefined) {
        this.#ended.delete(id);
        this.#read(id);
      } else {
        if (sequence > durableSequence) return;
        this.#ended.delete(id);
        this.#asked.delete(id);
        this.#heldBytes -= bytesOf(outcome);
        this.#sink.send(id, outcome);
      }
    }
  }

  #read(id: number): void {
    this.#readCount++;
    void this.#engine.outcome(id).then((outcome) => {
      this.#readCount--;
      if (this.#asked.has(id)) {
        if (outcome === undefined) this.#engine.wait(id, this);
        else this.#add(id, outcome);
      }
      this.send();
      this.#changed();
    });
  }
}

function bytesOf(outcome: StoredOutcome | undefined): number {
  if (outcome?.state === 'completed') return outcome.result?.length ?? 0;
  return outcome?.state === 'dead' ? outcome.error.length : 0;
}
