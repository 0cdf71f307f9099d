import type { EncryptionOptions } from '../index.ts';
import type { ServerOptions } from '../server/server.ts';
import type { TroupeSettings } from './troupe.ts';

export type FsyncPolicy = NonNullable<ServerOptions['fsync']>;

export const TASK_NAME = 'bench.send';

/** What clients do beside the quiet one of row 15, as much of it as they can. */
export const NOISES = ['small', 'large', 'lists', 'connections', 'slow'] as const;
export type Noise = (typeof NOISES)[number];

/** How the worker of a row handles tasks. */
export type Handling = 'batch' | 'each' | 'plain' | 'timed';

/** `each` in worker threads. */
export interface Threaded {
  threads: number;
  /** The worker's default when undefined. */
  concurrency: number | undefined;
  /** Of fixed work in each handler, see burn.ts. */
  rounds: number;
  /** From which task on the span is measured. */
  from: number;
}

/** Handlers that run at the same time. */
export const CONCURRENCY: Record<Handling, number> = { batch: 4000, each: 1000, plain: 1000, timed: 100 };

/** Of rows with --encrypted; what it protects is thrown away. */
export const ENCRYPTION: EncryptionOptions = { keys: { bench: new Uint8Array(32).fill(7) } };

export interface Settings extends TroupeSettings {
  /** Where the throwaway data directories are made: the disk that is measured. */
  directory: string;
  fsync: FsyncPolicy;
  /** Row numbers; 8 to 11 are those over RabbitMQ. */
  rows: readonly number[];
  runs: number;
  /** Instead of each row's own number. */
  tasks: number | undefined;
  /** Small enough for a test; its figures mean nothing. */
  quick: boolean;
  /** Whether a dashboard is open and metrics are scraped each second. */
  observed: boolean;
  /** Whether producer and worker have a key ring; rows of our own server. */
  encrypted: boolean;
  /** The broker that rows 8 to 11 measure, and the store of rows 10 and 11. */
  rabbit: { url: string; store: string | undefined } | undefined;
  onProgress: (line: string) => void;
}

/** What one run of a scenario gave. */
export interface RunResult {
  /** In the order of the scenario's figures; null for one that this machine cannot give. */
  values: (number | null)[];
  /** Syncs of the server's journal in the measured span; null where nobody counts them. */
  fsyncs: number | null;
  lost: number;
  duplicated: number;
  /** What whoever reads the table should know of this row. */
  notes?: readonly string[];
}
