import type { MillraceError } from '../errors.ts';
import type { QueueLimits, QueueLimitsChange } from '../limits.ts';

/**
 * The seam. `Client` and `Worker` are written against this; a backend is whatever implements it and passes
 * `test/conformance`. Payloads are encoded here already: text is JSON, bytes are bytes.
 */
export type Payload = string | Uint8Array;

export interface Backoff {
  type: 'fixed' | 'exponential';
  delayMs: number;
  /** Exponential backoff never waits longer. */
  maxDelayMs: number;
  /** Waits a uniformly drawn share, 50 % to 100 %, of the delay. */
  jitter: boolean;
}

/** What a task is apart from its payload and time; resolved, without optional parts. One object is reused for many tasks. */
export interface TaskSpec {
  readonly queue: string;
  readonly name: string;
  readonly priority: number;
  readonly maxAttempts: number;
  readonly timeoutMs: number;
  readonly backoff: Readonly<Backoff>;
  /** Tasks of a queue with the same key take turns with those of others, and may be limited; absent: none. */
  readonly concurrencyKey?: string | undefined;
}

/** What travels with a task beside its payload, to be read without decoding that: a tenant, the context of a trace. */
export type TaskHeaders = Readonly<Record<string, string>>;

/** When a task becomes ready. `delay` counts steady time from the moment the server takes it, `at` is wall-clock time. */
export type When =
  | { readonly kind: 'now' }
  | { readonly kind: 'delay'; readonly ms: number }
  | { readonly kind: 'at'; readonly ms: number };

export type TaskState = 'scheduled' | 'blocked' | 'ready' | 'active' | 'completed' | 'dead' | 'cancelled';

/** The ids of one batch, in the order of its payloads. */
export interface TaskIds extends Iterable<string> {
  readonly length: number;
  /** Throws INVALID_ARGUMENT outside 0 … length-1. */
  at(index: number): string;
}

/**
 * What becomes of a task when one that it depends on ends dead or cancelled: `cancel`, it is cancelled too; `run`, it runs
 * all the same; `wait`, it stays blocked until that one is redriven and completes (one that was cancelled never is, so then
 * it is cancelled).
 */
export type OnParentFailure = 'cancel' | 'run' | 'wait';

export interface Dependency {
  /** Another task of the same submission, by its index, or an earlier one, by its id. */
  readonly on: number | string;
  readonly onFailure: OnParentFailure;
}

/** At most one such task of a queue at a time. */
export interface Uniqueness {
  /** 1 to 128 bytes. */
  readonly key: string;
  /**
   * How long the task has it: while it waits (for its first or a further attempt), until it has ended, or for so many
   * milliseconds from its enqueue on, whatever becomes of it.
   */
  readonly scope: 'waiting' | 'unfinished' | { readonly forMs: number };
}

/** A payload or a result as it is shown: base64 when it is not UTF-8 text. */
export interface ShownBytes {
  readonly encoding: 'utf8' | 'base64';
  readonly data: string;
  /** The id of the key that it is encrypted with. `data` is then what is stored, or what that says where the key is at hand. */
  readonly keyId?: string;
  /** The code of the error with which the client refuses it; `data` is what is stored. */
  readonly refused?: string;
}

/** A new task that has to do with others. */
export interface RelatedTask {
  readonly spec: TaskSpec;
  readonly payload: Payload;
  readonly when: When;
  /** Absent: none. */
  readonly headers?: TaskHeaders | undefined;
  /** All of these must have ended first; each once. */
  readonly dependsOn: readonly Dependency[];
  readonly unique: Uniqueness | undefined;
}

export interface SubmittedTask {
  readonly id: string;
  /** False: nothing was enqueued, `id` is the task that has the unique key. */
  readonly isNew: boolean;
}

/** A task that another depends on, as that one's handler sees it. */
export interface ParentOutcome {
  readonly id: string;
  readonly name: string;
  /** `unknown`: it has ended and is no longer retained (only after a `retry` of the child). */
  readonly state: TaskState | 'unknown';
  /** Of a completed one that returned something: as in TaskInfo. */
  readonly result?: ShownBytes;
  /** Of a dead one. */
  readonly error?: TaskError;
}

