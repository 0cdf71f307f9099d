import { MillraceError } from '../../errors.ts';
import { tlsReason } from '../../io/tls.ts';
import { RAISED } from './relations-schema.ts';
import type { Settings } from './settings.ts';

/**
 * What went wrong, as far as it decides what to do next:
 *
 * - `away`: the server cannot be reached, is starting or stopping, or the connection broke in the middle of a statement,
 *   whose outcome is unknown then. Try again until the connect timeout is over.
 * - `clash`: the transaction was rolled back because of another one. Try again at once.
 * - `refused`: everything else. Tell the caller.
 */
export type Trouble = 'away' | 'clash' | 'refused';

const AWAY_CODES = new Set([
  // The socket
  ...['ECONNREFUSED', 'ECONNRESET', 'ECONNABORTED', 'EPIPE', 'ENOTFOUND', 'EAI_AGAIN', 'ETIMEDOUT', 'EHOSTUNREACH'],
  ...['ENETUNREACH', 'EHOSTDOWN', 'ENOENT', 'ERR_STREAM_DESTROYED', 'ERR_STREAM_WRITE_AFTER_END'],
  // The driver
  ...['CONNECTION_CLOSED', 'CONNECTION_ENDED', 'CONNECTION_DESTROYED', 'CONNECT_TIMEOUT', 'STATEMENT_TIMEOUT'],
  // The server: going down, crashed, starting, idle for too long, too many clients, a standby after a switch
  ...['57P01', '57P02', '57P03', '57P05', '53300', '25006'],
]);

/** By our own functions, in our own words. */
const RAISED_CODES = new Map<string, 'NOT_FOUND' | 'QUEUE_FULL' | 'TIMEOUT'>([
  [RAISED.NOT_FOUND, 'NOT_FOUND'],
  [RAISED.QUEUE_FULL, 'QUEUE_FULL'],
  [RAISED.TIMEOUT, 'TIMEOUT'],
]);

/**
 * Of our own tables. What one of these refuses is no value's fault: rows or sequences were restored from different times, say,
 * and every task would be refused alike until somebody has mended that.
 */
export const OWN_CONSTRAINTS: ReadonlySet<string> = new Set([
  ...['cancels_pkey', 'dependents_pkey', 'edges_parent', 'edges_pkey', 'ended_pkey', 'held_pkey', 'kinds_pkey'],
  ...['kinds_queue_no_fkey', 'kinds_queue_no_name_priority_max_attempts_timeout_ms_backof_key', 'migrations_pkey'],
  ...['outbox_pkey', 'queues_name_key', 'queues_pkey', 'schedules_kind_no_fkey', 'schedules_pkey', 'supervisors_pkey'],
  ...['tasks_id', 'tombstones_pkey', 'totals_pkey', 'unique_keys_pkey', 'watches_pkey'],
  ...['workers_id_key', 'workers_pkey'],
]);

const CLASH_CODES = new Set(['40001', '40P01', '55P03']);

export function troubleOf(error: unknown): Trouble {
  const code = codeOf(error);
  if (AWAY_CODES.has(code) || code.startsWith('08')) return 'away';
  return CLASH_CODES.has(code) ? 'clash' : 'refused';
}

/** A statement that has not answered in its time; its connection is given up. */
export function statementTimeout(timeoutMs: number): Error {
  return Object.assign(new Error(`no answer within ${timeoutMs} ms`), { code: 'STATEMENT_TIMEOUT' });
}

/** Between two statements of a transaction. */
export function connectionLost(): Error {
  return Object.assign(new Error('the connection was lost'), { code: 'CONNECTION_CLOSED' });
}

export function disconnected(settings: Settings, cause: unknown): MillraceError {
  return new MillraceError(
    'DISCONNECTED',
    `PostgreSQL at ${settings.place} could not be reached for ${settings.connectTimeoutMs} ms: ${reasonOf(cause)}${hintOf(settings, cause)}`,
    { cause: reduced(cause), details: { place: settings.place, timeoutMs: settings.connectTimeoutMs } },
  );
}

function hintOf({ ssl }: Settings, cause: unknown): string {
  if (ssl === false || !/before secure TLS connection/.test(reasonOf(cause))) return '';
  return '; it may not speak TLS: set ssl there, or leave sslmode out of the URL';
}

/** What the caller is told of a failure that trying again does not heal. */
export function typed(settings: Settings, error: unknown): unknown {
  if (error instanceof MillraceError) return error;
  const code = codeOf(error);
  const raised = RAISED_CODES.get(code);
  if (raised !== undefined) return new MillraceError(raised, reasonOf(error));
  const { place, schema } = settings;
  const reason = reasonOf(error);
  const options = { cause: reduced(error), details: { place, sqlState: code } };
  const tls = error instanceof Error ? tlsReason(error) : undefined;
  if (tls !== undefined) {
    return new MillraceError(tls.code, `PostgreSQL at ${place} ${tls.message}`, { cause: options.cause });
  }
  if (code === '28P01' || code === '28000' || code === 'SASL_SIGNATURE_MISMATCH' || code.startsWith('AUTH_TYPE')) {
    const message = `PostgreSQL at ${place} does not let us in: ${reason}; look at the user, the password and pg_hba.conf`;
    return new MillraceError('DISCONNECTED', message, options);
  }
  if (code === '3D000') {
    const message = `PostgreSQL at ${place} has no such database: ${reason}; create it, or correct the URL of the store`;
    return new MillraceError('DISCONNECTED', message, options);
  }
  if (code === '42501') {
    const message = `PostgreSQL at ${place} does not allow that: ${reason}; the user needs CREATE on the database once, and then to own the schema ${schema}`;
    return new MillraceError('STORAGE_FAILED', message, options);
  }
  if (code === '53100') {
    return new MillraceError('DISK_FULL', `PostgreSQL at ${place} has no room left: ${reason}`, options);
  }
  if (code === '42P01' || code === '3F000') {
    const message = `PostgreSQL at ${place} has lost tables of the schema ${schema}: ${reason}; connect again to make them anew`;
    return new MillraceError('STORAGE_FAILED', message, options);
  }
  if (isAboutValue(code, error)) {
    const message = `PostgreSQL at ${place} takes no such value: ${reason} (${code})`;
    return new MillraceError('INVALID_ARGUMENT', message, options);
  }
  // What has no code is a defect in this program: the stack says more than a translation.
  if (code === '') return error;
  return new MillraceError('STORAGE_FAILED', `PostgreSQL at ${place} refused: ${reason} (${code})`, options);
}

/**
 * Whether another value would be taken: the classes of what is wrong with one, of what is more than there may be of something,
 * and what constraints and triggers refuse that somebody has added to our tables.
 */
function isAboutValue(code: string, error: unknown): boolean {
  if (code.startsWith('22') || code.startsWith('54') || code === 'P0001') return true;
  return code.startsWith('23') && !OWN_CONSTRAINTS.has((error as { constraint_name?: string }).constraint_name ?? '');
}

function codeOf(error: unknown): string {
  const code = (error as { code?: unknown } | null)?.code;
  return typeof code === 'string' ? code : '';
}

function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  // Several addresses were tried: Node gives no message for all of them.
  if (error instanceof AggregateError && error.message === '') return error.errors.map(reasonOf).join(', ');
  return error.message;
}

/** The driver's errors carry the statement and its parameters, which are the users' payloads. */
function reduced(error: unknown): unknown {
  if (!(error instanceof Error)) return error;
  const { name, message } = error;
  return Object.assign(new Error(message), { name, code: codeOf(error) });
}
