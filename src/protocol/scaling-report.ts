import type { ScalingDecision, ScalingReport } from '../broker/contract.ts';
import { MillraceError, shown } from '../errors.ts';
import { checkInteger, checkName, checkObject, LIMITS } from '../limits.ts';

/** Throws INVALID_ARGUMENT. */
export function parseScalingReport(given: unknown): ScalingReport {
  checkObject('a report of scaling', given);
  const { id, name, host, pid, queues, min, max, current, retiring, decisions } = given as Record<string, unknown>;
  if (typeof id !== 'string' || !/^[0-9a-zA-Z]{8,64}$/.test(id)) {
    throw new MillraceError(
      'INVALID_ARGUMENT',
      `the id of a supervisor is ${shown(id)}; it must be 8 to 64 letters and digits`,
    );
  }
  checkName('the name of a supervisor', name, LIMITS.queueNameBytesMax);
  checkName('the host of a supervisor', host, LIMITS.supervisorHostBytesMax);
  checkInteger('pid', pid, 0, Number.MAX_SAFE_INTEGER);
  checkInteger('max', max, 1, LIMITS.workerProcessesMax);
  checkInteger('min', min, 0, max);
  checkInteger('current', current, 0, max);
  checkInteger('retiring', retiring, 0, max);
  const names = listOf('queues', queues, LIMITS.queuesPerWorkerMax).map((queue) => {
    checkName('queue', queue, LIMITS.queueNameBytesMax);
    return queue;
  });
  const parsed = listOf('decisions', decisions, LIMITS.scalingDecisionsMax).map(parseDecision);
  return { id, name, host, pid, queues: names, min, max, current, retiring, decisions: parsed };
}

function parseDecision(decision: unknown): ScalingDecision {
  checkObject('a decision', decision);
  const { atMs, from, to, reason } = decision as Record<string, unknown>;
  checkInteger('atMs', atMs, 0, Number.MAX_SAFE_INTEGER);
  checkInteger('from', from, 0, LIMITS.workerProcessesMax);
  checkInteger('to', to, 0, LIMITS.workerProcessesMax);
  if (typeof reason === 'string' && reason.length <= LIMITS.scalingReasonCharactersMax)
    return { atMs, from, to, reason };
  const message = `the reason of a decision is ${shown(reason)}; it must be text of at most ${LIMITS.scalingReasonCharactersMax} characters`;
  throw new MillraceError('INVALID_ARGUMENT', message);
}

function listOf(what: string, value: unknown, lengthMax: number): unknown[] {
  if (Array.isArray(value) && value.length <= lengthMax) return value;
  throw new MillraceError('INVALID_ARGUMENT', `${what} must be a list of at most ${lengthMax}`);
}
