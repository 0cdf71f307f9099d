import { MillraceError, shown, shownValue } from './errors.ts';

/**
 * Every limit and default in one place. Names end in their unit. The checks at the end hold the relations between them.
 *
 * Those marked `[migrated]` stand in functions that live in the database of the PostgreSQL store, with the value of whoever
 * made its tables: with another value goes another step in src/broker/postgres/schema.ts, which replaces these functions.
 */
const KiB = 1024;
const MiB = 1024 * KiB;
const SECOND = 1000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

export const LIMITS = {
  // Names and tasks
  queueNameBytesMax: 128,
  taskNameBytesMax: 128,
  payloadBytesMax: 1 * MiB,
  resultBytesMax: 1 * MiB,
  errorBytesMax: 16 * KiB,
  progressBytesMax: 4 * KiB,
  /** Of all that the worker at the other end of a connection has said of its tasks; beyond it what it said first is forgotten. */
  progressBytesPerConnectionMax: 4 * MiB,
  /** Headers of one task: how many, the longest name, and all together as they are packed (3 bytes each beside the texts). */
  headersMax: 32,
  headerNameBytesMax: 128,
  headersBytesMax: 4 * KiB,
  /** What is kept of a task's log, and of each of its lines; also the longest progress message. */
  taskLogLinesMax: 50,
  taskLogLineBytesMax: 1 * KiB,
  /** Logs of all tasks together that a server keeps; beyond it those go that have been silent for longest. */
  taskLogsMax: 10_000,
  taskLogsBytesMax: 16 * MiB,
  /** Characters of log lines that a worker gathers for its server. */
  unsentLogBytesMax: 4 * MiB,
  maxAttemptsMax: 1000,
  timeoutMsMin: 10,
  timeoutMsMax: 7 * DAY,
  /** The longest that a delay may be. */
  delayMsMax: 366 * DAY,
  /** The longest pause between two attempts: u32 milliseconds on the wire and in the journal. */
  backoffMsMax: 30 * DAY,
  priorityMax: 9,
  /** Tasks in one frame, and so in one journal record. */
  batchTasksMax: 65_536,
  /** Tasks that the server holds in all queues and states. */
  tasksMax: 200_000_000,
  queuesMax: 10_000,
  /** Distinct combinations of queue, name and options among the tasks held. */
  kindsMax: 1 << 18,

  // Relations between tasks
  /** What one task may depend on, and what may depend on one. [migrated] */
  dependenciesMax: 65_535,
  /** Dependencies in one submission. */
  submissionDependenciesMax: 262_144,
  /** Dependencies of all tasks that are kept, ended ones too. [migrated] */
  relationsMax: 4_000_000,
  /** Parents, or children, that are named when a task is looked at. */
  relationsShownMax: 100,
  /** What a page of parents' results takes at most, but for the first of them. */
  parentPageBytesMax: 4 * MiB,
  parentPageTasksMax: 1000,
  uniqueKeyBytesMax: 128,
  concurrencyKeyBytesMax: 128,
  /** What a queue may be limited to. */
  queueConcurrencyMax: 1_000_000,
  queueLengthMax: 200_000_000,
  rateCountMax: 1_000_000,
  ratePeriodMsMin: 1,
  ratePeriodMsMax: 1 * DAY,
  /** How long a unique key may be held beyond the end of its task. */
  uniqueForMsMax: 366 * DAY,
  /** Tasks with a unique key, of those that are kept the last of each key. [migrated] */
  uniqueKeysMax: 4_000_000,

  // Schedules
  scheduleNameBytesMax: 128,
  schedulesMax: 10_000,
  schedulePayloadBytesMax: 64 * KiB,
  /** All schedules together: each segment of the journal begins with them (and holds at least as much of other things). */
  schedulesBytesMax: 8 * MiB,
  scheduleEveryMsMin: 100,
  cronCharactersMax: 256,
  /** What is later than this when its time comes was missed. */
  scheduleLateMs: 10 * SECOND,
  /** Missed times for which a schedule that makes up for all of them fires one by one. */
  scheduleMissedMax: 1000,

  // Encryption
  keyRingKeysMax: 1000,
  keyIdBytesMax: 32,
  /** Those who encrypt: how many of them a client remembers the derived keys of. */
  sealingSendersMax: 1000,
  /** The text of an error that is to be encrypted. */
  sealedErrorBytesMax: 9.5 * KiB,

  // Frames and connections
  frameBytesMax: 16 * MiB,
  /** A record of the journal: the largest frame, what comes with it, and by how much a plan may be longer than what asks for it. */
  recordBytesMax: 16 * MiB + 64 * KiB + 5 * MiB,
  helloBytesMax: 4 * KiB,
  callBytesMax: 1 * MiB,
  connectionsMax: 1024,
  /** Of the files that a server may have open: its journal, its log, and what the system needs. */
  openFilesReserved: 64,
  /** Connections that were refused and that the other side has not closed yet; beyond it the oldest are cut off. */
  refusedConnectionsMax: 256,
  refusedConnectionsMin: 16,
  handshakeTimeoutMs: 5 * SECOND,
  /** A frame whose first byte came must be whole after this. */
  frameTimeoutMs: 30 * SECOND,
  /** What the server reads of a worker's outcomes before they are confirmed, and of what comes from its own process. */
  unconfirmedBytesPerConnectionMax: 32 * MiB,
  /**
   * What waits for the disk is one queue, in which whoever sends little stands behind those who send much. So of enqueues over
   * connections, these together have this much, in equal shares; who has no more than a little in it has no part in that.
   */
  unconfirmedBytesShared: 16 * MiB,
  unconfirmedShareBytesMin: 1 * MiB,
  littleUnconfirmedBytes: 64 * KiB,
  /** What the server holds for its disk from all connections together. */
  unconfirmedBytesMax: 128 * MiB,
  /** Answers of one connection that wait for the disk: beyond it the connection is not read from. */
  answersPerConnectionMax: 16_384,
  /** What the server queues for a reader that does not keep up before it stops giving it tasks. */
  sendBufferBytesMax: 8 * MiB,
  /** Above this a reader that does not read is cut off. */
  sendBufferBytesEvict: 64 * MiB,
  /** What the server holds for the readers of all connections together: beyond it those with the most are cut off. */
  unsentBytesMax: 512 * MiB,
  /** Frames that were begun and are not whole, of all connections together. */
  unfinishedFrameBytesMax: 512 * MiB,
  /** How much of the journal is kept for results that a connection does not read. */
  keptForResultsBytesMax: 1024 * MiB,
  queuesPerWorkerMax: 1000,
  prefetchMax: 65_536,
  /** Tasks that a worker has settled and that wait for the disk: beyond it gets no more. */
  unansweredTasksMax: 65_536,
  resultWaitersPerConnectionMax: 100_000,
  /** Of all connections with the credentials of somebody who may use some queues only. */
  resultWaitersPerCredentialMax: 200_000,
  callsInFlightPerConnectionMax: 1000,
  /** Beyond it the connection is not read from until some of them have begun. */
  waitingCallBytesPerConnectionMax: 4 * MiB,
  /** Calls of one connection that the server works on at the same time. */
  callsAtOnceMax: 3,
  /** Event streams of one connection, and of all. */
  watchesPerConnectionMax: 16,
  watchesMax: 1024,
  /** Events that wait for one stream, in the server as JSON and in the client: what comes beyond it is dropped and counted. */
  eventBufferCharactersMax: 1 * MiB,
  eventsBufferedMax: 10_000,
  listPageMax: 1000,
  /** Tasks that one page, or step, looks at, and failures that it reads for their text, … */
  listScanMax: 1_000_000,
  listFailuresMax: 2000,
  /** … and pages of the journal that it reads for that. */
  listLoadsMax: 64,
  /** Tasks that one step of a change of many changes. */
  bulkTasksMax: 10_000,
  errorTextCharactersMax: 200,
  deadGroupsMax: 200,
  /** Dead tasks that are looked at for their groups, and pages of the journal that are read for that. */
  deadGroupTasksMax: 20_000,
  deadGroupLoadsMax: 256,
  /** Characters of a message that tell one kind of failure from another. */
  groupMessageCharactersMax: 300,
  keepAliveMs: 2 * SECOND,

  // Access
  credentialsMax: 1000,
  queuePatternsMax: 100,
  secretCharactersMin: 16,
  secretCharactersMax: 512,
  /** A file of credentials, a certificate or a key. */
  accessFileBytesMax: 1 * MiB,
  /** How often these files are looked at for changes. */
  accessFilesMs: 2 * SECOND,
  /** Connections to a TLS port that have not finished their handshake; beyond it the oldest are cut off. */
  tlsHandshakesMax: 256,

  // Repeatable enqueues
  producersMax: 10_000,
  /** Batches of all producers together: each segment of the journal begins with them. */
  rememberedBatchesMax: 250_000,
  /** In these batches, tasks that were not enqueued because another had their unique key. */
  rememberedExistingMax: 262_144,
  producerIdleMs: 1 * HOUR,
  /** Batches that a client may have sent and not seen confirmed. */
  unconfirmedBatchesMax: 256,
  clientBufferBytesMax: 64 * MiB,
  clientBufferTasksMax: 1_000_000,

  // Journal
  segmentBytes: 64 * MiB,
  segmentBytesMin: 1 * MiB,
  segmentBytesMax: 1024 * MiB,
  /** Records do not straddle pages (a larger record takes several whole ones). */
  pageBytes: 1 * MiB,
  cacheBytes: 32 * MiB,
  cacheBytesMin: 1 * MiB,
  cacheBytesMax: 1024 * 1024 * MiB,
  fsyncIntervalMsMax: 60 * SECOND,
  /** Room in the last segment that only completions may use when the disk is full. */
  reservedBytes: 8 * MiB,
  spareSegmentsMax: 2,
  /** Segment files that stay open for reading back. */
  readSegmentsMax: 8,
  /** How long a close waits for the disk. */
  closeTimeoutMs: 5 * SECOND,

  /** Ended tasks that a queue may keep of each kind. */
  retentionCountMax: 10_000_000,

  // Scaling
  /** Worker processes of one supervisor. */
  workerProcessesMax: 256,
  /** How long one of them may take, beside what it may take to connect, until it takes tasks. */
  workerStartMs: 5 * MINUTE,
  /** Of a line that one of them prints; longer ones are cut, and say so. */
  workerLineCharactersMax: 64 * KiB,
  /** How often a supervisor tells its server of itself at least, and after how long without a word it is forgotten. */
  scalingReportMs: 5 * SECOND,
  scalingForgottenMs: 60 * SECOND,
  /** Supervisors that a server remembers; beyond it those that have been silent for longest are forgotten. */
  supervisorsMax: 256,
  supervisorHostBytesMax: 256,
  scalingDecisionsMax: 20,
  scalingReasonCharactersMax: 500,

  // HTTP
  httpConnectionsMax: 2048,
  /** Requests that are being answered, waiting ones and answers that are not sent yet included; streams have limits of their own. */
  httpRequestsMax: 2048,
  /** Of one connection, sent ahead of the answer to an earlier one. */
  httpPipelinedMax: 16,
  /** A body that is one document: a batch of the largest frame, in JSON. */
  httpBodyBytesMax: 17 * MiB,
  /** Bodies of all requests that are being answered. */
  httpBodiesBytesMax: 256 * MiB,
  /** What is held of answers that were made and not read, of all connections together: beyond it those with the most are cut off. */
  httpUnsentBytesMax: 512 * MiB,
  /** How long an answer may take to be read, once it is made. */
  httpAnswerMs: 5 * MINUTE,
  httpHeadersTimeoutMs: 10 * SECOND,
  /** How long a body may take to come. */
  httpBodyTimeoutMs: 60 * SECOND,
  httpKeepAliveMs: 65 * SECOND,
  /** How long one request may wait for something to happen. */
  httpWaitMsMax: 60 * SECOND,
  /** Of the dashboard, which the server holds in memory; more than `npm run build` makes. */
  dashboardFilesMax: 50,
  dashboardFileBytesMax: 2 * MiB,
  /** Tasks of a flow that are looked at for one answer. */
  httpFlowTasksMax: 500,
  httpFlowTasksDefault: 200,
  /** What the history of a server's status holds: 15 minutes. */
  historyIntervalMs: 5 * SECOND,
  historySamplesMax: 180,

  /** Queues and workers that have series of their own in the metrics; the rest are added up. */
  metricsQueuesMax: 500,
  metricsWorkersMax: 500,

  // RabbitMQ
  /** Ids that other programs give their messages; ours are shorter. */
  taskIdBytesMax: 128,
  /** Messages that were published and not confirmed; what comes after them waits in the client. */
  amqpUnconfirmedMessagesMax: 16_384,
  amqpUnconfirmedBytesMax: 16 * MiB,
  /** Ends of a client's own tasks that nobody has asked for yet; beyond it the oldest are forgotten. */
  amqpOutcomesKeptMax: 100_000,
  amqpOutcomesKeptBytesMax: 64 * MiB,
  /** Outcomes in one reply message. */
  amqpReplyOutcomesMax: 1000,
  amqpReplyBytesMax: 4 * MiB,
  /** Times that a quorum queue may hand out one message: what ends a task is its attempts. */
  amqpDeliveriesMax: 1_000_000,
  /** How long the broker may take to answer a declaration, or to close. */
  amqpCallTimeoutMs: 30 * SECOND,
  amqpCloseTimeoutMs: 2 * SECOND,
  /** Twice so long without a confirm is too long, and what is unconfirmed is published again. */
  amqpConfirmMs: 6 * SECOND,
  /** How long what the store's outbox has waits for its confirm, before it is left to a later sweep. */
  amqpPublishMs: 15 * SECOND,
  /** The shortest step of the delay ladder; each of the next is twice the one before. */
  amqpDelayStepMs: 16,
  amqpDelayLevels: 31,
  /** Headers of another program's message that go with its copies; a table of headers may have 64 KiB in all. */
  amqpCarriedHeaderBytesMax: 32 * KiB,
  /** JSON of an error in a dead letter's header. */
  amqpErrorHeaderBytesMax: 16 * KiB,
  /** Dead letters that a redrive moves at a time. */
  amqpRedrivePortion: 100,

  // Work over HTTP
  /** A connection on which nothing moves in either direction for so long is cut. */
  httpSilenceMs: 2 * MINUTE,
  /** Tasks leased over HTTP, and their payloads, at the same time. */
  leasesMax: 10_000,
  leasedBytesMax: 512 * MiB,
  /** Requests that wait for a task at the same time. */
  leaseRequestsMax: 1000,
  /** Tasks, and bytes of payload (one may be larger), in one answer. */
  leaseTasksMax: 1000,
  leaseAnswerBytesMax: 16 * MiB,
  leaseMsMin: 1 * SECOND,
  leaseMsMax: 1 * DAY,
  leaseWaitMsMax: 60 * SECOND,
  /** What a request that does not want to wait leaves its backend for finding out what there is. */
  leaseFindMs: 250,
  /** How long after a task another one belongs into the same answer, and how long they are gathered in all. */
  leaseGatherMs: 5,
  leaseGatherMsMax: 50,
  /** How long tasks are kept for a client that has settled what it had, and may ask for more. */
  leaseReuseMs: 100,
  /** How long a settlement that the backend has not answered is repeated. */
  leaseSettleMs: 10 * MINUTE,
  /** A line of a stream of tasks: any payload fits, however it is written. */
  ndjsonLineBytesMax: 7 * MiB,
  /** Of one stream: lines, and their bytes, that were read and whose answers were not. */
  ndjsonLinesMax: 10_000,
  ndjsonBytesMax: 8 * MiB,
  ndjsonStreamsMax: 64,
  /** Server-sent event streams. */
  eventStreamsMax: 1000,
  /** Events that are kept for streams that lag and for those who come back, and their JSON. */
  eventRingMax: 10_000,
  eventRingCharactersMax: 4 * MiB,
  /** How long events are kept when nobody reads any: for who comes back. */
  eventRingIdleMs: 1 * MINUTE,
  /** A stream on which nothing happens says so often that it lives. */
  eventHeartbeatMs: 15 * SECOND,

  // Worker threads
  threadsMax: 256,
  threadHeapMbMin: 16,
  threadHeapMbMax: 65_536,
  /** How long a thread may take to load the handlers. */
  threadStartMs: 60 * SECOND,
  /** Tasks, and bytes of payload (one may be larger), that are handed to a thread in one message. */
  threadGroupTasksMax: 2048,
  threadGroupBytesMax: 1 * MiB,
  /** So much work, by what tasks of that name took before, waits in a thread behind what runs. */
  threadAheadMs: 32,
  /** What waits behind a handler that keeps its thread for longer goes to other threads. */
  threadStuckMs: 80,
  /** How long a thread that has something to say waits for more. */
  threadReportMs: 16,
  /** How long a handler in a thread may go on after its signal was aborted: then the thread is ended. */
  threadGraceMs: 1 * SECOND,
  /** The pause before a thread that crashed is replaced: none, then doubling from the first to the second, … */
  threadRestartMsMin: 100,
  threadRestartMsMax: 5 * SECOND,
  /** … until none has crashed for so long. */
  threadSteadyMs: 10 * SECOND,

  // History kept per task
  attemptsKeptMax: 10,

  // The PostgreSQL store
  /** Connections of one process that commit durably, that need not, and for reading and upkeep. Opened when needed. */
  storeDurableLanes: 3,
  storeLazyLanes: 2,
  storeCalmLanes: 1,
  /** How long one statement may take before its connection is given up; the server ends it by itself a little later. */
  storeStatementTimeoutMs: 30 * SECOND,
  /** Tasks, and bytes of payload, in one statement. */
  storeStatementTasksMax: 10_000,
  storeStatementBytesMax: 16 * MiB,
  /** Tasks, and bytes of payload, that are given back for publishing at once (one task may be larger). [migrated] */
  storePortionTasks: 500,
  storePortionBytes: 8 * MiB,
  /** How long an outbox entry that somebody publishes is his. */
  storeClaimMs: 60 * SECOND,
  /** What waits for a lazy write when the database is away; beyond it the oldest is forgotten. */
  storeLazyEntriesMax: 100_000,
  /** How long lazy writes are gathered. */
  storeGatherMs: 20,
  /** Pauses between two rounds of upkeep. */
  storeUpkeepMs: 1 * SECOND,
  /** What one round deletes of a queue's ended tasks in one statement [migrated], and in how many statements. */
  storeTrimTasks: 2_000,
  storeTrimStatementsMax: 100,
  /** A worker whose last beat is older is not shown. */
  storeWorkerStaleMs: 15 * SECOND,
  /** After this long without a beat the tasks that a worker holds, whose messages did not come back, go to others. */
  storeWorkerLostMs: 10 * MINUTE,
  /** How long it is remembered that a task was cancelled, beyond its time and its retention. [migrated] */
  storeTombstoneMs: 30 * DAY,
  /** Tasks that one statement looks at for a page, … */
  storeListScanMax: 200_000,
  /** … and failed tasks whose errors the database looks through for text at a time; detoasting them is what takes time. */
  storeErrorScanMax: 20_000,
  /** Tasks that one step of a cancel of many changes. */
  storeCancelTasksMax: 5000,
  /** Running tasks, the longest running first, of which a worker says when they began. */
  storeBeatTasksMax: 200,
  /** Throughput is counted over this long. */
  storeThroughputMs: 5 * SECOND,
  /** Definitions (queue, name, options) whose numbers a process remembers. */
  storeKindsCached: 10_000,
} as const;

