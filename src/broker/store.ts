import type {
  AttemptRun,
  BulkReport,
  DeadGroups,
  Dependency,
  EventFilter,
  Outcome,
  ParentPage,
  Payload,
  Percentiles,
  QueueStatus,
  Retention,
  ScalingReport,
  ScheduleOperations,
  SubmittedTask,
  SupervisorStatus,
  TaskError,
  TaskFilter,
  TaskHeaders,
  TaskInfo,
  TaskLog,
  TaskPage,
  TaskSpec,
  Uniqueness,
  Watcher,
  WorkerStatus,
} from './contract.ts';

/**
 * What a message broker cannot remember: tasks and their attempts, results, cancels, pauses, who works. The broker moves
 * messages, the store decides what they still mean: a message whose task has ended, or has gone on to a later attempt, is
 * dropped when it arrives, so that copies and late messages do no harm.
 *
 * Every call takes many tasks; a caller gathers those of one turn. A promise resolves when the change is durable, unless it
 * says otherwise. All reject with INVALID_ARGUMENT (a value that the database will never take), STORAGE_FAILED (it refused
 * for another reason, which somebody may mend), DISCONNECTED (it cannot be reached within the connect timeout) and CLOSED.
 *
 *   insert ─▶ ready | scheduled ─begin─▶ active ─end─▶ completed | dead | cancelled
 *                     ▲                    │
 *                     └──── failed, released
 *
 * A submitted task that depends on others is blocked before that. Whatever ends a task (a worker, a cancel, a purge, the loss
 * of a worker) also decides, in the same transaction, what becomes of those that depend on it; `StoreWatcher.released` says
 * what is to be published then.
 */
export interface Store {
  readonly schedules: StoredSchedules;
  /**
   * New tasks, all or none of one call. They stay in the outbox until `published`. An id that is known already is left alone. Rejects
   * QueuesRefused.
   */
  insert(batches: readonly NewTasks[]): Promise<Unpublished>;
  /**
   * New tasks that have to do with others, all or none. Rejects like the contract's, but for what `checkSubmission` says.
   * Those that depend on nothing are in the outbox.
   */
  submit(tasks: readonly NewRelatedTask[]): Promise<Submission>;
  parents(id: string, from: number): Promise<ParentPage>;
  /**
   * What these entries of the outbox are to have published: as many of them as may be at once, and none that are gone.
   */
  reread(what: Unpublished): Promise<Republish>;
  /**
   * Their messages are confirmed, but for those of the tasks that are `left`: these stay in the outbox. Gathered and lazy:
   * until it is written, a sweep may publish them once more.
   */
  published(what: Unpublished, left?: readonly string[]): void;
  /**
   * The messages came to this worker: what it is to do with each, in the same order. Those to `run` are active now. Need
   * not be durable: after a crash their messages come again.
   */
  begin(worker: string, arrivals: readonly Arrival[]): Promise<Verdict[]>;
  /** Attempts that ended; durable before their messages are acknowledged. */
  end(worker: string, ends: readonly End[]): Promise<EndReport>;
  /** Lazy, may be lost. `progress` is the JSON of a TaskProgress. */
  progress(id: string, progress: string): void;
  /**
   * What this worker has logged of the task is now what `read` gives, beside what others have; asked when it is written.
   * Lazy, may be lost.
   */
  log(worker: string, id: string, read: () => TaskLog | undefined): void;

  /** Whether somebody watches events, as far as is known here. */
  readonly watched: boolean;
  /** A handler has begun with this attempt; to be said while somebody watches. Lazy. */
  started(id: string, attempt: number): void;
  /**
   * Tells what becomes of tasks, whatever process does it, in the order of the changes: resolves when every later event will
   * be told, with how to end that. What was missed while the connection was lost is a `dropped` without a count. Rejects
   * with BUFFER_FULL, and with TIMEOUT when somebody else holds the tasks locked.
   */
  events(filter: EventFilter, watcher: Watcher): Promise<() => void>;