export interface ParentPage {
  /** In the order in which they were given. */
  readonly parents: ParentOutcome[];
  /** Pass as `from` for the next page; absent when there is none. */
  readonly next?: number;
}

/** How a task ended. `result` is what the handler returned, undefined when it returned nothing. */
export type Outcome =
  | { readonly state: 'completed'; readonly result: Uint8Array | undefined }
  | { readonly state: 'dead'; readonly error: TaskError }
  | { readonly state: 'cancelled' };

/** An attempt's error as it is stored and shown. */
export interface TaskError {
  name: string;
  message: string;
  /** One of our codes (HANDLER_FAILED, NO_HANDLER, TASK_TIMEOUT, WORKER_LOST, …). */
  code: string;
  stack?: string;
}

/** Deliveries of one kind that came together: consecutive tasks of one batch with the same attempt. */
export interface DeliveryRun {
  readonly spec: TaskSpec;
  readonly attempt: number;
  /**
   * A worker was lost while it held these, perhaps because of one of them: `begun` is to be told at once before each, and
   * its settlement is to be on its way before the next begins.
   */
  readonly suspect: boolean;
  readonly enqueuedAtMs: number;
  readonly length: number;
  id(index: number): string;
  /** A view; valid until the task is settled. */
  bytes(index: number): Uint8Array;
  /** The payload as text (UTF-8). */
  text(index: number): string;
  /** Undefined: none. */
  headers(index: number): TaskHeaders | undefined;
}

export interface ConsumeOptions {
  /** Shown in status; need not be unique. */
  readonly workerName: string;
  readonly queues: readonly string[];
  /** Handlers that run at the same time (for batch handlers: tasks inside running batches). */
  readonly concurrency: number;
  /** Tasks held at once, running ones included; ≥ concurrency. */
  readonly prefetch: number;
}

/** What a backend calls on the worker. */
export interface Consumer {
  /** In the order in which they are to be started. Not before the caller of `consume` has its answer. */
  deliver(run: DeliveryRun): void;
  /**
   * The task is no longer this worker's: abort its handler, do not settle it. `cancelled` is a request: abort the
   * handler, then settle it as usual.
   */
  revoke(run: DeliveryRun, index: number, reason: 'cancelled' | 'lease-lost'): void;
  /** The connection was lost (tasks that run may be kept) or is back. */
  connection(state: 'lost' | 'restored'): void;
  /** No more deliveries will ever come, and why. */
  ended(error: MillraceError): void;
}

/**
 * One worker's stream of deliveries. Each delivery is settled once by `complete`, `fail` or `release`; these gather what
 * is settled in one turn and return at once. A settlement is repeated over reconnects until the server answers.
 */
export interface Consumption {
  complete(run: DeliveryRun, index: number, result: Payload | undefined): void;
  /** All of a run's tasks from `from` to before `to`, without results. */
  completeMany(run: DeliveryRun, from: number, to: number): void;
  /** `startedAtMs`: when the handler began. */
  fail(run: DeliveryRun, index: number, error: TaskError, options: FailOptions, startedAtMs: number): void;
  /** Hands the task back without counting an attempt. */
  release(run: DeliveryRun, index: number): void;
  /**
   * Handlers have begun with everything that was delivered up to and including this task: their time counts from now, and
   * their attempt if this worker is lost. Not needed for what is settled in the same turn, unless it is `suspect`. Travels
   * with the settlements of the turn, or `atOnce`.
   */
  begun(run: DeliveryRun, index: number, atOnce: boolean): void;
  /** Shown in task get while the task runs, in place of what was said before; may be lost. `progress` is JSON of a TaskProgress. */
  progress(run: DeliveryRun, index: number, progress: string): void;
  /** One more line of the task's log, at most LIMITS.taskLogLineBytesMax long; may be lost. */
  log(run: DeliveryRun, index: number, text: string): void;
  /** Stops deliveries; resolves when none will come any more (settling goes on). */
  stop(): Promise<void>;
  /** Resolves when every settlement made so far was answered. Rejects with TIMEOUT. */
  settled(timeoutMs: number): Promise<void>;
  /** Ends it; what was delivered and not settled goes back uncharged if the server can be reached. */
  close(): Promise<void>;
}