export const DEFAULTS = {
  queue: 'default',
  priority: 4,
  maxAttempts: 3,
  timeoutMs: 30 * MINUTE,
  backoff: { type: 'exponential', delayMs: 1 * SECOND, maxDelayMs: 10 * MINUTE, jitter: true },
  /** Added to a task's timeout before the server takes it from a worker that did not end it itself. */
  timeoutGraceMs: 2 * SECOND,
  /** How long a task whose worker was lost in its last attempt waits for that one to come back before it is dead. */
  lostGraceMs: 5 * SECOND,
  timeZone: 'UTC',
  misfire: 'once',
  host: '127.0.0.1',
  port: 5555,
  httpPort: 5556,
  concurrency: 50,
  retention: {
    completedCountMax: 100_000,
    completedAgeMs: 1 * HOUR,
    deadCountMax: 100_000,
    deadAgeMs: 14 * DAY,
  },
  /** How long `connect` goes on trying to reach a server for the first time. */
  connectTimeoutMs: 10 * SECOND,
  enqueueTimeoutMs: 30 * SECOND,
  callTimeoutMs: 15 * SECOND,
  resultTimeoutMs: 30 * SECOND,
  leaseMs: 30 * SECOND,
  stopTimeoutMs: 10 * SECOND,
  fsyncIntervalMs: 100,
  amqp: {
    port: 5672,
    portTls: 5671,
    prefix: 'millrace',
    queueType: 'quorum',
    replies: 'all',
    /** The broker's own default: a busy event loop is cut off after two of them. */
    heartbeatSeconds: 60,
    /** How long a reply queue outlives its client. */
    replyExpiresMs: 30 * MINUTE,
    /** How long a task that runs on after its connection was lost waits to be given to this worker again. */
    adoptMs: 15 * SECOND,
  },
  reconnect: {
    initialDelayMs: 100,
    factor: 2,
    maxDelayMs: 5 * SECOND,
    jitter: 0.3,
    giveUpAfterMs: Number.POSITIVE_INFINITY,
  },
} as const;

