import { z } from '@hono/zod-openapi';
import type { SubmittedTask, Uniqueness } from '../broker/contract.ts';
import type { Client } from '../client/client.ts';
import { MillraceError } from '../errors.ts';
import { LIMITS } from '../limits.ts';
import type { EnqueueOptions } from '../task/options.ts';

const Ms = z.number().min(0);
const OnFailure = z.enum(['cancel', 'run', 'wait']);

/** A task to be enqueued; bounds that are not here are checked by the client. */
export const NewTask = z
  .strictObject({
    queue: z.string().optional(),
    name: z.string().openapi({ example: 'image.resize' }),
    payload: z.unknown().optional(),
    payloadBase64: z.base64().optional(),
    priority: z.int().optional(),
    maxAttempts: z.int().optional(),
    timeoutMs: z.int().optional(),
    backoff: z
      .strictObject({
        type: z.enum(['fixed', 'exponential']).optional(),
        delayMs: z.int().optional(),
        maxDelayMs: z.int().optional(),
        jitter: z.boolean().optional(),
      })
      .optional(),
    delayMs: Ms.optional(),
    runAtMs: Ms.optional(),
    concurrencyKey: z.string().optional(),
    uniqueKey: z.string().optional(),
    uniqueScope: z.enum(['waiting', 'unfinished']).optional(),
    uniqueForMs: Ms.optional(),
    dependsOn: z
      .array(z.union([z.string(), z.strictObject({ id: z.string(), onFailure: OnFailure.optional() })]))
      .max(LIMITS.dependenciesMax)
      .optional(),
  })
  .openapi('NewTask');

export type NewTask = z.output<typeof NewTask>;

/** Rejects like `Client.enqueue`. */
export async function enqueueNew(client: Client, task: NewTask): Promise<SubmittedTask> {
  const { name, payload, payloadBase64, ...rest } = task;
  if (payload !== undefined && payloadBase64 !== undefined) {
    throw new MillraceError('INVALID_ARGUMENT', 'payload and payloadBase64 were both given: give one of them');
  }
  const input = payloadBase64 === undefined ? payload : Buffer.from(payloadBase64, 'base64');
  return await client.enqueue(name, input, optionsOf(rest));
}

type Options = Omit<NewTask, 'name' | 'payload' | 'payloadBase64'>;

function optionsOf({ runAtMs, uniqueKey, uniqueScope, uniqueForMs, dependsOn, ...options }: Options): EnqueueOptions {
  const uniqueness = uniquenessOf(uniqueKey, uniqueScope, uniqueForMs);
  return {
    ...options,
    ...(runAtMs === undefined ? {} : { runAt: runAtMs }),
    ...(uniqueness === undefined ? {} : { uniqueKey: uniqueness }),
    ...(dependsOn === undefined ? {} : { dependsOn: dependsOn.map(parentOf) }),
  };
}

function parentOf(parent: NonNullable<NewTask['dependsOn']>[number]) {
  return typeof parent === 'string' ? parent : { task: parent.id, onFailure: parent.onFailure };
}

function uniquenessOf(
  key: string | undefined,
  scope: 'waiting' | 'unfinished' | undefined,
  forMs: number | undefined,
): Uniqueness | undefined {
  if (scope !== undefined && forMs !== undefined) {
    throw new MillraceError('INVALID_ARGUMENT', 'uniqueScope and uniqueForMs were both given: give one of them');
  }
  if (key !== undefined) return { key, scope: forMs === undefined ? (scope ?? 'unfinished') : { forMs } };
  if (scope === undefined && forMs === undefined) return undefined;
  throw new MillraceError(
    'INVALID_ARGUMENT',
    'uniqueScope and uniqueForMs say how long a uniqueKey is held: give that too',
  );
}
