import { z } from '@hono/zod-openapi';
import { LIMITS } from '../limits.ts';

/** The parts that several routes share. Shapes of answers are those of src/broker/contract.ts. */
export const QueueName = z.string().min(1).max(LIMITS.queueNameBytesMax).openapi({ example: 'default' });

export const QueueParams = z.object({ queue: QueueName.openapi({ param: { name: 'queue', in: 'path' } }) });

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