/** Whether only this machine reaches the address. */
export function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || /^127(\.\d{1,3}){3}$/.test(host);
}

/** Throws INVALID_ARGUMENT naming the value and its bounds. */
export function checkInteger(what: string, value: unknown, min: number, max: number): asserts value is number {
  if (typeof value === 'number' && Number.isInteger(value) && value >= min && value <= max) return;
  const message = `${what} is ${shown(value)}; allowed are whole numbers from ${min} to ${max}`;
  throw new MillraceError('INVALID_ARGUMENT', message, { details: { value: shownValue(value), min, max } });
}

/** Names are 1 to `bytesMax` bytes of UTF-8 without control characters or lone surrogates. Throws INVALID_ARGUMENT. */
export function checkName(what: string, value: unknown, bytesMax: number): asserts value is string {
  if (typeof value !== 'string') {
    throw new MillraceError('INVALID_ARGUMENT', `${what} must be text, not ${shown(value)}`);
  }
  const bytes = Buffer.byteLength(value, 'utf8');
  if (bytes < 1 || bytes > bytesMax) {
    throw new MillraceError(
      'INVALID_ARGUMENT',
      `${what} ${shown(value)} has ${bytes} bytes; allowed are 1 to ${bytesMax}`,
      { details: { value: shownValue(value), bytes, bound: bytesMax } },
    );
  }
  if (/[\p{Cc}\p{Cs}]/u.test(value)) {
    throw new MillraceError('INVALID_ARGUMENT', `${what} ${shown(value)} contains a control character`, {
      details: { value: shownValue(value) },
    });
  }
}