  /** How each task ended; undefined while it has not, `unknown` for an id that the store has not (any more). */
  outcomes(ids: readonly string[]): Promise<(Outcome | undefined | 'unknown')[]>;
  getTask(id: string): Promise<TaskInfo>;
  listTasks(filter: TaskFilter): Promise<TaskPage>;
  cancelTask(id: string): Promise<'cancelled' | 'requested'>;
  /** Resolves with what is to be published, which is in the outbox. Rejects NOT_FOUND, CONFLICT. */
  retryTask(id: string): Promise<Republish>;
  /** As the contract's; what is to be published is in the outbox. */
  retryTasks(filter: TaskFilter): Promise<BulkReport & { readonly due: Republish }>;
  /** As the contract's, with which ones. */
  cancelTasks(
    filter: TaskFilter,
  ): Promise<BulkReport & { readonly cancelled: readonly string[]; readonly requested: readonly string[] }>;
  deadGroups(filter: { queue?: string | undefined }): Promise<DeadGroups>;
  /** As the contract's. */
  purgeQueue(queue: string): Promise<number>;
  /**
   * One portion of the queue's dead tasks, made ready again with fresh attempts and in the outbox; empty when there is none left.
   * `until` is the first portion's: what dies after that was asked for is not meant.
   */
  redrive(queue: string, until?: string): Promise<Redriven>;
  pauseQueue(queue: string): Promise<void>;
  resumeQueue(queue: string): Promise<void>;
  pausedQueues(): Promise<string[]>;
  setRetention(queue: string, retention: Partial<Retention>): Promise<Retention>;
  status(): Promise<StoreStatus>;

  /** Written every few seconds while the worker lives; `left` when it ends in order. Lazy. */
  heartbeat(worker: WorkerBeat): void;
  left(worker: string): void;
  /** In place of what the supervisor said before. */
  reportScaling(report: ScalingReport): Promise<void>;
  /** What other processes did: until `close`, also over reconnects (after which everything paused or cancelled is told anew). */
  watch(watcher: StoreWatcher): Promise<void>;
  /**
   * Outbox entries that have been waiting for longer than `olderThanMs`, at most one portion, claimed so that no other
   * process publishes them at the same time; empty when there is none.
   */
  sweep(olderThanMs: number): Promise<Republish>;
  /** Writes what is gathered (bounded by timeoutMs), then closes. Always resolves. */
  close(timeoutMs: number): Promise<void>;
}

/** What is enqueued is in the outbox, and to be published by whoever asked. */
export interface StoredSchedules extends Omit<ScheduleOperations, 'runNow'> {
  /** Enqueues its task under this new id. */
  runNow(name: string, id: string): Promise<Republish>;
  /**
   * Fires a portion of those that are due by the database's clock; any number of processes may ask, each due time has one
   * firing. After an unknown outcome what was fired is published by a sweep.
   */
  fire(newId: () => string): Promise<FiredSchedules>;
}

export interface FiredSchedules {
  readonly due: Republish;
  /** How long nothing is due, as far as it is known: 0 when more is due already. Infinity when nothing waits. */
  readonly pauseMs: number;
}

export interface NewTasks {
  readonly spec: TaskSpec;
  readonly ids: readonly string[];
  readonly payloads: readonly Payload[];
  /** Of each of them. */
  readonly headers?: TaskHeaders | undefined;
  readonly enqueuedAtMs: number;
  /** Wall-clock time; undefined: at once. */
  readonly runAtMs: number | undefined;
}

export interface NewRelatedTask {
  readonly id: string;
  readonly spec: TaskSpec;
  readonly payload: Payload;
  readonly headers?: TaskHeaders | undefined;
  readonly enqueuedAtMs: number;
  readonly runAtMs: number | undefined;
  /** By index: in the same call. */
  readonly dependsOn: readonly Dependency[];
  readonly unique: Uniqueness | undefined;
}

export interface Submission extends Unpublished {
  /** In their order. */
  readonly tasks: readonly SubmittedTask[];
}

/** Names entries of the outbox. */
export interface Unpublished {
  readonly entries: readonly string[];
}

