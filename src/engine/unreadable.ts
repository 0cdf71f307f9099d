import type { Core } from '../core/core.ts';
import type { Queue } from '../core/queue.ts';
import { PRIORITY_COUNT } from '../core/ready-lists.ts';
import { NONE } from '../core/task-table.ts';
import type { MillraceError } from '../errors.ts';
import type { Clock } from '../io/clock.ts';
import type { SegmentReader } from './segment-reader.ts';
import type { Settlements } from './settlements.ts';

/**
 * Pages of the journal that cannot be read any more while the server runs. Each is said once. What asked for it alone is
 * answered with the error; ready tasks whose payload lies in a damaged page end dead, so that their queue goes on and
 * they can be redriven after a repair. A page that only could not be read now is asked for again.
 */
const RETRY_MS = 1000;
/** Appends of one turn. */
const TASKS_PER_TURN_MAX = 5000;
const REPORTED_MAX = 10_000;

export class Unreadable {
  readonly #core: Core;
  readonly #clock: Clock;
  readonly #reader: SegmentReader;
  readonly #settlements: Settlements;
  readonly #notice: (message: string) => void;
  readonly #reported = new Set<string>();

  constructor(parts: {
    core: Core;
    clock: Clock;
    reader: SegmentReader;
    settlements: Settlements;
    notice: (message: string) => void;
  }) {
    this.#core = parts.core;
    this.#clock = parts.clock;
    this.#reader = parts.reader;
    this.#settlements = parts.settlements;
    this.#notice = parts.notice;
  }

  report(error: MillraceError): void {
    if (this.#reported.has(error.message)) return;
    if (this.#reported.size >= REPORTED_MAX) this.#reported.clear();
    this.#reported.add(error.message);
    this.#notice(error.message);
  }

  /** The next task of the queue lies there. Calls `again` when another try makes sense. */
  next(queue: Queue, error: MillraceError, again: () => void): void {
    this.report(error);
    if (error.code !== 'JOURNAL_DAMAGED') {
      this.#clock.setTimer(RETRY_MS, again).unref();
      return;
    }
    const count = this.#bury(queue, error);
    const what = `${count} ready tasks of queue ${queue.name} lie there and end dead: redrive them after the repair`;
    if (count > 0) this.#notice(what);
    again();
  }

  /** Ends the tasks at the heads of the queue's lists that lie in the damaged page. */
  #bury(queue: Queue, { message, details }: MillraceError): number {
    const { segment, from, to } = details as { segment: number; from: number; to: number };
    const { table } = this.#core;
    let count = 0;
    for (const lists of [...queue.readyLists()]) {
      for (let priority = PRIORITY_COUNT - 1; priority >= 0; priority--) {
        for (let slot = lists.head(priority); slot !== NONE; slot = lists.head(priority)) {
          const offset = table.offset(slot);
          const isThere = this.#reader.full(table.segment(slot)) === segment && offset >= from && offset < to;
          if (!isThere || count >= TASKS_PER_TURN_MAX) break;
          this.#settlements.bury(slot, { name: 'JournalDamaged', code: 'JOURNAL_DAMAGED', message });
          count++;
        }
      }
    }
    return count;
  }
}