/** Throws INVALID_ARGUMENT for what is no object of options or settings. */
export function checkObject(what: string, value: unknown): asserts value is object {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return;
  throw new MillraceError('INVALID_ARGUMENT', `${what} must be an object, not ${shown(value)}`);
}

const RETENTION_MAX = {
  completedCountMax: LIMITS.retentionCountMax,
  completedAgeMs: LIMITS.delayMsMax,
  deadCountMax: LIMITS.retentionCountMax,
  deadAgeMs: LIMITS.delayMsMax,
} as const;

/** What a change of a queue's retention sets; what is undefined is left out. Throws INVALID_ARGUMENT. */
export function parseRetention(change: unknown): { -readonly [Name in keyof typeof RETENTION_MAX]?: number } {
  checkObject('retention', change);
  const parsed: ReturnType<typeof parseRetention> = {};
  for (const [name, value] of Object.entries(change)) {
    if (!Object.hasOwn(RETENTION_MAX, name)) {
      const known = Object.keys(RETENTION_MAX).join(', ');
      throw new MillraceError('INVALID_ARGUMENT', `there is no retention setting ${shown(name)}; there are ${known}`);
    }
    if (value === undefined) continue;
    const setting = name as keyof typeof RETENTION_MAX;
    checkInteger(`retention.${name}`, value, 0, RETENTION_MAX[setting]);
    parsed[setting] = value;
  }
  return parsed;
}

