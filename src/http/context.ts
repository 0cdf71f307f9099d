import { OpenAPIHono, type z } from '@hono/zod-openapi';
import type { Grant } from '../access/grant.ts';
import type { Keyring } from '../access/keyring.ts';
import type { Broker } from '../broker/contract.ts';
import type { Client } from '../client/client.ts';
import { MillraceError } from '../errors.ts';
import type { Clock } from '../io/clock.ts';
import type { Telemetry } from '../io/telemetry.ts';
import type { Backends } from './backends.ts';
import { ISSUES_MAX } from './lists.ts';

/** What the routes need. */
export interface HttpWorld {
  /** Of any backend: in the server, the one in this process. */
  readonly broker: Broker;
  /** Over the same broker, for what it checks and encodes. */
  readonly client: Client;
  readonly clock: Clock;
  readonly access: Access;
  readonly features: Features;
  /** Of a backend in this process; without it there are no histograms. */
  readonly telemetry?: Telemetry | undefined;
  /** Whether payloads and results may be shown. */
  readonly showPayloads: boolean;
  /** Called when the server stops, while it still answers; it goes on when that has resolved. */
  readonly onStop: (stop: (options: { timeoutMs: number }) => Promise<void>) => void;
  /** One line for the log. */
  readonly onNotice: (level: 'info' | 'warn', message: string) => void;
}

/** What the backend can do; what it cannot is answered with UNSUPPORTED. */
export interface Features {
  /** Looking at tasks one by one, and searching for them. */
  readonly tasks: boolean;
  readonly events: boolean;
  readonly schedules: boolean;
  readonly limits: boolean;
}

export interface Access {
  /** Who may do what; an open one: everybody who reaches the server may do everything. */
  readonly keyring: Keyring;
  /** Names under which the server may be called beside those of this machine. */
  readonly hostNames: readonly string[];
}

/** What the routes need beside it. */
export interface Served extends HttpWorld {
  /** Which of them serves whom; `broker` and `client` are for what is done for all at once. */
  readonly backends: Backends;
}

/** What the middleware has found out about a request. */
export interface HttpEnv {
  Variables: {
    grant: Grant;
    /** The answer goes on for as long as its client likes, and is counted among its like. */
    isStream?: boolean;
  };
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

const ISSUE_CHARACTERS_MAX = 300;

type Issue = z.core.$ZodIssue;

/** Of what fits none of several shapes, what keeps it from the one that it comes nearest to. */
function leavesOf(issue: Issue): Pick<Issue, 'path' | 'message'>[] {
  if (issue.code !== 'invalid_union') return [issue];
  const branches = issue.errors.filter(
    (issues) => !issues.some(({ code, path }) => code === 'invalid_type' && path.length === 0),
  );
  const nearest = branches[0] ?? issue.errors[0] ?? [];
  const leaves = nearest.flatMap(leavesOf).map(({ path, message }) => ({ path: [...issue.path, ...path], message }));
  return leaves.length === 0 ? [issue] : leaves;
}

/** For what the schemas of the routes do not check. Throws INVALID_ARGUMENT. */
export function parseAs<Schema extends z.ZodType>(schema: Schema, value: unknown): z.output<Schema> {
  const result = schema.safeParse(value);
  if (!result.success) throw misfit(result.error);
  return result.data;
}

function misfit(error: z.ZodError): MillraceError {
  const issues = error.issues
    .slice(0, ISSUES_MAX)
    .flatMap(leavesOf)
    .slice(0, ISSUES_MAX)
    .map(({ path, message }) => ({ path: short(path.join('.')), message: short(message) }));
  const [first] = issues;
  const where = first === undefined || first.path === '' ? '' : `${first.path}: `;
  return new MillraceError('INVALID_ARGUMENT', `the request does not fit: ${where}${first?.message ?? ''}`, {
    details: { issues },
  });
}

/** Both quote what was given: names of members, of any length and number. */
function short(text: string): string {
  return text.length <= ISSUE_CHARACTERS_MAX ? text : `${text.slice(0, ISSUE_CHARACTERS_MAX)}…`;
}
