import type { Broker, Outcome, TaskError, TaskIds, TaskInfo } from '../broker/contract.ts';
import { MillraceError, shown } from '../errors.ts';
import { checkInteger, DEFAULTS, LIMITS } from '../limits.ts';
import { decodeResult } from '../task/codec.ts';
import type { TaskFormat } from '../task/handler.ts';
import { checkKeys } from '../task/options.ts';
import { validate } from '../task/schema.ts';

export interface ResultOptions {
  /** How long to wait for the task's end; 1 ms to 7 days. Default 30,000. */
  timeoutMs?: number | undefined;
  /** Ends the wait, not the task; `result` then rejects with its reason. */
  signal?: AbortSignal | undefined;
}

/** A task that was enqueued, by its id. */
export class Task<Result = unknown> {
  readonly id: string;
  /** False: the enqueue met a task with the same unique key, and this is that one. */
  readonly isNew: boolean;
  readonly #broker: Broker;
  readonly #format: TaskFormat | undefined;

  constructor(broker: Broker, id: string, format: TaskFormat | undefined, isNew = true) {
    this.isNew = isNew;
    this.#broker = broker;
    this.id = id;
    this.#format = format;
  }

  /**
   * What the handler returned. Rejects with TASK_DEAD (its `cause` is the last attempt's error), TASK_CANCELLED, TIMEOUT,
   * NOT_FOUND, CLOSED, INVALID_PAYLOAD (not JSON, or not what the definition says), KEY_MISSING, DECRYPTION_FAILED,
   * NOT_ENCRYPTED (see `ClientOptions.encryption`), or the signal's reason.
   */
  async result(options: ResultOptions = {}): Promise<Result> {
    checkKeys('result', options, ['timeoutMs', 'signal']);
    const timeoutMs = options.timeoutMs ?? DEFAULTS.resultTimeoutMs;
    checkInteger('timeoutMs', timeoutMs, 1, LIMITS.timeoutMsMax);
    if (options.signal !== undefined && !(options.signal instanceof AbortSignal)) {
      throw new MillraceError('INVALID_ARGUMENT', `signal must be an AbortSignal, not ${shown(options.signal)}`);
    }
    const { signal } = options;
    const outcome = await this.#broker.outcome(this.id, { timeoutMs, signal, name: this.#format?.name });
    const value = decodeResult(completedResult(this.id, outcome), this.#format?.result ?? 'json');
    const output = this.#format?.output;
    return (output === undefined ? value : await validate(output, value, `the result of task ${this.id}`)) as Result;
  }

  /** Rejects with NOT_FOUND when the task is no longer retained. */
  info(): Promise<TaskInfo> {
    return this.#broker.getTask(this.id);
  }

  /** `cancelled`: it is. `requested`: it runs, and its handler was told. Rejects NOT_FOUND, CONFLICT (it has ended). */
  cancel(): Promise<'cancelled' | 'requested'> {
    return this.#broker.cancelTask(this.id);
  }

  /** A dead task becomes ready again with fresh attempts; a scheduled one becomes ready now. Rejects NOT_FOUND, CONFLICT. */
  retry(): Promise<void> {
    return this.#broker.retryTask(this.id);
  }
}

function completedResult(id: string, outcome: Outcome): Uint8Array | undefined {
  switch (outcome.state) {
    case 'completed':
      return outcome.result;
    case 'cancelled':
      throw new MillraceError('TASK_CANCELLED', `task ${id} was cancelled`, { details: { id } });
    case 'dead': {
      const { error } = outcome;
      const message = `task ${id} is dead: ${error.name}: ${error.message}`;
      throw new MillraceError('TASK_DEAD', message, { cause: rebuild(error), details: { id, code: error.code } });
    }
    default:
      return outcome satisfies never;
  }
}

/** The handler's error as far as it was stored. */
function rebuild(stored: TaskError): Error {
  const error = new Error(stored.message);
  error.name = stored.name;
  if (stored.stack !== undefined) error.stack = stored.stack;
  return Object.assign(error, { code: stored.code });
}

/** Tasks that were enqueued together. */
export class TaskBatch<Result = unknown> implements Iterable<Task<Result>> {
  readonly ids: TaskIds;
  readonly #broker: Broker;
  readonly #format: TaskFormat | undefined;

  constructor(broker: Broker, ids: TaskIds, format: TaskFormat | undefined) {
    this.#broker = broker;
    this.ids = ids;
    this.#format = format;
  }

  get length(): number {
    return this.ids.length;
  }

  /** Throws INVALID_ARGUMENT outside 0 … length-1. */
  at(index: number): Task<Result> {
    return new Task(this.#broker, this.ids.at(index), this.#format);
  }

  /** All results, in order; rejects like `Task.result` with the first that fails. */
  results(options: ResultOptions = {}): Promise<Result[]> {
    return Promise.all(Array.from(this, (task) => task.result(options)));
  }

  *[Symbol.iterator](): Iterator<Task<Result>> {
    for (const id of this.ids) yield new Task(this.#broker, id, this.#format);
  }
}