/** Null: without limit. */
export interface QueueLimits {
  /** Tasks of the queue that are with workers at the same time, over all of them; those that they hold ahead count. */
  readonly concurrency: number | null;
  /** Tasks that are handed out: `count` in `periodMs`, evenly, and `burst` at once after a pause. */
  readonly rate: { readonly count: number; readonly periodMs: number; readonly burst: number } | null;
  /** As `concurrency`, for the tasks with the same `concurrencyKey`. */
  readonly concurrencyPerKey: number | null;
  /** Unfinished tasks that the queue holds: ready, scheduled, blocked and active. New ones beyond it are refused with QUEUE_FULL. */
  readonly length: number | null;
}

export const NO_LIMITS: QueueLimits = { concurrency: null, rate: null, concurrencyPerKey: null, length: null };

/** What is not named, or undefined, stays as it is. */
export interface QueueLimitsChange {
  concurrency?: number | null | undefined;
  /** `burst` is `count` unless it is given. */
  rate?: { count: number; periodMs: number; burst?: number | undefined } | null | undefined;
  concurrencyPerKey?: number | null | undefined;
  length?: number | null | undefined;
}

/** The limits that are a plain count, and the most that each may be. */
const QUEUE_COUNTS_MAX = {
  concurrency: LIMITS.queueConcurrencyMax,
  concurrencyPerKey: LIMITS.queueConcurrencyMax,
  length: LIMITS.queueLengthMax,
} as const;