export interface FailOptions {
  /** No further attempt: the task is dead now. */
  readonly final: boolean;
  /** Overrides the backoff. */
  readonly retryDelayMs: number | undefined;
}

/** How far a task is, as its handler said last. */
export interface TaskProgress {
  value: unknown;
  message?: string;
}

/**
 * The last lines that a task's handlers have logged, oldest first, over all its attempts; at most LIMITS.taskLogLinesMax.
 * Kept in the server's memory: gone after a restart, and when LIMITS.taskLogsMax other tasks, or LIMITS.taskLogsBytesMax of
 * their lines, were logged later. A store in PostgreSQL keeps them with the task.
 */
export interface TaskLog {
  lines: { atMs: number; attempt: number; text: string }[];
  /** Earlier lines that are no longer there. */
  dropped: number;
}

export interface TaskInfo {
  id: string;
  queue: string;
  name: string;
  state: TaskState;
  priority: number;
  /** Attempts that ended in failure, plus the one running. */
  attempt: number;
  maxAttempts: number;
  timeoutMs: number;
  enqueuedAtMs: number;
  /** When a scheduled task becomes ready. */
  runAtMs?: number;
  finishedAtMs?: number;
  /** When its handler began; while it runs, where the backend knows. */
  startedAtMs?: number;
  /** The name of the worker that runs it. */
  worker?: string;
  /** The `WorkerStatus.id` of that worker. */
  workerId?: string;
  /** While it runs. */
  progress?: TaskProgress;
  /** Absent in lists, and when nothing was logged. */
  log?: TaskLog;
  cancelRequested?: boolean;
  payloadBytes: number;
  /** Absent in lists. */
  payload?: ShownBytes;
  /** Absent in lists, and when there are none. */
  headers?: Record<string, string>;
  result?: ShownBytes;
  /** What it depends on; absent when nothing. Lists carry the counts only. */
  dependencies?: {
    total: number;
    /** Those that have not ended, or wait for a redrive. */
    open: number;
    completed: number;
    dead: number;
    cancelled: number;
    /** The first LIMITS.relationsShownMax. */
    parents?: { id: string; state: TaskState | 'unknown'; onFailure: OnParentFailure }[];
  };
  /** Tasks that depend on it and have not ended: how many, and the first LIMITS.relationsShownMax. Absent in lists. */
  children?: { total: number; ids: string[] };
  uniqueKey?: string;
  /** Failed attempts, newest last, at most LIMITS.attemptsKeptMax. Lists carry only the last one. */
  failures: ({ attempt: number; atMs: number; error: TaskError } & AttemptRun)[];
}

/** Who ran an attempt, by name, and when its handler began by that one's clock; where they are known. */
export interface AttemptRun {
  worker?: string;
  startedAtMs?: number;
}

/** What is named holds all together. */
export interface TaskFilter {
  queue?: string | undefined;
  name?: string | undefined;
  state?: TaskState | undefined;
  /** Text in the newest failure's name, message or code, whatever its case; 1 to LIMITS.errorTextCharactersMax characters. */
  error?: string | undefined;
  /** The `group` of a DeadGroup: only its dead tasks. */
  errorGroup?: string | undefined;
  /** Enqueued at this time or later, … */
  fromMs?: number | undefined;
  /** … and before this one. */
  toMs?: number | undefined;
  /** The id (WorkerStatus.id) of the worker that runs it. */
  worker?: string | undefined;
  /** Default `oldest`: in the order in which they were enqueued. */
  order?: 'oldest' | 'newest' | undefined;
  /** Continue after this id, or where the `next` of a page says. */
  after?: string | undefined;
  /** At most LIMITS.listPageMax; default 100. Of one step of a change of many: default as many as it may. */
  limit?: number | undefined;
}

export interface TaskPage {
  tasks: TaskInfo[];
  /** Pass as `after` for the next page; absent when there is none. */
  next?: string;
}

/** One bounded step of a change of many tasks. */
export interface BulkReport {
  /** Tasks that this step has changed; 0 does not mean that there are none behind. */
  count: number;
  /** Pass as `after` for the next step; absent when everything was looked at that was there at the first one. */
  next?: string;
}