export interface Republish extends Unpublished {
  readonly tasks: readonly {
    readonly id: string;
    readonly spec: TaskSpec;
    readonly payload: Uint8Array;
    readonly headers?: TaskHeaders | undefined;
    readonly attempt: number;
    readonly enqueuedAtMs: number;
    /** Undefined: at once. */
    readonly runAtMs: number | undefined;
  }[];
}

export interface Redriven extends Republish {
  /** Of which tasks the next portion is. */
  readonly until: string;
}

export interface Arrival {
  readonly id: string;
  /** The attempt that the message stands for, losses included. */
  readonly attempt: number;
  /** The broker gave this very message to somebody before. */
  readonly redelivered: boolean;
  /** For a task of another language's producer, which has no row until it arrives. */
  readonly spec: TaskSpec;
  readonly payload: Uint8Array;
  readonly headers?: TaskHeaders | undefined;
  readonly enqueuedAtMs: number;
}

/**
 * `drop`: acknowledge it and do nothing: its task has ended, is at a later attempt, or runs already and this is a message that
 * was not redelivered: a copy, or one of an attempt from before a retry.
 */
export type Verdict = 'run' | 'drop';

export type End = {
  readonly id: string;
  readonly attempt: number;
} & (
  | { readonly kind: 'completed'; readonly result: Payload | undefined }
  /**
   * Becomes `attempt + 1` at `retryAtMs` (wall clock; 0: at once). In the outbox until published. `atMs`: when it failed,
   * by the same clock, so that `retryAtMs - atMs` is the pause to the millisecond.
   */
  | {
      readonly kind: 'failed';
      readonly error: TaskError;
      readonly atMs: number;
      readonly retryAtMs: number;
      readonly run?: AttemptRun;
    }
  | { readonly kind: 'dead'; readonly error: TaskError; readonly atMs: number; readonly run?: AttemptRun }
  /** Handed back uncharged; its message goes back to the broker. */
  | { readonly kind: 'released' }
);

export interface EndReport {
  /**
   * In the order of the ends. `lease-lost`: the attempt is not this worker's any more. `cancelled`: a cancel was requested
   * and the attempt did not complete, so the task is cancelled: publish nothing.
   */
  readonly verdicts: readonly ('taken' | 'lease-lost' | 'cancelled')[];
  /** The failed ones that were taken. */
  readonly unpublished: Unpublished;
}

export interface WorkerBeat {
  readonly id: string;
  readonly name: string;
  readonly host: string;
  readonly pid: number;
  readonly queues: readonly string[];
  readonly concurrency: number;
  readonly prefetch: number;
  readonly held: number;
  readonly running: number;
  /** 0–1, since the last beat. */
  readonly utilisation: number;
  /** Since the worker connected. */
  readonly completed: number;
  readonly failed: number;
  readonly connectedAtMs: number;
  /** Of the library. */
  readonly version: string;
  /** When handlers began, by id: the longest running ones, at most LIMITS.storeBeatTasksMax. */
  readonly started: Readonly<Record<string, number>>;
  /** Of the tasks that it ended in the last minute, milliseconds. */
  readonly latencyMs: { readonly start: Percentiles; readonly total: Percentiles };
}

export interface StoreStatus {
  readonly queues: QueueStatus[];
  readonly workers: WorkerStatus[];
  readonly supervisors: SupervisorStatus[];
  readonly throughput: { enqueued: number; completed: number; failed: number };
  readonly latencyMs: { start: Percentiles; total: Percentiles };
}

export interface StoreWatcher {
  /** A cancel was requested for tasks that are active on some worker of this process, perhaps. */
  cancelRequested(ids: readonly string[]): void;
  /** All queues that are paused now. */
  paused(queues: readonly string[]): void;
  /**
   * By a call of this process tasks wait for others no longer, and are in the outbox under these names; or so many were
   * cancelled because of what they depended on.
   */
  released(what: Unpublished, cancelled: number): void;
  /** Somebody watches events: what runs is to be told as started. */
  watched(): void;
}