/** Throws INVALID_ARGUMENT. */
export function parseQueueLimits(change: unknown): Partial<QueueLimits> {
  checkObject('limits', change);
  const { rate, ...counts } = change as QueueLimitsChange;
  const parsed: { -readonly [Name in keyof QueueLimits]?: QueueLimits[Name] } = {};
  for (const [name, count] of Object.entries(counts)) {
    if (!Object.hasOwn(QUEUE_COUNTS_MAX, name)) {
      const known = Object.keys(NO_LIMITS).join(', ');
      throw new MillraceError('INVALID_ARGUMENT', `there is no limit ${shown(name)}; there are ${known}`);
    }
    if (count === undefined) continue;
    const limit = name as keyof typeof QUEUE_COUNTS_MAX;
    if (count !== null) checkInteger(name, count, 1, QUEUE_COUNTS_MAX[limit]);
    parsed[limit] = count;
  }
  if (rate !== undefined) parsed.rate = rate === null ? null : parseRate(rate);
  return parsed;
}

function parseRate(rate: NonNullable<QueueLimitsChange['rate']>): NonNullable<QueueLimits['rate']> {
  checkObject('rate', rate);
  const { count, periodMs, burst = count, ...others } = rate;
  for (const name of Object.keys(others)) {
    throw new MillraceError('INVALID_ARGUMENT', `rate has no ${shown(name)}; it has count, periodMs, burst`);
  }
  checkInteger('rate.count', count, 1, LIMITS.rateCountMax);
  checkInteger('rate.periodMs', periodMs, LIMITS.ratePeriodMsMin, LIMITS.ratePeriodMsMax);
  checkInteger('rate.burst', burst, 1, LIMITS.rateCountMax);
  return { count, periodMs, burst };
}

/**
 * Headers as they are given, checked and copied; undefined when there are none. What is undefined is left out. Throws
 * INVALID_ARGUMENT.
 */