/** Dead tasks whose newest failures are of one kind. */
export interface DeadGroup {
  /** The same for the same queue, task name, code, error name and message. */
  group: string;
  queue: string;
  /** The task's. */
  name: string;
  code: string;
  /** The error's name. */
  error: string;
  /** Without what differs from task to task: numbers, hex ids, UUIDs and ids in quotes are replaced. */
  message: string;
  /** Of the tasks that were looked at. */
  count: number;
  /** When they died. */
  oldestAtMs: number;
  newestAtMs: number;
  /** The one that died last. */
  sampleId: string;
}

export interface DeadGroups {
  /** Most tasks first; at most LIMITS.deadGroupsMax. */
  groups: DeadGroup[];
  /** Dead tasks that were looked at, those that died last first; at most LIMITS.deadGroupTasksMax. */
  scanned: number;
  /** Whether that was all of them, and all groups are here. */
  complete: boolean;
}

export interface QueueStatus {
  name: string;
  paused: boolean;
  /** How many tasks are in each state now (finished ones: still retained). */
  ready: number;
  active: number;
  scheduled: number;
  blocked: number;
  completed: number;
  dead: number;
  cancelled: number;
  oldestReadyMs: number;
  /** Since the queue was first used, over restarts. */
  totals: { enqueued: number; completed: number; failed: number; dead: number; cancelled: number };
  retention: Retention;
  limits: QueueLimits;
  /** Why its ready tasks are not handed out although workers may have handlers free; absent when nothing holds them up. */
  heldUpBy?: 'paused' | 'concurrency' | 'rate';
}

export interface Retention {
  completedCountMax: number;
  completedAgeMs: number;
  deadCountMax: number;
  deadAgeMs: number;
}

export interface WorkerStatus {
  id: string;
  name: string;
  host: string;
  pid: number;
  queues: string[];
  concurrency: number;
  prefetch: number;
  /** Tasks delivered and not settled. */
  held: number;
  running: number;
  /** Share of `concurrency` that was busy over the last window, 0–1. */
  utilisation: number;
  completed: number;
  failed: number;
  connectedAtMs: number;
  /** Of its client library, where it says so. */
  version?: string;
  /** How long ago it said anything; one that has nothing to say is silent though it lives. */
  lastSeenMs: number;
}

/** What a supervisor of worker processes (`millrace worker --max`) says of itself. */
export interface ScalingReport {
  /** Drawn by the supervisor when it starts: 8 to 64 letters and digits. */
  id: string;
  /** What the names of its processes begin with. */
  name: string;
  host: string;
  pid: number;
  /** What its processes take from. */
  queues: string[];
  min: number;
  max: number;
  /** Processes that there are to be; those that retire are counted beside them. */
  current: number;
  retiring: number;
  /** The last ones, newest first; at most LIMITS.scalingDecisionsMax. */
  decisions: ScalingDecision[];
}

export interface ScalingDecision {
  atMs: number;
  from: number;
  /** As `from`: nothing changes although one might expect it, and the reason says why. */
  to: number;
  /** At most LIMITS.scalingReasonCharactersMax. */
  reason: string;
}

/** A supervisor as it was heard of last; forgotten when it says nothing for LIMITS.scalingForgottenMs. */
export interface SupervisorStatus extends ScalingReport {
  /** How long ago it said anything; it does so every LIMITS.scalingReportMs. */
  lastSeenMs: number;
}

export interface Percentiles {
  p50: number;
  p95: number;
  p99: number;
  count: number;
}

export interface Status {
  server: {
    version: string;
    pid: number;
    startedAtMs: number;
    uptimeMs: number;
    durability: string;
    connections: number;
    stopping: boolean;
  };
  queues: QueueStatus[];
  workers: WorkerStatus[];
  /** Of worker processes, those that report here; absent where nobody can. */
  supervisors?: SupervisorStatus[];
  /** Per second, over the last window. */
  throughput: { enqueued: number; completed: number; failed: number };
  /** Enqueue to start, and enqueue to confirmed completion, over the last minute; milliseconds. */
  latencyMs: { start: Percentiles; total: Percentiles };
  journal: { segments: number; bytes: number; syncs: number; appendedBytes: number } | null;
  memory: { rssBytes: number; heapBytes: number };
  /** Of this client, where the ends of tasks are told by messages. */
  replies?: {
    /** Messages of its workers that did not reach whoever enqueued the tasks. */
    undelivered: number;
    /** Ends that came to it and said nothing legible. */
    unreadable: number;
    /** Ends that it forgot before anybody asked, to make room for later ones. */
    forgotten: number;
  };
}

