import type { ServerOptions } from '../server/server.ts';

export type FsyncPolicy = NonNullable<ServerOptions['fsync']>;

export const TASK_NAME = 'bench.send';

/** How the worker of a row handles tasks. */
export type Handling = 'batch' | 'each' | 'timed';

export interface Settings {
  /** Where the throwaway data directories are made: the disk that is measured. */
  directory: string;
  fsync: FsyncPolicy;
  /** Row numbers, 1 to 7. */
  rows: readonly number[];
  runs: number;
  /** Instead of each row's own number. */
  tasks: number | undefined;
  /** Small enough for a test; its figures mean nothing. */
  quick: boolean;
  profileDirectory: string | undefined;
  signal: AbortSignal;
  onProgress: (line: string) => void;
}

/** What one run of a scenario gave. */
export interface RunResult {
  /** In the order of the scenario's figures; null for one that this machine cannot give. */
  values: (number | null)[];
  /** Syncs of the server's journal in the measured span. */
  fsyncs: number;
  lost: number;
  duplicated: number;
}
