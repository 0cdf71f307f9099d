import { setTimeout as sleep } from 'node:timers/promises';
import { crc32 } from 'node:zlib';
import { burn, roundsPerMs } from '../bench/burn.ts';
import type { TaskContext } from '../index.ts';

/** In a payload: what the built-in handler is to do with that task. */
export const FAIL_ONCE = 'once';
export const FAIL_ALWAYS = 'always';

export interface SimulatedWork {
  /** How long a task takes, without using the processor. */
  taskTimeMs: number;
  /** How long it uses the processor; absent: not at all. */
  taskCpuMs?: number;
  /** This share of the tasks fails at the first attempt, and succeeds at the next. */
  failRate: number;
  /** This share fails at every attempt, and so ends dead. */
  deadRate: number;
}

/**
 * A handler for whatever comes. Which tasks fail follows from their ids, so that a task stays what it is over all its
 * attempts and workers.
 */
export function simulatedWork(work: SimulatedWork): (input: unknown, context: TaskContext) => unknown {
  const { taskTimeMs, taskCpuMs = 0 } = work;
  const rounds = taskCpuMs === 0 ? 0 : taskCpuMs * roundsPerMs();
  return (input, context) => {
    burn(rounds);
    if (taskTimeMs === 0) return judge(work, input, context);
    return sleep(taskTimeMs, undefined, { signal: context.signal }).then(() => judge(work, input, context));
  };
}

function judge({ failRate, deadRate }: SimulatedWork, input: unknown, { id, attempt }: TaskContext): void {
  const asked = (input as { fail?: unknown } | null)?.fail;
  const lot = failRate > 0 || deadRate > 0 ? drawLot(id) : 1;
  if (asked === FAIL_ALWAYS || lot < deadRate) throw new SimulatedFailure(`attempt ${attempt} fails, as all will`);
  if (attempt === 1 && (asked === FAIL_ONCE || lot < deadRate + failRate)) {
    throw new SimulatedFailure('the first attempt fails');
  }
}

/** The same for every attempt of a task; uniform from 0 to 1. */
function drawLot(id: string): number {
  return crc32(id) / 2 ** 32;
}

class SimulatedFailure extends Error {
  override readonly name = 'SimulatedFailure';
}