/** What becomes of due times that nobody was there for: none, one, or each is fired. */
export type Misfire = 'skip' | 'once' | 'all';

/** `cron`, with a `timeZone` or in UTC, or `everyMs`: the backend judges them. */
export interface ScheduleSettings {
  readonly cron: string | undefined;
  readonly timeZone: string | undefined;
  readonly everyMs: number | undefined;
  readonly misfire: Misfire | undefined;
  readonly spec: TaskSpec;
  readonly payload: Payload;
  /** Of each of its tasks; absent: none. */
  readonly headers?: TaskHeaders | undefined;
}

export interface ScheduleInfo {
  name: string;
  /** With its `timeZone`; or there is `everyMs`. */
  cron?: string;
  timeZone?: string;
  everyMs?: number;
  misfire: Misfire;
  paused: boolean;
  /** The task's name. */
  task: string;
  queue: string;
  priority: number;
  maxAttempts: number;
  timeoutMs: number;
  backoff: Backoff;
  concurrencyKey?: string | undefined;
  /** Absent while it is paused. */
  nextAtMs?: number;
  /** The due time of its last firing; of one by `runNow`, when that was. */
  lastAtMs?: number;
  lastTaskId?: string;
  /** Tasks that it has enqueued. */
  firedCount: number;
  payloadBytes: number;
  /** Only from `get`. */
  payload?: ShownBytes;
  /** Those of its tasks. Only from `get`; absent when there are none. */
  headers?: Record<string, string>;
}

export interface ScheduleOperations {
  /** Makes or replaces it; resolves when durable. */
  set(name: string, settings: ScheduleSettings): Promise<ScheduleInfo>;
  /** Rejects with NOT_FOUND, as do `pause`, `resume` and `runNow`. */
  get(name: string): Promise<ScheduleInfo>;
  /** In the order of their names. */
  list(): Promise<ScheduleInfo[]>;
  pause(name: string): Promise<void>;
  resume(name: string): Promise<void>;
  /** Whether there was one. */
  remove(name: string): Promise<boolean>;
  /** Resolves with the id of the task when it is durable. */
  runNow(name: string): Promise<string>;
}

interface AboutTask {
  readonly id: string;
  readonly queue: string;
  readonly name: string;
  readonly atMs: number;
}

/** What becomes of tasks, as it happens; docs/events.md says when each comes. */
export type TaskEvent =
  | (AboutTask & { readonly type: 'enqueued' | 'cancelled' })
  | (AboutTask & { readonly type: 'started' | 'completed' | 'released'; readonly attempt: number })
  | (AboutTask & { readonly type: 'progress'; readonly attempt: number; readonly progress: TaskProgress })
  | (AboutTask & { readonly type: 'failed' | 'dead'; readonly attempt: number; readonly error: TaskError })
  /** So many events are missing here; null: unknown, because the connection was lost meanwhile. */
  | { readonly type: 'dropped'; readonly count: number | null };

/** Of all tasks, of those of a queue, or of one. */
export interface EventFilter {
  readonly queue?: string | undefined;
  readonly task?: string | undefined;
}

/** What a backend calls on those who watch. */
export interface Watcher {
  /** `count` above 1: it happened to so many tasks, whose ids follow on. */
  event(event: TaskEvent, count: number): void;
  /** No more will come, and why. */
  ended(error: MillraceError): void;
}