export function parseHeaders(given: unknown): Readonly<Record<string, string>> | undefined {
  if (given === undefined) return undefined;
  checkObject('headers', given);
  // A Map, or what fetch calls Headers, would be taken for an object without any.
  if (Symbol.iterator in given) {
    throw new MillraceError(
      'INVALID_ARGUMENT',
      `headers must be an object such as { tenant: 'a' }, not a list or a Map`,
    );
  }
  const entries: [string, string][] = [];
  let bytes = 0;
  for (const [name, value] of Object.entries(given) as [string, unknown][]) {
    if (value === undefined) continue;
    checkName('the name of a header', name, LIMITS.headerNameBytesMax);
    checkHeaderValue(name, value);
    entries.push([name, value]);
    bytes += headerBytes(name, value);
  }
  if (entries.length === 0) return undefined;
  if (entries.length > LIMITS.headersMax) throw tooManyHeaders(entries.length, 'headers', LIMITS.headersMax);
  if (bytes > LIMITS.headersBytesMax) throw tooManyHeaders(bytes, 'bytes of headers', LIMITS.headersBytesMax);
  return Object.fromEntries(entries);
}

/** Of one header, packed, beside its texts. */
const HEADER_FIXED_BYTES = 3;

/** What one header takes of LIMITS.headersBytesMax. */
export function headerBytes(name: string, value: string): number {
  return HEADER_FIXED_BYTES + Buffer.byteLength(name) + Buffer.byteLength(value);
}

function checkHeaderValue(name: string, value: unknown): asserts value is string {
  if (typeof value !== 'string') {
    const message = `the header ${shown(name)} must be text, not ${shown(value)}: write numbers and other data as text`;
    throw new MillraceError('INVALID_ARGUMENT', message, { details: { name, value: shownValue(value) } });
  }
  if (!/[\p{Cc}\p{Cs}]/u.test(value)) return;
  const message = `the header ${shown(name)} is ${shown(value)}, which contains a control character: encode it, or put it into the payload`;
  throw new MillraceError('INVALID_ARGUMENT', message, { details: { name, value: shownValue(value) } });
}

export function tooManyHeaders(count: number, what: string, bound: number): MillraceError {
  const message = `a task was given ${count} ${what}; at most ${bound} are allowed: put what its handler alone needs into the payload`;
  return new MillraceError('INVALID_ARGUMENT', message, { details: { count, bound } });
}

