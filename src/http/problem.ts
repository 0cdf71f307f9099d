import type { ContentfulStatusCode } from 'hono/utils/http-status';
import { ERROR_CODES, type ErrorCode, MillraceError } from '../errors.ts';

/** The body of every answer that is an error: RFC 9457, with our code and whether the same request may be made again. */
export interface Problem {
  /** `urn:millrace:error:` and the code. */
  type: string;
  /** What the code means, the same for all errors with it. */
  title: string;
  status: number;
  /** What was tried, the value, the bound and the way out. */
  detail: string;
  code: ErrorCode | 'INTERNAL';
  retryable: boolean;
  details: Readonly<Record<string, unknown>>;
}

export const PROBLEM_TYPE = 'application/problem+json';

const STATUS = {
  INVALID_ARGUMENT: 400,
  INVALID_PAYLOAD: 400,
  PAYLOAD_TOO_LARGE: 413,
  UNSUPPORTED: 501,
  NOT_FOUND: 404,
  CONFLICT: 409,
  LEASE_LOST: 409,
  UNAUTHENTICATED: 401,
  FORBIDDEN: 403,
  QUEUE_FULL: 429,
  BUFFER_FULL: 429,
  DISK_FULL: 507,
  STOPPING: 503,
  CONNECTION_LIMIT: 503,
  DISCONNECTED: 503,
  CLOSED: 503,
  TIMEOUT: 504,
} as const satisfies Partial<Record<ErrorCode, ContentfulStatusCode>>;

export function statusOf(code: ErrorCode): ContentfulStatusCode {
  return Object.hasOwn(STATUS, code) ? STATUS[code as keyof typeof STATUS] : 500;
}

/** What is no error of ours is a defect: whoever asked is told no more than that. */
export function toProblem(error: unknown): Problem & { status: ContentfulStatusCode } {
  if (!(error instanceof MillraceError)) {
    return {
      type: 'urn:millrace:error:INTERNAL',
      title: 'a defect in Millrace',
      status: 500,
      detail: 'the request met a defect; the server’s log says more',
      code: 'INTERNAL',
      retryable: false,
      details: {},
    };
  }
  const { code, message, retryable, details } = error;
  return {
    type: `urn:millrace:error:${code}`,
    title: ERROR_CODES[code].meaning,
    status: statusOf(code),
    detail: message,
    code,
    retryable,
    details,
  };
}

export function problemResponse(error: unknown): Response {
  const problem = toProblem(error);
  const headers = new Headers({ 'content-type': PROBLEM_TYPE, 'cache-control': 'no-store' });
  // What makes a browser ask for a name and its secret.
  if (problem.code === 'UNAUTHENTICATED') headers.set('www-authenticate', 'Basic realm="Millrace", charset="UTF-8"');
  // The rest of a body that is too large is not read: nothing more comes over this connection.
  if (problem.status === 413) headers.set('connection', 'close');
  return new Response(JSON.stringify(problem), { status: problem.status, headers });
}
