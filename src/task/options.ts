import type { Backoff, OnParentFailure, TaskSpec, Uniqueness, When } from '../broker/contract.ts';
import { MillraceError, shown, shownValue } from '../errors.ts';
import { checkInteger, checkName, checkObject, DEFAULTS, LIMITS } from '../limits.ts';
import { didYouMean } from './suggest.ts';

export interface BackoffOptions {
  /** Default `exponential`: each pause is twice the one before. */
  type?: Backoff['type'] | undefined;
  /** The first pause; 0 to 30 days. Default 1000. */
  delayMs?: number | undefined;
  /** The longest pause; 0 to 30 days. Default 600,000 (10 minutes). */
  maxDelayMs?: number | undefined;
  /** Draws each pause from its upper half, so that what failed together does not come back together. Default true. */
  jitter?: boolean | undefined;
}

/** What may be said with a definition and changed with each enqueue. */
export interface TaskOptions {
  /** 1 to 128 bytes. Default `default`. */
  queue?: string | undefined;
  /** 0 to 9, higher first. Default 4. */
  priority?: number | undefined;
  /** How often the task is tried, the first time included; 1 to 1000. Default 3. */
  maxAttempts?: number | undefined;
  /** How long one attempt may run; 10 ms to 7 days. Default 1,800,000 (30 minutes). */
  timeoutMs?: number | undefined;
  /** The pause before another attempt. */
  backoff?: BackoffOptions | undefined;
  /**
   * Tasks of a queue with different keys take turns, so that none waits for another's having more; 1 to 128 bytes. How many of
   * one key run at the same time: `client.queue(name).limit({ concurrencyPerKey })`.
   */
  concurrencyKey?: string | undefined;
}

/** A task as others refer to it: its id, or what an enqueue gave. */
export type TaskRef = string | { readonly id: string };

/** A task that must have ended first, perhaps with what becomes of the child when it did not complete. */
export type ParentRef<Ref = TaskRef> = Ref | { readonly task: Ref; readonly onFailure?: OnParentFailure | undefined };

export interface RelationOptions<Ref = TaskRef> {
  /** Starts when all of these have ended; at most 65,535. The handler reads their results with `ctx.parents()`. */
  dependsOn?: ParentRef<Ref> | readonly ParentRef<Ref>[] | undefined;
  /** What becomes of the task when one of those ends dead or cancelled. Default `cancel`. */
  onParentFailure?: OnParentFailure | undefined;
  /**
   * At most one such task of the queue at a time: an enqueue that meets another gives that one (`task.isNew` is false). A
   * text is a key with the scope `unfinished`. Keys are 1 to 128 bytes, `forMs` is 1 ms to 366 days.
   */
  uniqueKey?: string | Uniqueness | undefined;
}

export interface EnqueueOptions extends TaskOptions, RelationOptions {
  /** Starts no sooner than so many milliseconds after the server took it; at most 366 days. */
  delayMs?: number | undefined;
  /** Starts no sooner than this moment: a Date, or milliseconds since 1970. One in the past means now. */
  runAt?: Date | number | undefined;
  /**
   * Short texts that travel with the task to its handler (`ctx.headers`), over all its attempts: a tenant, a locale, the context
   * of a trace. At most 32, of together 4 KiB; names are 1 to 128 bytes, and neither they nor values have control characters.
   */
  headers?: Readonly<Record<string, string | undefined>> | undefined;
}

const TASK_KEYS = ['queue', 'priority', 'maxAttempts', 'timeoutMs', 'backoff', 'concurrencyKey'] as const;
export const RELATION_KEYS = ['dependsOn', 'onParentFailure', 'uniqueKey'] as const;
const ENQUEUE_KEYS = [...TASK_KEYS, 'delayMs', 'runAt', 'headers', ...RELATION_KEYS] as const;
const BACKOFF_KEYS = ['type', 'delayMs', 'maxDelayMs', 'jitter'] as const;
const WALL_MS_MAX = 8.64e15;
const NOW: When = { kind: 'now' };

/** Throws INVALID_ARGUMENT for no object, and for a key that is none of `known`, naming the nearest. */
export function checkKeys(what: string, options: unknown, known: readonly string[]): asserts options is object {
  checkObject(`the options of ${what}`, options);
  for (const key in options) {
    if (known.includes(key)) continue;
    const message = `${what} has no option ${shown(key)}${didYouMean(key, known)}; there are ${known.join(', ')}`;
    throw new MillraceError('INVALID_ARGUMENT', message, { details: { key: shownValue(key), known } });
  }
}

/** How many combinations of options a task name keeps resolved. */
const VARIANTS_MAX = 100;

/** The specs of one task name: one object for all enqueues that change nothing, and one for each combination that does. */
export class SpecTable {
  readonly base: TaskSpec;
  readonly #variants = new Map<string, TaskSpec>();

  /** Throws INVALID_ARGUMENT. */
  constructor(name: string, options: TaskOptions) {
    checkName('task name', name, LIMITS.taskNameBytesMax);
    const { queue, priority, maxAttempts, timeoutMs, backoff } = DEFAULTS;
    this.base = resolveSpec({ queue, name, priority, maxAttempts, timeoutMs, backoff }, options);
  }

