import { existsSync, readFileSync } from 'node:fs';
import type { Client, Status } from '../index.ts';
import type { DemoBackend } from './demo-cast.ts';
import type { LedgerReader } from './demo-ledger.ts';

/** What is seen of the demo's queue and of its workers at one moment. */
export interface DemoView {
  enqueued: number;
  completed: number;
  failed: number;
  dead: number;
  ready: number;
  active: number;
  scheduled: number;
  workers: readonly WorkerView[];
  /** Of the backend that tells it. */
  status: Status | undefined;
}

export interface WorkerView {
  name: string;
  concurrency: number;
  completed: number;
  failed: number;
  /** Undefined where nobody tells how many tasks it has. */
  running: number | undefined;
}

/** Where the demo looks. */
export type DemoEyes = () => Promise<DemoView>;

/** Asks the backend. */
export function statusEyes(client: Client, queue: string): DemoEyes {
  return async () => viewOf(await client.status(), queue);
}

/** A message broker without a store counts only what waits in its queues. */
export function tellsCounts({ url, store }: DemoBackend): boolean {
  return store !== undefined || !/^amqps?:/i.test(url);
}

function viewOf(status: Status, name: string): DemoView {
  const { ready = 0, active = 0, scheduled = 0, totals } = status.queues.find((queue) => queue.name === name) ?? {};
  const { enqueued = 0, completed = 0, failed = 0, dead = 0 } = totals ?? {};
  const workers = status.workers.filter(({ queues }) => queues.includes(name));
  return { enqueued, completed, failed, dead, ready, active, scheduled, workers, status };
}

/**
 * Reads what the demo's own processes write: the workers their ledgers, the clients their log. What has begun, and what
 * waits for another attempt, is not in there: it counts as ready.
 */
export function ledgerEyes(
  ledger: LedgerReader,
  processes: { workers: readonly { name: string; ledger: string }[]; concurrency: number; clientsLog: string },
): DemoEyes {
  const { workers, concurrency, clientsLog } = processes;
  return async () => {
    const { done: completed, dead, failedAttempts: failed } = ledger.read();
    // A task may end before the log says that it was acknowledged.
    const enqueued = Math.max(acknowledgedIn(clientsLog), completed + dead);
    return {
      ...{ enqueued, completed, failed, dead, ready: enqueued - completed - dead, active: 0, scheduled: 0 },
      workers: workers.map(({ name, ledger: file }) => {
        const attempts = ledger.attemptsIn(file);
        return { name, concurrency, completed: attempts.done, failed: attempts.failed, running: undefined };
      }),
      status: undefined,
    };
  };
}

/** The last number that the clients have logged. */
function acknowledgedIn(log: string): number {
  if (!existsSync(log)) return 0;
  const numbers = readFileSync(log, 'utf8').match(/"acknowledged":\d+/g);
  return Number(numbers?.at(-1)?.split(':')[1] ?? 0);
}
