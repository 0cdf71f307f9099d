/**
 * Every failure that a caller can meet has a code from this file. A message says what was tried, the value, the bound
 * and the way out. A broken invariant of our own is an `InvariantError` instead: nobody should catch it.
 */

/** What a code means, and whether the same call may simply be made again. */
export const ERROR_CODES = {
  // What the caller gave
  INVALID_ARGUMENT: { retryable: false, meaning: 'a value is outside its documented bounds' },
  INVALID_PAYLOAD: { retryable: false, meaning: 'a payload or result cannot be encoded or does not match its schema' },
  KEY_MISSING: { retryable: true, meaning: 'a payload or result is encrypted with a key that is not in the key ring' },
  DECRYPTION_FAILED: {
    retryable: false,
    meaning: 'an encrypted payload or result was changed, or is not of this task',
  },
  NOT_ENCRYPTED: {
    retryable: false,
    meaning: 'a payload or result is not encrypted, and only encrypted ones are taken',
  },
  PAYLOAD_TOO_LARGE: { retryable: false, meaning: 'a payload, result or frame is over its limit' },
  UNSUPPORTED: { retryable: false, meaning: 'this backend cannot do that; the message names the way out' },
  NOT_FOUND: { retryable: false, meaning: 'no such task or queue, or it is no longer retained' },
  CONFLICT: { retryable: false, meaning: 'the task, or the batch, is in a state that does not allow this' },
  UNAUTHENTICATED: { retryable: false, meaning: 'one side does not accept who the other says it is' },
  FORBIDDEN: { retryable: false, meaning: 'who asked may not do that' },
  HANDLERS: { retryable: false, meaning: 'a module of handlers cannot be loaded, or exports none' },
  // How a task ended, as seen by result()
  TASK_DEAD: { retryable: false, meaning: 'the task failed for good; the last error is the cause' },
  TASK_CANCELLED: { retryable: false, meaning: 'the task was cancelled or purged' },
  // How an attempt ended
  HANDLER_FAILED: { retryable: true, meaning: 'the handler threw or rejected' },
  NO_HANDLER: { retryable: true, meaning: 'the worker has no handler for this task name' },
  TASK_TIMEOUT: { retryable: true, meaning: 'the attempt ran longer than the task’s timeoutMs' },
  THREAD_CRASHED: {
    retryable: true,
    meaning: 'the worker thread that ran the attempt ended: an exit, an uncaught error, no memory',
  },
  WORKER_LOST: { retryable: true, meaning: 'the worker died or lost its connection during the attempt' },
  LEASE_LOST: { retryable: false, meaning: 'the task is no longer leased to this worker under this token' },
  // The server's state
  DISK_FULL: { retryable: true, meaning: 'no room for new tasks; completions are still taken' },
  QUEUE_FULL: {
    retryable: true,
    meaning: 'a queue, or the server, holds as many tasks, queues or schedules as it may',
  },
  STOPPING: { retryable: true, meaning: 'the server or client is stopping and takes no new work' },
  STORAGE_FAILED: {
    retryable: false,
    meaning: 'a read, write or sync failed; after a write, nothing more is confirmed',
  },
  CONNECTION_LIMIT: { retryable: true, meaning: 'the server has as many connections as it may' },
  // The wire
  PROTOCOL: { retryable: false, meaning: 'the other side sent something that is not a valid frame' },
  PROTOCOL_VERSION: { retryable: false, meaning: 'client and server speak different protocol versions' },
  TOO_SLOW: {
    retryable: true,
    meaning: 'the client left more unread, or unfinished, than the server keeps for it, and was cut off',
  },
  HANDSHAKE_TIMEOUT: { retryable: true, meaning: 'the connection did not say HELLO in time' },
  // The client's waits
  TIMEOUT: { retryable: true, meaning: 'the wait ended before the answer came; the outcome is unknown' },
  DISCONNECTED: { retryable: true, meaning: 'no connection, and reconnecting was given up or not wanted' },
  BUFFER_FULL: { retryable: true, meaning: 'too much is waiting unconfirmed in this client' },
  CLOSED: { retryable: false, meaning: 'this client, worker or journal was closed' },
  // The journal
  DIRECTORY_LOCKED: { retryable: true, meaning: 'another process has this data directory open' },
  JOURNAL_DAMAGED: { retryable: false, meaning: 'a record in the middle of the journal is damaged: repair it' },
  JOURNAL_VERSION: { retryable: false, meaning: 'the journal was written by a newer version' },
  JOURNAL_UNUSABLE: { retryable: false, meaning: 'the data directory cannot be read or written' },
  STORE_VERSION: { retryable: false, meaning: 'the tables of the store were made by a newer version' },
  ADDRESS_IN_USE: { retryable: true, meaning: 'the port is taken' },
} as const satisfies Record<string, { retryable: boolean; meaning: string }>;

