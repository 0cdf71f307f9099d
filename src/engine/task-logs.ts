import { LIMITS } from '../limits.ts';

/** The contract's TaskLog. */
export interface TaskLog {
  lines: LogLine[];
  dropped: number;
}

export interface LogLine {
  atMs: number;
  attempt: number;
  text: string;
}

/** What a line takes besides its text, roughly. */
const LINE_BYTES = 64;

/**
 * The last lines of those tasks that said something last. In memory only, beside everything durable: a log is forgotten
 * when others need its room, not when its attempt ends. An id is never another task's, so nothing has to be told of ends.
 */
export class TaskLogs {
  readonly #tasksMax: number;
  readonly #bytesMax: number;
  /** The one that was written to last stands at the end. */
  readonly #logs = new Map<string | number, TaskLog>();
  #bytes = 0;

  constructor(tasksMax: number = LIMITS.taskLogsMax, bytesMax: number = LIMITS.taskLogsBytesMax) {
    this.#tasksMax = tasksMax;
    this.#bytesMax = bytesMax;
  }

  /** `dropped` lines before these are not known. */
  add(id: string | number, lines: readonly LogLine[], dropped = 0): void {
    const log = this.#logs.get(id) ?? { lines: [], dropped: 0 };
    this.#logs.delete(id);
    this.#logs.set(id, log);
    log.dropped += dropped;
    for (const line of lines) {
      log.lines.push(line);
      this.#bytes += bytesOf(line);
      if (log.lines.length <= LIMITS.taskLogLinesMax) continue;
      this.#bytes -= bytesOf(log.lines.shift() as LogLine);
      log.dropped++;
    }
    for (const known of this.#logs.keys()) {
      if (this.#logs.size <= this.#tasksMax && this.#bytes <= this.#bytesMax) return;
      this.forget(known);
    }
  }

  of(id: string | number): TaskLog | undefined {
    return this.#logs.get(id);
  }

  get bytes(): number {
    return this.#bytes;
  }

  bytesOf(id: string | number): number {
    return (this.#logs.get(id)?.lines ?? []).reduce((sum, line) => sum + bytesOf(line), 0);
  }

  forget(id: string | number): void {
    const log = this.#logs.get(id);
    if (log === undefined) return;
    this.#logs.delete(id);
    for (const line of log.lines) this.#bytes -= bytesOf(line);
  }
}

function bytesOf({ text }: LogLine): number {
  return LINE_BYTES + text.length * 2;
}
