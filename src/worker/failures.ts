import type { TaskError } from '../broker/contract.ts';
import { type ErrorCode, MillraceError } from '../errors.ts';
import { checkInteger, LIMITS } from '../limits.ts';
import { boundedError } from '../task/bounded-error.ts';

/** Handlers may import another copy of this package than the worker: classes differ between copies, these do not. */
const FATAL = Symbol.for('millrace.FatalTaskError');
const LATER = Symbol.for('millrace.RetryLater');

/** Thrown by a handler: the task is dead now, however many attempts it has left. */
export class FatalTaskError extends Error {
  override readonly name: string = 'FatalTaskError';

  static {
    Object.defineProperty(FatalTaskError.prototype, FATAL, { value: true });
  }
}

/** Thrown by a handler: the attempt failed, and the next begins after `delayMs` instead of the backoff. */
export class RetryLater extends Error {
  override readonly name: string = 'RetryLater';
  readonly delayMs: number;

  static {
    Object.defineProperty(RetryLater.prototype, LATER, { value: true });
  }

  /** `delayMs`: 0 to 366 days. Throws INVALID_ARGUMENT. */
  constructor(delayMs: number, message = `again in ${delayMs} ms`, options?: ErrorOptions) {
    super(message, options);
    checkInteger('RetryLater’s delayMs', delayMs, 0, LIMITS.delayMsMax);
    this.delayMs = delayMs;
  }
}

/** Our checks around a handler failed, not the handler: another attempt would end the same. */
export class PayloadRefused extends Error {}

/** What becomes of a task whose handler threw. */
export type Ending =
  | { readonly kind: 'again' }
  | { readonly kind: 'fatal' }
  | { readonly kind: 'later'; readonly delayMs: number }
  | { readonly kind: 'refused'; readonly cause: unknown };

const ENDING_AGAIN: Ending = { kind: 'again' };

/** Never throws, though a Proxy may when it is only looked at. */
export function endingOf(thrown: unknown): Ending {
  try {
    if (!(thrown instanceof Error)) return ENDING_AGAIN;
    if (thrown instanceof PayloadRefused) return { kind: 'refused', cause: thrown.cause };
    if (FATAL in thrown) return { kind: 'fatal' };
    if (!(LATER in thrown)) return ENDING_AGAIN;
    const { delayMs } = thrown as unknown as RetryLater;
    checkInteger('RetryLater’s delayMs', delayMs, 0, LIMITS.delayMsMax);
    return { kind: 'later', delayMs };
  } catch {
    return ENDING_AGAIN;
  }
}

const CAUSES_SHOWN = 3;

/** Whatever was thrown, as it is stored and shown. An error of ours keeps its code, unless the handler threw it. */
export function describeThrown(thrown: unknown, code: ErrorCode): TaskError {
  try {
    const ours = thrown instanceof MillraceError && code !== 'HANDLER_FAILED';
    if (thrown instanceof Error) return describeError(thrown, ours ? thrown.code : code);
    return boundedError({ name: 'Error', message: describeValue(thrown), code });
  } catch {
    return { name: 'Error', message: 'the handler threw something that cannot be shown', code };
  }
}

function describeError(error: Error, code: ErrorCode): TaskError {
  const described = { name: String(error.name), message: String(error.message), code };
  const stack = describeStack(error);
  return boundedError(stack === '' ? described : { ...described, stack });
}

function describeStack(error: Error): string {
  let text = typeof error.stack === 'string' ? error.stack : '';
  let { cause } = error;
  for (let depth = 0; depth < CAUSES_SHOWN && cause !== undefined; depth++) {
    const inner = cause instanceof Error ? cause : undefined;
    text += `\ncaused by: ${inner?.stack ?? inner?.message ?? describeValue(cause)}`;
    cause = inner?.cause;
  }
  return text;
}

function describeValue(value: unknown): string {
  if (typeof value === 'string') return value;
  if (typeof value === 'object' && value !== null) {
    const { message } = value as { message?: unknown };
    return typeof message === 'string' ? message : `the handler threw ${JSON.stringify(value)}`;
  }
  return `the handler threw ${String(value)}`;
}
