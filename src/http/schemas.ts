import { z } from '@hono/zod-openapi';
import type {
  BulkReport,
  DeadGroups,
  Percentiles,
  QueueStatus,
  ScheduleInfo,
  Status,
  SupervisorStatus,
  TaskError,
  TaskInfo,
  WorkerStatus,
} from '../broker/contract.ts';
import { LIMITS, type QueueLimits } from '../limits.ts';

/** Shapes of answers: those of src/broker/contract.ts, which the types hold them to, as OpenAPI needs them. */
type Shape<T> = z.ZodType<Loose<T>>;
/** zod lets what is optional be undefined too. */
type Loose<T> = T extends readonly (infer Item)[]
  ? Loose<Item>[]
  : T extends object
    ? { [Key in keyof T]: undefined extends T[Key] ? Loose<T[Key]> | undefined : Loose<T[Key]> }
    : T;

export const TASK_STATES = ['scheduled', 'blocked', 'ready', 'active', 'completed', 'dead', 'cancelled'] as const;

export const QueueName = z.string().min(1).max(LIMITS.queueNameBytesMax);
export const TaskName = z.string().min(1).max(LIMITS.taskNameBytesMax);
export const TaskId = z.string().min(1).max(LIMITS.taskIdBytesMax).openapi({ example: '1-0' });

export const QueueParams = z.object({ queue: QueueName });
export const TaskParams = z.object({ id: TaskId });

const AtMs = z.number().openapi({ description: 'milliseconds since 1970' });

export const ErrorBody = z
  .object({ name: z.string(), message: z.string(), code: z.string(), stack: z.string().optional() })
  .openapi('TaskError') satisfies Shape<TaskError>;

const Encoded = z.object({
  encoding: z.enum(['utf8', 'base64']),
  data: z.string(),
  keyId: z.string().optional().openapi({ description: 'the key that `data` is encrypted with' }),
});
const State = z.enum(TASK_STATES);
export const OnFailure = z.enum(['cancel', 'run', 'wait']);

export const TaskBody = z
  .object({
    id: z.string(),
    queue: z.string(),
    name: z.string(),
    state: State,
    priority: z.int(),
    attempt: z.int(),
    maxAttempts: z.int(),
    timeoutMs: z.int(),
    enqueuedAtMs: AtMs,
    runAtMs: AtMs.optional(),
    finishedAtMs: AtMs.optional(),
    startedAtMs: AtMs.optional(),
    worker: z.string().optional(),
    workerId: z.string().optional(),
    progress: z.object({ value: z.unknown(), message: z.string().optional() }).optional(),
    log: z
      .object({
        lines: z.array(z.object({ atMs: AtMs, attempt: z.int(), text: z.string() })),
        dropped: z.int(),
      })
      .optional(),
    cancelRequested: z.boolean().optional(),
    payloadBytes: z.int(),
    headers: z.record(z.string(), z.string()).optional(),
    payload: Encoded.optional(),
    result: Encoded.optional(),
    payloadHidden: z.boolean().optional().openapi({ description: 'the server does not show payloads and results' }),
    dependencies: z
      .object({
        total: z.int(),
        open: z.int(),
        completed: z.int(),
        dead: z.int(),
        cancelled: z.int(),
        parents: z
          .array(z.object({ id: z.string(), state: State.or(z.literal('unknown')), onFailure: OnFailure }))
          .optional(),
      })
      .optional(),
    children: z.object({ total: z.int(), ids: z.array(z.string()) }).optional(),
    uniqueKey: z.string().optional(),
    failures: z.array(
      z.object({
        attempt: z.int(),
        atMs: AtMs,
        error: ErrorBody,
        worker: z.string().optional(),
        startedAtMs: AtMs.optional(),
      }),
    ),
  })
  .openapi('Task') satisfies Shape<TaskInfo>;

export const TaskPageBody = z.object({ tasks: z.array(TaskBody), next: z.string().optional() }).openapi('TaskPage');

export const RetentionBody = z
  .object({
    completedCountMax: z.int(),
    completedAgeMs: z.int(),
    deadCountMax: z.int(),
    deadAgeMs: z.int(),
  })
  .openapi('Retention');

export const LimitsBody = z
  .object({
    concurrency: z.int().nullable(),
    concurrencyPerKey: z.int().nullable(),
    rate: z.object({ count: z.int(), periodMs: z.int(), burst: z.int() }).nullable(),
    length: z.int().nullable(),
  })
  .openapi('Limits') satisfies Shape<QueueLimits>;

const Rates = z.object({ enqueued: z.number(), completed: z.number(), failed: z.number() });

export const QueueBody = z
  .object({
    name: z.string(),
    paused: z.boolean(),
    ready: z.int(),
    active: z.int(),
    scheduled: z.int(),
    blocked: z.int(),
    completed: z.int(),
    dead: z.int(),
    cancelled: z.int(),
    oldestReadyMs: z.number(),
    totals: z.object({
      enqueued: z.int(),
      completed: z.int(),
      failed: z.int(),
      dead: z.int(),
      cancelled: z.int(),
    }),
    retention: RetentionBody,
    limits: LimitsBody,
    heldUpBy: z.enum(['paused', 'concurrency', 'rate']).optional(),
  })
  .openapi('QueueStatus') satisfies Shape<QueueStatus>;

export const QueueWithRates = QueueBody.extend({
  rates: Rates.openapi({ description: 'per second, over the last 5 seconds' }),
}).openapi('Queue');