function relation(holds: boolean, what: string): void {
  if (!holds) throw new Error(`limits.ts: ${what} does not hold`);
}
relation(LIMITS.backoffMsMax < 2 ** 32 && LIMITS.timeoutMsMax < 2 ** 32, 'attempt times fit into u32 milliseconds');
relation(LIMITS.payloadBytesMax < LIMITS.frameBytesMax, 'payloadBytesMax < frameBytesMax');
relation(LIMITS.listPageMax <= LIMITS.listFailuresMax, 'a page that is full of matches can be read');
relation(
  LIMITS.payloadBytesMax + LIMITS.headersBytesMax < 2 ** 31 && LIMITS.headersBytesMax < 2 ** 16,
  'the top bit of a task’s length is free, and the length of its headers fits into u16',
);
relation(LIMITS.headerNameBytesMax < 256, 'the length of a header’s name fits into a byte');
relation(
  LIMITS.schedulePayloadBytesMax * 2 < LIMITS.callBytesMax && LIMITS.schedulePayloadBytesMax <= LIMITS.payloadBytesMax,
  'a schedule fits into a call, and its payload into a task',
);
relation(
  LIMITS.queueNameBytesMax < 256 && LIMITS.taskNameBytesMax < 256 && LIMITS.taskIdBytesMax < 256,
  'the lengths of what an envelope is bound to fit into a byte each',
);
relation(
  ((LIMITS.sealedErrorBytesMax + 400) * 4) / 3 + 2 * KiB <= LIMITS.errorBytesMax,
  'an encrypted error is stored whole, with its envelope, in base64, with what stays legible',
);
relation(LIMITS.scheduleNameBytesMax < 256, 'the length of a schedule’s name fits into a byte');
relation(LIMITS.schedulesBytesMax * 2 <= LIMITS.segmentBytes, 'schedules leave room in a segment');
relation(
  LIMITS.payloadBytesMax * 6 < LIMITS.ndjsonLineBytesMax && LIMITS.ndjsonLineBytesMax < LIMITS.ndjsonBytesMax,
  'a payload in which every character is escaped fits into a line',
);
relation(LIMITS.scalingReportMs * 3 < LIMITS.scalingForgottenMs, 'a supervisor that lives is not forgotten');
relation(LIMITS.leaseAnswerBytesMax * 2 <= LIMITS.httpUnsentBytesMax, 'one answer ≤ the share of one client');
relation(LIMITS.httpSilenceMs <= LIMITS.httpAnswerMs, 'who reads nothing is cut off before who reads slowly');
relation(LIMITS.httpBodyBytesMax <= LIMITS.httpBodiesBytesMax, 'one body ≤ all bodies');
relation(
  LIMITS.leaseWaitMsMax < LIMITS.httpSilenceMs && LIMITS.eventHeartbeatMs < LIMITS.httpSilenceMs,
  'nobody who waits over HTTP is taken for silent',
);
relation(LIMITS.resultBytesMax < LIMITS.frameBytesMax, 'resultBytesMax < frameBytesMax');
relation(LIMITS.recordBytesMax + LIMITS.pageBytes < LIMITS.segmentBytes, 'a record fits into a segment');
relation(
  LIMITS.frameBytesMax + 64 * KiB + 16 * (LIMITS.batchTasksMax + LIMITS.submissionDependenciesMax) <=
    LIMITS.recordBytesMax,
  'the plan of a submission, which has up to 16 bytes more for each task and dependency, fits into a record',
);
relation(LIMITS.batchTasksMax <= LIMITS.rememberedExistingMax, 'a batch is remembered whole');
relation(LIMITS.queueLengthMax <= LIMITS.tasksMax, 'a queue may be limited to no more than all queues hold');
relation(
  LIMITS.refusedConnectionsMin + LIMITS.readSegmentsMax + 32 <= LIMITS.openFilesReserved,
  'what is not a connection finds a file to open',
);
relation(LIMITS.reservedBytes < LIMITS.segmentBytes, 'reservedBytes < segmentBytes');
relation(LIMITS.frameBytesMax <= LIMITS.unconfirmedBytesPerConnectionMax, 'a frame fits into the unconfirmed window');
relation(LIMITS.unconfirmedBytesPerConnectionMax <= LIMITS.unconfirmedBytesMax, 'one connection ≤ all connections');
relation(
  LIMITS.littleUnconfirmedBytes < LIMITS.unconfirmedShareBytesMin &&
    LIMITS.unconfirmedShareBytesMin <= LIMITS.unconfirmedBytesShared &&
    LIMITS.unconfirmedBytesShared <= LIMITS.unconfirmedBytesPerConnectionMax,
  'a little < a share ≤ all shares ≤ one connection that shares with nobody',
);
relation(LIMITS.sendBufferBytesMax < LIMITS.sendBufferBytesEvict, 'sendBufferBytesMax < sendBufferBytesEvict');
relation(
  LIMITS.sendBufferBytesMax + LIMITS.callsAtOnceMax * LIMITS.frameBytesMax < LIMITS.sendBufferBytesEvict,
  'answers that are made while there is room do not cut a reader off',
);
relation(LIMITS.sendBufferBytesEvict <= LIMITS.unsentBytesMax, 'one connection ≤ all connections');
relation(LIMITS.frameBytesMax <= LIMITS.unfinishedFrameBytesMax, 'one frame ≤ all frames');
relation(LIMITS.payloadBytesMax <= LIMITS.storePortionBytes, 'a payload fits into a portion of the store');
relation(
  LIMITS.amqpConfirmMs * 2 < LIMITS.amqpPublishMs && LIMITS.amqpPublishMs < LIMITS.storeClaimMs,
  'what is republished is tried on another channel, and given up while its entry is still claimed',
);
relation(LIMITS.storeWorkerStaleMs < LIMITS.storeWorkerLostMs, 'a worker is stale before it is lost');
relation(LIMITS.payloadBytesMax * 2 <= LIMITS.amqpUnconfirmedBytesMax, 'the largest message fits into the window');
relation(
  LIMITS.amqpCarriedHeaderBytesMax + LIMITS.amqpErrorHeaderBytesMax < 63 * KiB,
  'the headers of a dead letter fit into 64 KiB',
);
relation(
  LIMITS.amqpDelayStepMs * (2 ** LIMITS.amqpDelayLevels - LIMITS.amqpDelayLevels - 1) > LIMITS.delayMsMax,
  'the delay ladder reaches the longest delay',
);
relation(
  LIMITS.threadStartMs + DEFAULTS.callTimeoutMs < LIMITS.workerStartMs,
  'a worker process whose threads do not load, or whose server does not answer, says so before it is killed',
);
relation(LIMITS.threadAheadMs < LIMITS.threadStuckMs, 'what is handed ahead has its time before it is taken back');
relation(
  LIMITS.threadGraceMs < DEFAULTS.timeoutGraceMs,
  'a thread that does not stop is ended before the server takes its task away',
);
relation(LIMITS.helloBytesMax <= LIMITS.frameBytesMax, 'helloBytesMax ≤ frameBytesMax');