export type ErrorCode = keyof typeof ERROR_CODES;

/** The one error class that the public API throws. Tell kinds apart by `code`. */
export class MillraceError extends Error {
  override readonly name = 'MillraceError';
  readonly code: ErrorCode;
  /** Machine-readable particulars: the value, the bound, ids. */
  readonly details: Readonly<Record<string, unknown>>;

  constructor(code: ErrorCode, message: string, options: { cause?: unknown; details?: Record<string, unknown> } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.details = options.details ?? {};
  }

  /** True when making the same call again can succeed without changing it. */
  get retryable(): boolean {
    return ERROR_CODES[this.code].retryable;
  }

  toJSON(): { code: ErrorCode; message: string; details: Readonly<Record<string, unknown>> } {
    return { code: this.code, message: this.message, details: this.details };
  }
}

/** For whatever is asked of a client after its `close`, or waits then. */
export function clientClosed(): MillraceError {
  return new MillraceError('CLOSED', 'the client was closed: connect again for a new one');
}

const SHOWN_CHARACTERS_MAX = 200;

/** What was given, for a message: short, however long or deep it is. Never throws. */
export function shown(value: unknown): string {
  switch (typeof value) {
    case 'string':
      return value.length <= SHOWN_CHARACTERS_MAX
        ? JSON.stringify(value)
        : `${JSON.stringify(cutText(value))} (${value.length} characters)`;
    case 'function':
      return 'a function';
    case 'object':
      if (value === null) return 'null';
      return isList(value) ? 'an array' : 'an object';
    default:
      return cutText(String(value));
  }
}

/** What was given, for details: itself when it is a number or a short text. */
export function shownValue(value: unknown): unknown {
  if (typeof value === 'string') return cutText(value);
  if (typeof value === 'number' || typeof value === 'boolean' || value === undefined || value === null) return value;
  return shown(value);
}

function cutText(text: string): string {
  return text.length <= SHOWN_CHARACTERS_MAX ? text : `${text.slice(0, SHOWN_CHARACTERS_MAX)}…`;
}

/** A revoked Proxy cannot even be asked. */
function isList(value: object): boolean {
  try {
    return Array.isArray(value);
  } catch {
    return false;
  }
}

/**
 * A password in a URL, whoever wrote the text, is never shown; also one with characters that a URL would have encoded. A quote
 * is part of it if the end of it follows, and not another value of a JSON text.
 */
export function redact(text: string): string {
  return text
    .replaceAll(/(\b[a-z][a-z0-9+.-]*:\/\/[^\s/:@"']*):(?:[^\s"']|["'](?=[^\s/,}]{0,200}@))*@/gi, '$1:***@')
    .replaceAll(/([?&](?:password|passwd|token|secret|sslpassword)=)[^\s&"]*/gi, '$1***');
}

/** Rebuilds an error that crossed the wire. An unknown code (a newer server) is kept in the message. */
export function errorFromJSON(value: { code?: unknown; message?: unknown; details?: unknown }): MillraceError {
  const message = typeof value.message === 'string' ? value.message : 'no message';
  const details = typeof value.details === 'object' && value.details !== null ? { ...value.details } : {};
  if (typeof value.code === 'string' && Object.hasOwn(ERROR_CODES, value.code)) {
    return new MillraceError(value.code as ErrorCode, message, { details });
  }
  return new MillraceError('PROTOCOL', `${shown(value.code)}: ${message}`, { details });
}

/** A defect in Millrace itself. */
export class InvariantError extends Error {
  override readonly name = 'InvariantError';
}

export function invariant(condition: boolean, message: string): asserts condition {
  if (!condition) throw new InvariantError(message);
}
