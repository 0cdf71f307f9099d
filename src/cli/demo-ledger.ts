import { existsSync, readFileSync } from 'node:fs';

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

/** A task may have attempts in several files. A line that is still being written is left for the next time. */
export function countLedger(files: readonly string[], clients: number, tasks: number): LedgerCount {
  const ended = new Map<string, AttemptOutcome>();
  const retried = new Set<string>();
  const count: LedgerCount = { done: 0, dead: 0, lost: 0, retried: 0, failedAttempts: 0, duplicated: 0 };
  for (const file of files) {
    const text = existsSync(file) ? readFileSync(file, 'utf8') : '';
    for (const line of text.split('\n').slice(0, -1)) {
      const [task, attempt, outcome] = line.split(' ') as [string, string, AttemptOutcome];
      if (attempt !== '1') retried.add(task);
      if (outcome !== 'done') count.failedAttempts++;
      if (outcome === 'failed') continue;
      if (ended.has(task)) count.duplicated++;
      else ended.set(task, outcome);
    }
  }
  for (const outcome of ended.values()) {
    if (outcome === 'done') count.done++;
    else count.dead++;
  }
  for (let client = 0; client < clients; client++) {
    for (let task = 0; task < tasks; task++) if (!ended.has(taskKey(client, task))) count.lost++;
  }
  count.duplicated += ended.size - (clients * tasks - count.lost);
  return { ...count, retried: retried.size };
}
