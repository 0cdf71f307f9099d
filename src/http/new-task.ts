import { z } from '@hono/zod-openapi';
import type { OnParentFailure, SubmittedTask } from '../broker/contract.ts';
import type { Client } from '../client/client.ts';
import { MillraceError } from '../errors.ts';
import { LIMITS } from '../limits.ts';
import { memberText } from '../protocol/json-members.ts';
import type { EnqueueOptions, TaskOptions } from '../task/options.ts';
import { listOf, textsOf } from './lists.ts';
import { BackoffBody, OnFailure, QueueName, TaskId, TaskName } from './schemas.ts';

/** What a task may be told; src/task checks the values. */
const taskOptions = {
  queue: QueueName.optional().openapi({ default: 'default' }),
  priority: z.int().optional().openapi({ default: 4, description: '0 to 9, higher first' }),
  maxAttempts: z.int().optional().openapi({ default: 3 }),
  timeoutMs: z.int().optional().openapi({ default: 1_800_000 }),
  backoff: BackoffBody.partial().strict().optional(),
  concurrencyKey: z.string().optional(),
  headers: textsOf('headers', LIMITS.headersMax).optional(),
};

const payload = {
  payload: z.unknown().optional().openapi({ description: 'any JSON; null when absent' }),
  payloadBase64: z.base64().optional().openapi({ description: 'bytes, in place of `payload`' }),
};

const newTask = {
  name: TaskName,
  ...payload,
  ...taskOptions,
  delayMs: z.int().optional(),
  runAtMs: z.number().optional(),
  uniqueKey: z.string().optional(),
  uniqueScope: z.enum(['waiting', 'unfinished']).optional().openapi({ default: 'unfinished' }),
  uniqueForMs: z.int().optional().openapi({ description: 'in place of `uniqueScope`' }),
};

const Parent = TaskId.or(z.strictObject({ id: TaskId, onFailure: OnFailure.optional() }));

export const NewTask = z
  .strictObject({
    ...newTask,
    dependsOn: listOf('Parent', Parent, { max: LIMITS.dependenciesMax }).optional(),
    onParentFailure: OnFailure.optional(),
  })
  .openapi('NewTask');

export type NewTask = z.infer<typeof NewTask>;

export const NewSchedule = z
  .strictObject({
    task: TaskName,
    cron: z.string().optional(),
    timeZone: z.string().optional(),
    everyMs: z.int().optional(),
    misfire: z.enum(['skip', 'once', 'all']).optional(),
    ...payload,
    ...taskOptions,
  })
  .openapi('NewSchedule');

const Key = z.string().min(1).max(LIMITS.taskNameBytesMax);
const FlowParent = Key.or(z.strictObject({ key: Key, onFailure: OnFailure.optional() })).or(
  z.strictObject({ id: TaskId, onFailure: OnFailure.optional() }),
);

export const NewFlowTask = z
  .strictObject({
    key: Key.openapi({ description: 'what the other tasks of this flow call it' }),
    ...newTask,
    dependsOn: listOf('FlowParent', FlowParent, { max: LIMITS.dependenciesMax }).optional(),
    onParentFailure: OnFailure.optional(),
  })
  .openapi('NewFlowTask');

export type NewFlowTask = z.infer<typeof NewFlowTask>;

/**
 * The input that `payload` or `payloadBase64` stands for. `text`: the task as it was written, from which JSON is taken as it
 * stands there, with all digits of its numbers.
 */
export function inputOf(
  { payload, payloadBase64 }: { payload?: unknown; payloadBase64?: string | undefined },
  text: string,
): Uint8Array | null {
  if (payloadBase64 === undefined) return payload === undefined ? null : Buffer.from(memberText(text, 'payload') ?? '');
  if (payload !== undefined) {
    throw new MillraceError('INVALID_ARGUMENT', 'a task has a payload or a payloadBase64: give one of them');
  }
  return new Uint8Array(Buffer.from(payloadBase64, 'base64'));
}

/** Without what it depends on. */
export function optionsOf(task: Omit<NewTask, 'dependsOn'>): Omit<EnqueueOptions, 'dependsOn'> {
  const { delayMs, runAtMs, uniqueKey, uniqueScope, uniqueForMs, onParentFailure } = task;
  if (uniqueScope !== undefined && uniqueForMs !== undefined) {
    throw new MillraceError('INVALID_ARGUMENT', 'uniqueScope and uniqueForMs were both given: give one of them');
  }
  if (uniqueKey === undefined && (uniqueScope ?? uniqueForMs) !== undefined) {
    throw new MillraceError(
      'INVALID_ARGUMENT',
      'uniqueScope and uniqueForMs say how long a uniqueKey is held: give one',
    );
  }
  const scope = uniqueForMs === undefined ? (uniqueScope ?? 'unfinished') : { forMs: uniqueForMs };
  return {
    ...taskOptionsOf(task),
    delayMs,
    runAt: runAtMs,
    uniqueKey: uniqueKey === undefined ? undefined : { key: uniqueKey, scope },
    onParentFailure,
  };
}

export function taskOptionsOf(task: TaskOptions & Pick<EnqueueOptions, 'headers'>): typeof task {
  const { queue, priority, maxAttempts, timeoutMs, backoff, concurrencyKey, headers } = task;
  return { queue, priority, maxAttempts, timeoutMs, backoff, concurrencyKey, headers };
}

/** Of the tasks that it depends on. */
export function parentIdsOf({ dependsOn = [] }: NewTask): string[] {
  return dependsOn.map((parent) => (typeof parent === 'string' ? parent : parent.id));
}

type Parents = { task: string; onFailure: OnParentFailure | undefined }[];

export function parentsOf({ dependsOn }: NewTask): Parents | undefined {
  return dependsOn?.map((parent) =>
    typeof parent === 'string'
      ? { task: parent, onFailure: undefined }
      : { task: parent.id, onFailure: parent.onFailure },
  );
}

/** `text`: the task as it was written. Rejects like `Client.enqueue`. */
export async function enqueueNew(client: Client, task: NewTask, text: string): Promise<SubmittedTask> {
  const options = { ...optionsOf(task), dependsOn: parentsOf(task) };
  const { id, isNew } = await client.enqueue(task.name, inputOf(task, text), options);
  return { id, isNew };
}