export interface Broker {
  readonly url: string;
  readonly schedules: ScheduleOperations;
  /** Resolves with the id when the task is durable. Calls of one turn travel together. Headers were checked. */
  enqueue(spec: TaskSpec, payload: Payload, when: When, headers?: TaskHeaders): Promise<string>;
  /** All or nothing; one batch, all with the same headers. Resolves when durable. */
  enqueueMany(spec: TaskSpec, payloads: readonly Payload[], when: When, headers?: TaskHeaders): Promise<TaskIds>;
  /**
   * Tasks that depend on others or are unique: all or nothing, in their order. Resolves when durable. Rejects with
   * INVALID_ARGUMENT for a cycle, or for a task that depends on itself or twice on the same, with NOT_FOUND for a parent that
   * does not exist or is no longer retained, with QUEUE_FULL when there are too many relations, and like `enqueue`.
   */
  submit(tasks: readonly RelatedTask[]): Promise<readonly SubmittedTask[]>;
  /** What the task depends on, a page of it from the `from`th on. Rejects with NOT_FOUND. */
  parents(id: string, from: number): Promise<ParentPage>;
  /**
   * How the task ended. Rejects with TIMEOUT, NOT_FOUND, CLOSED or the signal's reason, and with JOURNAL_DAMAGED or
   * STORAGE_FAILED when the result is there and cannot be read. Survives reconnects. `name`: the task's, where it is known;
   * only who decrypts the result looks at it.
   */
  outcome(
    id: string,
    options: { timeoutMs: number; signal?: AbortSignal | undefined; name?: string | undefined },
  ): Promise<Outcome>;
  consume(options: ConsumeOptions, consumer: Consumer): Promise<Consumption>;

  getTask(id: string): Promise<TaskInfo>;
  /** As `getTask`, without reading what the task says: cheap, and for whoever may have to do with its queue at all. */
  taskState(id: string): Promise<Pick<TaskInfo, 'queue' | 'state'>>;
  listTasks(filter: TaskFilter): Promise<TaskPage>;
  /** `cancelled`: it is. `requested`: it runs, its worker was told. Rejects NOT_FOUND, CONFLICT (already final). */
  cancelTask(id: string): Promise<'cancelled' | 'requested'>;
  /** A dead task becomes ready again with fresh attempts; a scheduled one becomes ready now. Rejects NOT_FOUND, CONFLICT. */
  retryTask(id: string): Promise<void>;
  /**
   * One step of retrying what the filter names: dead tasks become ready again with fresh attempts, scheduled ones ready now.
   * All or nothing; resolves when durable. Begin without `after` and go on with `next` until there is none: what is enqueued
   * meanwhile stays as it is. Rejects INVALID_ARGUMENT, also for a filter that names nothing (`fromMs: 0` means all), and for
   * a state in which nothing can be retried.
   */
  retryTasks(filter: TaskFilter): Promise<BulkReport>;
  /** As `retryTasks`: cancels what waits, and asks what runs to end. */
  cancelTasks(filter: TaskFilter): Promise<BulkReport>;
  /** What the dead tasks of a queue, or of all, have died of. */
  deadGroups(filter: { queue?: string | undefined }): Promise<DeadGroups>;
  pauseQueue(queue: string): Promise<void>;
  resumeQueue(queue: string): Promise<void>;
  /** Removes the queue's ready, scheduled and blocked tasks; resolves with how many. */
  purgeQueue(queue: string): Promise<number>;
  /** Makes all dead tasks of the queue ready again with fresh attempts; resolves with how many. */
  redriveQueue(queue: string): Promise<number>;
  setRetention(queue: string, retention: Partial<Retention>): Promise<Retention>;
  /** What is not named stays as it is; kept over restarts. Resolves with what holds now. */
  setLimits(queue: string, limits: QueueLimitsChange): Promise<QueueLimits>;
  /**
   * Resolves when every later event will be told, with how to end that. Rejects with UNSUPPORTED, BUFFER_FULL (too many
   * watches), and like all calls.
   */
  watch(filter: EventFilter, watcher: Watcher): Promise<() => void>;
  status(): Promise<Status>;
  /**
   * Tells of a supervisor, in place of what it said before; not durable. Rejects with INVALID_ARGUMENT, and UNSUPPORTED where
   * nobody keeps it.
   */
  reportScaling(report: ScalingReport): Promise<void>;
  /** Sends what waits (bounded by timeoutMs), then closes. Waits still open reject with CLOSED. Always resolves. */
  close(options: { timeoutMs: number }): Promise<void>;
}