  /** Throws INVALID_ARGUMENT. */
  resolve(options: TaskOptions | undefined): TaskSpec {
    if (options === undefined) return this.base;
    const { queue, priority, maxAttempts, timeoutMs, backoff, concurrencyKey } = options;
    if ((queue ?? priority ?? maxAttempts ?? timeoutMs ?? backoff ?? concurrencyKey) === undefined) return this.base;
    const key = keyOf([queue, priority, maxAttempts, timeoutMs, backoff, concurrencyKey]);
    let spec = this.#variants.get(key);
    if (spec === undefined) {
      spec = resolveSpec(this.base, options);
      if (this.#variants.size >= VARIANTS_MAX) this.#variants.clear();
      this.#variants.set(key, spec);
    }
    return spec;
  }
}

/** What cannot be written as JSON has no key; it is refused by its own check. */
function keyOf(options: readonly unknown[]): string {
  try {
    return JSON.stringify(options);
  } catch {
    return '';
  }
}

function resolveSpec(base: TaskSpec, options: TaskOptions): TaskSpec {
  const spec: TaskSpec = {
    queue: options.queue ?? base.queue,
    name: base.name,
    priority: options.priority ?? base.priority,
    maxAttempts: options.maxAttempts ?? base.maxAttempts,
    timeoutMs: options.timeoutMs ?? base.timeoutMs,
    backoff: resolveBackoff(base.backoff, options.backoff),
    ...keyPart(options.concurrencyKey ?? base.concurrencyKey),
  };
  checkName('queue', spec.queue, LIMITS.queueNameBytesMax);
  checkInteger('priority', spec.priority, 0, LIMITS.priorityMax);
  checkInteger('maxAttempts', spec.maxAttempts, 1, LIMITS.maxAttemptsMax);
  checkInteger('timeoutMs', spec.timeoutMs, LIMITS.timeoutMsMin, LIMITS.timeoutMsMax);
  return spec;
}

function keyPart(concurrencyKey: string | undefined): Pick<TaskSpec, 'concurrencyKey'> {
  if (concurrencyKey === undefined) return {};
  checkName('concurrencyKey', concurrencyKey, LIMITS.concurrencyKeyBytesMax);
  return { concurrencyKey };
}

function resolveBackoff(base: Readonly<Backoff>, options: BackoffOptions | undefined): Readonly<Backoff> {
  if (options === undefined) return base;
  if (typeof options !== 'object' || options === null || Array.isArray(options)) {
    throw new MillraceError(
      'INVALID_ARGUMENT',
      `backoff must be an object such as { delayMs: 1000 }, not ${shown(options)}`,
    );
  }
  checkKeys('backoff', options, BACKOFF_KEYS);
  const backoff: Backoff = {
    type: options.type ?? base.type,
    delayMs: options.delayMs ?? base.delayMs,
    // Asking for a first pause beyond the inherited longest one raises that.
    maxDelayMs:
      options.maxDelayMs ?? Math.max(base.maxDelayMs, typeof options.delayMs === 'number' ? options.delayMs : 0),
    jitter: options.jitter ?? base.jitter,
  };
  if (backoff.type !== 'fixed' && backoff.type !== 'exponential') {
    throw new MillraceError(
      'INVALID_ARGUMENT',
      `backoff.type is ${shown(backoff.type)}; allowed are "fixed" and "exponential"`,
    );
  }
  checkInteger('backoff.delayMs', backoff.delayMs, 0, LIMITS.backoffMsMax);
  checkInteger('backoff.maxDelayMs', backoff.maxDelayMs, 0, LIMITS.backoffMsMax);
  if (typeof backoff.jitter !== 'boolean') {
    throw new MillraceError('INVALID_ARGUMENT', `backoff.jitter must be true or false, not ${shown(backoff.jitter)}`);
  }
  return backoff;
}

/** Throws INVALID_ARGUMENT, also for unknown keys. */
export function resolveWhen(options: EnqueueOptions | undefined): When {
  if (options === undefined) return NOW;
  checkKeys('enqueue', options, ENQUEUE_KEYS);
  const { delayMs, runAt } = options;
  if (delayMs === undefined && runAt === undefined) return NOW;
  if (delayMs !== undefined && runAt !== undefined) {
    throw new MillraceError('INVALID_ARGUMENT', 'delayMs and runAt were both given: give one of them');
  }
  if (delayMs !== undefined) {
    if (typeof delayMs === 'number' && delayMs >= 0 && delayMs <= LIMITS.delayMsMax)
      return { kind: 'delay', ms: delayMs };
    const message = `delayMs is ${shown(delayMs)}; allowed are 0 to ${LIMITS.delayMsMax} (366 days): use runAt for a later start`;
    throw new MillraceError('INVALID_ARGUMENT', message, {
      details: { value: shownValue(delayMs), bound: LIMITS.delayMsMax },
    });
  }
  const atMs = runAt instanceof Date ? runAt.getTime() : runAt;
  if (typeof atMs === 'number' && atMs >= 0 && atMs <= WALL_MS_MAX) return { kind: 'at', ms: atMs };
  throw new MillraceError(
    'INVALID_ARGUMENT',
    `runAt is ${runAt instanceof Date ? String(runAt) : shown(runAt)}; it must be a Date or milliseconds since 1970`,
  );
}

/** The keys that a definition shares with an enqueue. */
export const taskOptionKeys: readonly string[] = TASK_KEYS;
