import type { EventFilter, TaskEvent } from '../broker/contract.ts';
import { formatTaskId, parseTaskId } from '../ids.ts';
import { LIMITS } from '../limits.ts';

/** What happened to a task, or to `count` tasks whose ids follow on. */
export interface RingEntry {
  /** Of the first of its events; they are numbered one by one. */
  readonly sequence: number;
  readonly event: TaskEvent;
  readonly count: number;
  /** JSON of the event, for one task that of all of it. */
  readonly text: string;
}

/** Who reads a ring: everything up to the sequence `next` was read, or does not matter to him. */
export interface RingReader {
  readonly filter: EventFilter;
  next: number;
  /** Of his events, those that went before he had read them; null: unknown. */
  dropped: number | null;
}

/** The last events, for all streams: what goes before somebody has read it is counted for him. */
export class EventRing {
  readonly readers = new Set<RingReader>();
  #entries: RingEntry[] = [];
  /** Of these, the first that is still kept. */
  #head = 0;
  #characters = 0;
  /** Of the next event. */
  #sequence = 1;

  get end(): number {
    return this.#sequence;
  }

  get start(): number {
    return this.#entries[this.#head]?.sequence ?? this.#sequence;
  }

  add(event: TaskEvent, count: number): void {
    const text = JSON.stringify(event);
    this.#entries.push({ sequence: this.#sequence, event, count, text });
    this.#sequence += count;
    this.#characters += text.length;
    while (
      this.#entries.length - this.#head > LIMITS.eventRingMax ||
      this.#characters > LIMITS.eventRingCharactersMax
    ) {
      this.#evict();
    }
  }

  /** The entry with what is next for a reader. Undefined when he has read all. */
  at(sequence: number): RingEntry | undefined {
    let low = this.#head;
    let high = this.#entries.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      const entry = this.#entries[middle] as RingEntry;
      if (entry.sequence + entry.count <= sequence) low = middle + 1;
      else high = middle;
    }
    return this.#entries[low];
  }

  #evict(): void {
    const entry = this.#entries[this.#head] as RingEntry;
    this.#characters -= entry.text.length;
    this.#head++;
    if (this.#head * 2 > this.#entries.length) {
      this.#entries = this.#entries.slice(this.#head);
      this.#head = 0;
    }
    const end = entry.sequence + entry.count;
    for (const reader of this.readers) {
      if (reader.next >= end) continue;
      const missed = missedOf(entry, reader);
      reader.dropped = reader.dropped === null || missed === null ? null : reader.dropped + missed;
      reader.next = end;
    }
  }
}

function missedOf(entry: RingEntry, { filter, next }: RingReader): number | null {
  if (entry.event.type === 'dropped') return entry.event.count;
  const told = Math.max(next - entry.sequence, 0);
  if (filter.task !== undefined) return toldOf(entry, filter.task) >= told ? 1 : 0;
  return filter.queue === undefined || filter.queue === entry.event.queue ? entry.count - told : 0;
}

/** Which of the entry's events is the task's; -1 for none. */
function toldOf({ event, count }: RingEntry, task: string): number {
  if (event.type === 'dropped') return -1;
  if (event.id === task) return 0;
  if (count === 1) return -1;
  const told = numberOf(task) - numberOf(event.id);
  return told > 0 && told < count ? told : -1;
}

/** NaN when it is the id of another backend. */
function numberOf(task: string): number {
  try {
    return parseTaskId(task);
  } catch {
    return Number.NaN;
  }
}

/** The first event of the entry from `next` on that is the reader's; undefined when there is none. */
export function eventOf(entry: RingEntry, { filter, next }: RingReader): { told: number; text: string } | undefined {
  const { event, count, sequence, text } = entry;
  const from = Math.max(next - sequence, 0);
  if (event.type === 'dropped') return { told: 0, text };
  if (filter.queue !== undefined && filter.queue !== event.queue) return undefined;
  const told = filter.task === undefined ? from : toldOf(entry, filter.task);
  if (told < from || told >= count) return undefined;
  if (told === 0) return { told, text };
  return { told, text: JSON.stringify({ ...event, id: formatTaskId(parseTaskId(event.id) + told) }) };
}
