import type {
  TaskInfo as BrokerTask,
  OnParentFailure,
  Percentiles,
  QueueStatus,
  ScheduleInfo,
  TaskState,
} from '../../../src/broker/contract.ts';

export type {
  BulkReport,
  DeadGroup,
  DeadGroups,
  QueueStatus,
  ScheduleInfo,
  ShownBytes,
  Status,
  SupervisorStatus,
  TaskState,
  WorkerStatus,
} from '../../../src/broker/contract.ts';

/** What the answers hold beyond the library's own shapes; docs/http-api.md. */
export interface Info {
  version: string;
  url: string;
  /** Of whoever looks; operate implies the others. */
  roles: ('produce' | 'work' | 'read' | 'operate')[];
  /** With which queues; `*` stands for any characters. */
  queues: string[];
  backend: string;
  features: { tasks: boolean; events: boolean; schedules: boolean; limits: boolean };
  /** Whether payloads and results may be shown. */
  payloads: boolean;
}

export interface TaskInfo extends BrokerTask {
  /** The server does not show it. */
  payloadHidden?: boolean;
}

export interface TaskPage {
  tasks: TaskInfo[];
  next?: string;
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

export interface QueueList {
  queues: QueueRow[];
}

export interface ScheduleList {
  schedules: ScheduleInfo[];
}
