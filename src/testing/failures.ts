import { MillraceError, shown } from '../errors.ts';
import type { AttemptInfo, WorkerHooks } from '../worker/hooks.ts';

/** An attempt that failed. */
export interface FailedAttempt extends AttemptInfo {
  /** What the handler threw, itself; or a MillraceError: a timeout, a payload that was refused, a name without a handler. */
  readonly error: unknown;
  /** No attempt follows. */
  readonly dead: boolean;
}

/** What ended since it was last asked. */
export interface Report {
  /** Tasks. */
  readonly completed: number;
  /** Attempts, those included that were the last. */
  readonly failed: number;
  /** Tasks. */
  readonly dead: number;
  readonly failures: readonly FailedAttempt[];
}

/** Watches the workers of a test. */
export class Ends {
  #completed = 0;
  #failures: FailedAttempt[] = [];

  readonly hooks: WorkerHooks = {
    onComplete: () => {
      this.#completed++;
    },
    onFail: (task, error) => {
      this.#failures.push({ ...task, error, dead: false });
    },
    // Comes right after the attempt's onFail.
    onDead: () => {
      const last = this.#failures.pop();
      if (last !== undefined) this.#failures.push({ ...last, dead: true });
    },
  };

  take(): Report {
    const failures = this.#failures;
    const completed = this.#completed;
    this.#failures = [];
    this.#completed = 0;
    return { completed, failed: failures.length, dead: failures.filter(({ dead }) => dead).length, failures };
  }
}

const SHOWN_MAX = 10;

/** For a test that expected none. Its cause is what the first handler threw, so that the test's report shows where. */
export function failuresError(failures: readonly FailedAttempt[]): MillraceError {
  const lines = failures.slice(0, SHOWN_MAX).map(describe);
  const more = failures.length > SHOWN_MAX ? [`and ${failures.length - SHOWN_MAX} more`] : [];
  const what = failures.length === 1 ? 'an attempt failed' : `${failures.length} attempts failed`;
  const message = `${what}:\n${[...lines, ...more].map((line) => `  ${line}`).join('\n')}`;
  return new MillraceError('HANDLER_FAILED', message, { cause: failures[0]?.error, details: { failures } });
}

function describe({ id, name, attempt, maxAttempts, error, dead }: FailedAttempt): string {
  const what = error instanceof Error ? `${error.name}: ${error.message}` : shown(error);
  const where = error instanceof Error ? frameOf(error) : '';
  return `${name}, task ${id}, attempt ${attempt} of ${maxAttempts}${dead ? ', now dead' : ''}: ${what}${where}`;
}

/** Where it was thrown, as far as it says. */
function frameOf({ stack }: Error): string {
  const frame = typeof stack === 'string' ? stack.split('\n').find((line) => /^\s+at /.test(line)) : undefined;
  return frame === undefined ? '' : ` ${frame.trim()}`;
}
