import { OpenAPIHono, type z } from '@hono/zod-openapi';
import type { Broker } from '../broker/contract.ts';
import type { Client } from '../client/client.ts';
import { MillraceError } from '../errors.ts';

/** What the routes need. */
export interface HttpWorld {
  /** Of any backend: in the server, the one in this process. */
  readonly broker: Broker;
  /** Over the same broker, for what it checks and encodes. */
  readonly client: Client;
  /** Whether payloads, results and the texts of errors may be shown. */
  readonly showPayloads: boolean;
  /** Called when the server stops, while it still answers; it goes on when that has resolved. */
  readonly onStop: (stop: (options: { timeoutMs: number }) => Promise<void>) => void;
  /** One line for the log. */
  readonly onNotice: (level: 'info' | 'warn', message: string) => void;
}

export type Role = 'read' | 'operate';

/** What the middleware has found out about a request. */
export interface HttpEnv {
  Variables: { role: Role };
}

export type HttpApp = OpenAPIHono<HttpEnv>;

/** An app, or a part of it, whose requests are checked by their schemas: what does not fit is INVALID_ARGUMENT. */
export function newApp(): HttpApp {
  return new OpenAPIHono<HttpEnv>({
    defaultHook: (result) => {
      if (!result.success) throw misfit(result.error);
    },
  });
}

/** For what the schemas of the routes do not check. Throws INVALID_ARGUMENT. */
export function parseAs<Schema extends z.ZodType>(schema: Schema, value: unknown): z.output<Schema> {
  const result = schema.safeParse(value);
  if (!result.success) throw misfit(result.error);
  return result.data;
}

function misfit(error: z.ZodError): MillraceError {
  const issues = error.issues.map(({ path, message }) => ({ path: path.join('.'), message }));
  const [first] = issues;
  const where = first === undefined || first.path === '' ? '' : `${first.path}: `;
  return new MillraceError('INVALID_ARGUMENT', `the request does not fit: ${where}${first?.message ?? ''}`, {
    details: { issues },
  });
}
