import { closeSync, existsSync, fstatSync, openSync, readSync } from 'node:fs';

/** What the demo tells its workers, as JSON in this environment variable. */
export const DEMO_SETTINGS = 'MILLRACE_DEMO_SETTINGS';
export const DEMO_TASK = 'demo.order';

export interface DemoSettings {
  ledger: string;
  taskTimeMs: number;
  /** Share of the tasks whose first attempt fails. */
  failRate: number;
  /** Share of the tasks of which every attempt fails. */
  deadRate: number;
}

/**
 * Each worker of the demo writes a line for each attempt that ended: `CLIENT/TASK ATTEMPT OUTCOME`. The server's own
 * counts are not asked: this is what they are checked against.
 */
export type AttemptOutcome = 'done' | 'failed' | 'dead';

export function ledgerLine(task: string, attempt: number, outcome: AttemptOutcome): string {
  return `${task} ${attempt} ${outcome}\n`;
}

export function taskKey(client: number, task: number): string {
  return `${client}/${task}`;
}

export interface LedgerCount {
  /** Tasks that were done, and tasks whose last attempt failed. */
  done: number;
  dead: number;
  /** Tasks of the clients that did not end. */
  lost: number;
  /** Tasks that were tried more than once. */
  retried: number;
  failedAttempts: number;
  /** Times that a task ended again after it had ended, or that one ended which no client enqueued. */
  duplicated: number;
}

/** Reads what was added to the ledgers since the last time. A task may have attempts in several files. */
export class LedgerReader {
  readonly #files: readonly string[];
  readonly #places = new Map<string, { offset: number; rest: string; done: number; failed: number }>();
  readonly #ended = new Map<string, AttemptOutcome>();
  readonly #retried = new Set<string>();
  #done = 0;
  #dead = 0;
  #failedAttempts = 0;
  #endedAgain = 0;

  /** Files may be added to the list, and need not exist yet. */
  constructor(files: readonly string[]) {
    this.#files = files;
  }

  /** A line that is still being written is left for the next time. */
  read(): { done: number; dead: number; failedAttempts: number } {
    for (const file of this.#files) this.#readFile(file);
    return { done: this.#done, dead: this.#dead, failedAttempts: this.#failedAttempts };
  }

  /** Of one file: how many attempts succeeded, and how many did not. */
  attemptsIn(file: string): { done: number; failed: number } {
    const { done = 0, failed = 0 } = this.#places.get(file) ?? {};
    return { done, failed };
  }

  /** Against what the clients enqueued. */
  count(clients: number, tasks: number): LedgerCount {
    let lost = 0;
    for (let client = 0; client < clients; client++) {
      for (let task = 0; task < tasks; task++) if (!this.#ended.has(taskKey(client, task))) lost++;
    }
    return {
      done: this.#done,
      dead: this.#dead,
      lost,
      retried: this.#retried.size,
      failedAttempts: this.#failedAttempts,
      duplicated: this.#endedAgain + this.#ended.size - (clients * tasks - lost),
    };
  }

  #readFile(file: string): void {
    if (!existsSync(file)) return;
    const place = this.#places.get(file) ?? { offset: 0, rest: '', done: 0, failed: 0 };
    this.#places.set(file, place);
    const added = readFrom(file, place.offset);
    place.offset += added.length;
    const lines = (place.rest + added.toString('latin1')).split('\n');
    place.rest = lines.pop() ?? '';
    for (const line of lines) {
      const [task, attempt, outcome] = line.split(' ') as [string, string, AttemptOutcome];
      if (outcome === 'done') place.done++;
      else place.failed++;
      this.#add(task, attempt, outcome);
    }
  }

  #add(task: string, attempt: string, outcome: AttemptOutcome): void {
    if (attempt !== '1') this.#retried.add(task);
    if (outcome !== 'done') this.#failedAttempts++;
    if (outcome === 'failed') return;
    if (this.#ended.has(task)) {
      this.#endedAgain++;
      return;
    }
    this.#ended.set(task, outcome);
    if (outcome === 'done') this.#done++;
    else this.#dead++;
  }
}

function readFrom(file: string, offset: number): Buffer {
  const descriptor = openSync(file, 'r');
  try {
    const bytes = Buffer.alloc(Math.max(0, fstatSync(descriptor).size - offset));
    return bytes.subarray(0, readSync(descriptor, bytes, 0, bytes.length, offset));
  } finally {
    closeSync(descriptor);
  }
}

export function countLedger(files: readonly string[], clients: number, tasks: number): LedgerCount {
  const reader = new LedgerReader(files);
  reader.read();
  return reader.count(clients, tasks);
}
