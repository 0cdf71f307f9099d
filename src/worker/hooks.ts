import { types } from 'node:util';
import type { DeliveryRun } from '../broker/contract.ts';
import { MillraceError, shown } from '../errors.ts';
import { checkKeys } from '../task/options.ts';
import type { Logger } from './options.ts';

/** One attempt, as a hook sees it. */
export interface AttemptInfo {
  readonly id: string;
  readonly name: string;
  readonly queue: string;
  /** 1 for the first. */
  readonly attempt: number;
  readonly maxAttempts: number;
  readonly enqueuedAt: Date;
}

/**
 * Called as a worker goes on, for metrics, traces and alerts; for batch handlers once for each task. A hook is not waited
 * for, and changes nothing: what it throws, or rejects with, is logged, without a logger as a process warning.
 *
 * They tell what this worker saw. An attempt whose lease was lost ends with no hook, and a task whose worker was lost for
 * good dies on the server.
 */
export interface WorkerHooks {
  /** The handler is about to be called. Its payload may still turn out not to match its schema. */
  onStart?: ((task: AttemptInfo) => unknown) | undefined;
  /** `result` is what the handler returned. */
  onComplete?: ((task: AttemptInfo, result: unknown) => unknown) | undefined;
  /** An attempt failed, the last one too; `error` is what the handler threw, or a MillraceError (a timeout, a payload refused). */
  onFail?: ((task: AttemptInfo, error: unknown) => unknown) | undefined;
  /** After `onFail` when no attempt follows. */
  onDead?: ((task: AttemptInfo, error: unknown) => unknown) | undefined;
}

const KEYS = ['onStart', 'onComplete', 'onFail', 'onDead'] as const;

/** Throws INVALID_ARGUMENT. */
export function checkHooks(hooks: WorkerHooks | undefined): void {
  if (hooks === undefined) return;
  checkKeys('hooks', hooks, KEYS);
  for (const key of KEYS) {
    const hook: unknown = hooks[key];
    if (hook === undefined || typeof hook === 'function') continue;
    throw new MillraceError('INVALID_ARGUMENT', `the hook ${key} must be a function, not ${shown(hook)}`);
  }
}

/** Told what becomes of attempts, as it happens; each only where somebody wants to know. */
export interface AttemptHooks {
  /** The handler is about to be called. */
  readonly started: ((run: DeliveryRun, from: number, length: number) => void) | undefined;
  readonly completed: ((run: DeliveryRun, index: number, result: unknown) => void) | undefined;
  readonly failed: ((run: DeliveryRun, index: number, error: unknown, isLast: boolean) => void) | undefined;
}

/** Calls a worker's hooks. */
export class Hooks implements AttemptHooks {
  readonly started: AttemptHooks['started'];
  readonly completed: AttemptHooks['completed'];
  readonly failed: AttemptHooks['failed'];
  readonly #logger: Logger | undefined;

  constructor({ onStart, onComplete, onFail, onDead }: WorkerHooks, logger: Logger | undefined) {
    this.#logger = logger;
    if (onStart !== undefined) {
      this.started = (run, from, length) => {
        for (let index = from; index < from + length; index++) this.#call('onStart', () => onStart(infoOf(run, index)));
      };
    }
    if (onComplete !== undefined) {
      this.completed = (run, index, result) => this.#call('onComplete', () => onComplete(infoOf(run, index), result));
    }
    if (onFail === undefined && onDead === undefined) return;
    this.failed = (run, index, error, isLast) => {
      if (onFail !== undefined) this.#call('onFail', () => onFail(infoOf(run, index), error));
      if (isLast && onDead !== undefined) this.#call('onDead', () => onDead(infoOf(run, index), error));
    };
  }

  #call(name: string, hook: () => unknown): void {
    try {
      const returned = hook();
      if (types.isPromise(returned)) returned.catch((error: unknown) => this.#threw(name, error));
    } catch (error) {
      this.#threw(name, error);
    }
  }

  #threw(name: string, error: unknown): void {
    const message = `the hook ${name} threw; its task goes on as if it had not`;
    if (this.#logger !== undefined) this.#logger.error({ err: error }, message);
    else process.emitWarning(`${message}: ${shown(messageOf(error))}`, 'MillraceWarning');
  }
}

/** Each is called for both, if both have it; what the second returns counts. */
export function bothHooks(first: WorkerHooks | undefined, second: WorkerHooks | undefined): WorkerHooks | undefined {
  if (first === undefined || second === undefined) return first ?? second;
  const both = <Args extends unknown[]>(
    one: ((...args: Args) => unknown) | undefined,
    other: ((...args: Args) => unknown) | undefined,
  ): ((...args: Args) => unknown) | undefined => {
    if (one === undefined || other === undefined) return one ?? other;
    return (...args) => {
      one(...args);
      return other(...args);
    };
  };
  return {
    onStart: both(first.onStart, second.onStart),
    onComplete: both(first.onComplete, second.onComplete),
    onFail: both(first.onFail, second.onFail),
    onDead: both(first.onDead, second.onDead),
  };
}

export function infoOf(run: DeliveryRun, index: number): AttemptInfo {
  const { name, queue, maxAttempts } = run.spec;
  return {
    id: run.id(index),
    name,
    queue,
    attempt: run.attempt,
    maxAttempts,
    enqueuedAt: new Date(run.enqueuedAtMs),
  };
}

function messageOf(error: unknown): unknown {
  return error instanceof Error ? error.message : error;
}