export const WorkerBody = z
  .object({
    id: z.string(),
    name: z.string(),
    host: z.string(),
    pid: z.int(),
    queues: z.array(z.string()),
    concurrency: z.int(),
    prefetch: z.int(),
    held: z.int(),
    running: z.int(),
    utilisation: z.number(),
    completed: z.int(),
    failed: z.int(),
    connectedAtMs: AtMs,
    version: z.string().optional(),
    lastSeenMs: z.number(),
  })
  .openapi('Worker') satisfies Shape<WorkerStatus>;

export const SupervisorBody = z
  .object({
    id: z.string(),
    name: z.string(),
    host: z.string(),
    pid: z.int(),
    queues: z.array(z.string()),
    min: z.int(),
    max: z.int(),
    current: z.int(),
    retiring: z.int(),
    decisions: z.array(z.object({ atMs: AtMs, from: z.int(), to: z.int(), reason: z.string() })),
    lastSeenMs: z.number(),
  })
  .openapi('Supervisor') satisfies Shape<SupervisorStatus>;

const PercentilesBody = z
  .object({ p50: z.number(), p95: z.number(), p99: z.number(), count: z.int() })
  .openapi('Percentiles') satisfies Shape<Percentiles>;

const Latency = z.object({ start: PercentilesBody, total: PercentilesBody });

export const StatusBody = z
  .object({
    server: z.object({
      version: z.string(),
      pid: z.int(),
      startedAtMs: AtMs,
      uptimeMs: z.number(),
      durability: z.string(),
      connections: z.int(),
      stopping: z.boolean(),
    }),
    queues: z.array(QueueBody),
    workers: z.array(WorkerBody),
    supervisors: z.array(SupervisorBody).optional(),
    throughput: Rates,
    latencyMs: Latency,
    journal: z.object({ segments: z.int(), bytes: z.number(), syncs: z.int(), appendedBytes: z.number() }).nullable(),
    memory: z.object({ rssBytes: z.number(), heapBytes: z.number() }),
    replies: z.object({ undelivered: z.int(), unreadable: z.int(), forgotten: z.int() }).optional(),
  })
  .openapi('Status') satisfies Shape<Status>;

export const HistoryBody = z
  .object({
    intervalMs: z.int(),
    samples: z.array(
      z.object({
        atMs: AtMs,
        throughput: Rates,
        latencyMs: Latency,
        queues: z.object({
          ready: z.int(),
          active: z.int(),
          scheduled: z.int(),
          blocked: z.int(),
          dead: z.int(),
        }),
        oldestReadyMs: z.number(),
        workers: z.int(),
        utilisation: z.number(),
      }),
    ),
  })
  .openapi('History');

export const BackoffBody = z.object({
  type: z.enum(['fixed', 'exponential']),
  delayMs: z.int(),
  maxDelayMs: z.int(),
  jitter: z.boolean(),
});

export const Misfire = z.enum(['skip', 'once', 'all']);

export const ScheduleBody = z
  .object({
    name: z.string(),
    cron: z.string().optional(),
    timeZone: z.string().optional(),
    everyMs: z.int().optional(),
    misfire: Misfire,
    paused: z.boolean(),
    task: z.string(),
    queue: z.string(),
    priority: z.int(),
    maxAttempts: z.int(),
    timeoutMs: z.int(),
    backoff: BackoffBody,
    concurrencyKey: z.string().optional(),
    nextAtMs: AtMs.optional(),
    lastAtMs: AtMs.optional(),
    lastTaskId: z.string().optional(),
    firedCount: z.int(),
    payloadBytes: z.int(),
    headers: z.record(z.string(), z.string()).optional(),
    payload: Encoded.optional(),
  })
  .openapi('Schedule') satisfies Shape<ScheduleInfo>;

export const CountBody = z.object({ count: z.int() }).openapi('Count');
export const BulkBody = z
  .object({ count: z.int(), next: z.string().optional().openapi({ description: 'go on with it as `after`' }) })
  .openapi('BulkReport') satisfies Shape<BulkReport>;

export const DeadGroupsBody = z
  .object({
    groups: z.array(
      z.object({
        group: z.string(),
        queue: z.string(),
        name: z.string(),
        code: z.string(),
        error: z.string(),
        message: z.string(),
        count: z.int(),
        oldestAtMs: AtMs,
        newestAtMs: AtMs,
        sampleId: z.string(),
      }),
    ),
    scanned: z.int(),
    complete: z.boolean(),
  })
  .openapi('DeadGroups') satisfies Shape<DeadGroups>;

export const SubmittedBody = z.object({ id: z.string(), isNew: z.boolean() }).openapi('Submitted');

export const ProblemBody = z
  .object({
    type: z.string().openapi({ example: 'urn:millrace:error:NOT_FOUND' }),
    title: z.string(),
    status: z.int(),
    detail: z.string(),
    code: z.string().openapi({ example: 'NOT_FOUND' }),
    retryable: z.boolean(),
    details: z.record(z.string(), z.unknown()),
  })
  .openapi('Problem');

/** The errors that any route may answer with. */
export const problems = {
  default: { description: 'an error', content: { 'application/problem+json': { schema: ProblemBody } } },
} as const;

export function json<Schema extends z.ZodType>(schema: Schema, description: string) {
  return { description, content: { 'application/json': { schema } } } as const;
}

/** A body that must be there. */
export function body<Schema extends z.ZodType>(schema: Schema) {
  return { required: true, content: { 'application/json': { schema } } } as const;
}
