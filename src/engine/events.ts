import type { Core } from '../core/core.ts';
import type { FailureOutcome } from '../core/effects.ts';
import type { Kind } from '../core/kind.ts';
import type { CoreWatcher } from '../core/watcher.ts';
import type { CoreWorker } from '../core/worker.ts';
import { MillraceError } from '../errors.ts';
import { formatTaskId } from '../ids.ts';
import type { Clock } from '../io/clock.ts';
import type { Journal } from '../journal/journal.ts';
import { LIMITS } from '../limits.ts';
import { parseTaskError } from '../protocol/task-error.ts';

export interface EventFilter {
  readonly queue?: string | undefined;
  readonly id?: number | undefined;
}

/** Somebody who watches. */
export interface EventSink {
  /**
   * `text` is the event as JSON, one object for all sinks; it may be passed on once the journal is durable up to `sequence`.
   * `count` is how many tasks it speaks of.
   */
  push(text: string, sequence: number, count: number): void;
}

/**
 * Tells those who watch what becomes of tasks. While nobody does, the core has no watcher and `isWatched` is false: that is
 * looked at once a batch. What is journaled may be told when it is durable, so that nobody hears of what a crash takes back.
 */
export class Events implements CoreWatcher {
  isWatched = false;
  readonly #core: Core;
  readonly #journal: Journal;
  readonly #clock: Clock;
  readonly #ofAll = new Set<EventSink>();
  readonly #ofQueue = new Map<string, Set<EventSink>>();
  readonly #ofTask = new Map<number, Set<EventSink>>();
  #count = 0;

  constructor(core: Core, journal: Journal, clock: Clock) {
    this.#core = core;
    this.#journal = journal;
    this.#clock = clock;
  }

  /** Throws BUFFER_FULL. */
  add(filter: EventFilter, sink: EventSink): void {
    if (this.#count >= LIMITS.watchesMax) {
      const message = `events are watched ${this.#count} times; at most ${LIMITS.watchesMax} may be: end some`;
      throw new MillraceError('BUFFER_FULL', message, { details: { bound: LIMITS.watchesMax } });
    }
    if (filter.id !== undefined) addTo(this.#ofTask, filter.id, sink);
    else if (filter.queue !== undefined) addTo(this.#ofQueue, filter.queue, sink);
    else this.#ofAll.add(sink);
    this.#count++;
    this.isWatched = true;
    this.#core.watcher = this;
  }

  remove(filter: EventFilter, sink: EventSink): void {
    if (filter.id !== undefined) removeFrom(this.#ofTask, filter.id, sink);
    else if (filter.queue !== undefined) removeFrom(this.#ofQueue, filter.queue, sink);
    else this.#ofAll.delete(sink);
    if (--this.#count > 0) return;
    this.isWatched = false;
    this.#core.watcher = undefined;
  }

  enqueued(kind: Kind, firstId: number, count: number, atMs: number): void {
    const { queue, name } = kind.spec;
    const sequence = this.#journal.appendedSequence;
    const event = { type: 'enqueued', queue, name, atMs: Math.round(atMs) };
    const ofQueue = this.#ofQueue.get(queue);
    if (this.#ofAll.size > 0 || ofQueue !== undefined) {
      const id = formatTaskId(firstId);
      const text = JSON.stringify(count === 1 ? { ...event, id } : { ...event, id, count });
      for (const sink of this.#ofAll) sink.push(text, sequence, count);
      if (ofQueue !== undefined) for (const sink of ofQueue) sink.push(text, sequence, count);
    }
    if (count < this.#ofTask.size) {
      for (let id = firstId; id < firstId + count; id++) this.#enqueuedOne(event, id, sequence);
    } else {
      for (const id of this.#ofTask.keys()) {
        if (id >= firstId && id < firstId + count) this.#enqueuedOne(event, id, sequence);
      }
    }
  }

  #enqueuedOne(event: object, id: number, sequence: number): void {
    const sinks = this.#ofTask.get(id);
    if (sinks === undefined) return;
    const text = JSON.stringify({ ...event, id: formatTaskId(id) });
    for (const sink of sinks) sink.push(text, sequence, 1);
  }

  cancelled(slot: number): void {
    this.#tell(slot, { type: 'cancelled' }, this.#journal.appendedSequence);
  }

  /** Call before it is applied. */
  begun(worker: CoreWorker, token: number): void {
    for (const slot of this.#core.assignments.beginning(worker, token)) this.#started(slot);
  }

  #started(slot: number): void {
    this.#tell(slot, { type: 'started', attempt: this.#attempt(slot) }, 0);
  }

  /** Call before it is applied, and after it was journaled. */
  completed(slot: number): void {
    if (!this.#core.assignments.hasBegun(slot)) this.#started(slot);
    this.#tell(slot, { type: 'completed', attempt: this.#attempt(slot) }, this.#journal.appendedSequence);
  }

  /** Call before it is applied, and after it was journaled. `attempted`: a worker had it. */
  failed(slot: number, error: Uint8Array, outcome: FailureOutcome, attempted: boolean): void {
    const sequence = this.#journal.appendedSequence;
    if (attempted && !this.#core.assignments.hasBegun(slot)) this.#started(slot);
    if (outcome === 'cancelled') {
      this.cancelled(slot);
      return;
    }
    if (!this.#isWatched(slot)) return;
    const parsed = parseTaskError(Buffer.from(error.buffer, error.byteOffset, error.byteLength));
    const failure = { attempt: this.#attempt(slot), error: parsed };
    this.#tell(slot, { type: 'failed', ...failure }, sequence);
    if (outcome === 'dead') this.#tell(slot, { type: 'dead', ...failure }, sequence);
  }

  /** Call before it is applied. Of what had not begun nobody was told. */
  released(slot: number): void {
    if (!this.#core.assignments.hasBegun(slot)) return;
    this.#tell(slot, { type: 'released', attempt: this.#attempt(slot) }, 0);
  }

  progressed(slot: number, progress: unknown): void {
    this.#tell(slot, { type: 'progress', attempt: this.#attempt(slot), progress }, 0);
  }

  #attempt(slot: number): number {
    return this.#core.table.attempts(slot) + 1;
  }

  #isWatched(slot: number): boolean {
    if (this.#ofAll.size > 0 || this.#ofTask.has(this.#core.table.id(slot))) return true;
    return this.#ofQueue.has(this.#core.kindOf(slot).spec.queue);
  }

  #tell(slot: number, about: { readonly type: string; readonly [detail: string]: unknown }, sequence: number): void {
    if (!this.#isWatched(slot)) return;
    const id = this.#core.table.id(slot);
    const { queue, name } = this.#core.kindOf(slot).spec;
    const { type, ...others } = about;
    const atMs = Math.round(this.#clock.steadyMs());
    const text = JSON.stringify({ type, id: formatTaskId(id), queue, name, atMs, ...others });
    for (const sinks of [this.#ofAll, this.#ofQueue.get(queue), this.#ofTask.get(id)]) {
      if (sinks !== undefined) for (const sink of sinks) sink.push(text, sequence, 1);
    }
  }
}

function addTo<Key>(map: Map<Key, Set<EventSink>>, key: Key, sink: EventSink): void {
  const known = map.get(key);
  if (known === undefined) map.set(key, new Set([sink]));
  else known.add(sink);
}

function removeFrom<Key>(map: Map<Key, Set<EventSink>>, key: Key, sink: EventSink): void {
  const known = map.get(key);
  known?.delete(sink);
  if (known?.size === 0) map.delete(key);
}
