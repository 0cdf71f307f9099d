import type {
  Status as BrokerStatus,
  TaskInfo as BrokerTask,
  WorkerStatus as BrokerWorker,
  OnParentFailure,
  Percentiles,
  QueueStatus,
  ScheduleInfo,
  TaskState,
} from '../../../src/broker/contract.ts';

export type { Percentiles, QueueStatus, ScheduleInfo, TaskState } from '../../../src/broker/contract.ts';

/** Who ran an attempt, and since when, where they are known. */
interface AttemptRun {
  worker?: string;
  startedAtMs?: number;
}

export interface TaskInfo extends Omit<BrokerTask, 'failures'> {
  startedAtMs?: number;
  workerId?: string;
  headers?: Record<string, string>;
  failures: (BrokerTask['failures'][number] & AttemptRun)[];
  /** The server does not show it. */
  payloadHidden?: boolean;
}

export interface TaskPage {
  tasks: TaskInfo[];
  next?: string;
}

export interface WorkerStatus extends BrokerWorker {
  version?: string;
  lastSeenMs?: number;
}

export interface Status extends Omit<BrokerStatus, 'workers'> {
  workers: WorkerStatus[];
}

export interface DeadGroup {
  group: string;
  queue: string;
  name: string;
  code: string;
  error: string;
  message: string;
  count: number;
  oldestAtMs: number;
  newestAtMs: number;
  sampleId: string;
}

export interface DeadGroups {
  groups: DeadGroup[];
  scanned: number;
  complete: boolean;
}

/** What the answers hold beyond the library's own shapes; docs/http-api.md. */
export interface Info {
  version: string;
  url: string;
  role: 'read' | 'operate';
  backend: string;
  features: { tasks: boolean; events: boolean; schedules: boolean; limits: boolean; search?: boolean };
  /** Whether payloads and results may be shown. */
  payloads: boolean;
}

export interface Rates {
  enqueued: number;
  completed: number;
  failed: number;
}

export type QueueRow = QueueStatus & { rates?: Rates };

type Quantiles = Pick<Percentiles, 'p50' | 'p95' | 'p99'>;

export interface Sample {
  atMs: number;
  throughput: Rates;
  latencyMs: { start: Quantiles; total: Quantiles };
  queues: { ready: number; active: number; scheduled: number; blocked: number; dead: number };
  oldestReadyMs: number;
  workers: number;
  utilisation: number;
}

export interface StatsHistory {
  intervalMs: number;
  samples: Sample[];
}

export interface Flow {
  tasks: { id: string; name: string; queue: string; state: TaskState | 'unknown' }[];
  edges: { from: string; to: string; onFailure: OnParentFailure }[];
  complete: boolean;
}

export interface BulkStep {
  count: number;
  next?: string;
}

export interface QueueList {
  queues: QueueRow[];
}

export interface ScheduleList {
  schedules: ScheduleInfo[];
}
