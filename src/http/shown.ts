import type { ScheduleInfo, ShownBytes, TaskError, TaskInfo } from '../broker/contract.ts';
import { sealedWith } from '../sealing/envelope.ts';

/** A task as it may be shown: where payloads are not, nothing is that a handler wrote, which may tell of them. */
export function shownTask(task: TaskInfo, showPayloads: boolean): TaskInfo & { payloadHidden?: boolean } {
  if (showPayloads) return withKeyIds(task);
  const { payload: _payload, result: _result, progress: _progress, log: _log, failures, ...rest } = task;
  return {
    ...rest,
    failures: failures.map((failure) => ({ ...failure, error: withoutTexts(failure.error) })),
    payloadHidden: true,
  };
}

/** A schedule as it may be shown. */
export function shownSchedule({ payload, ...schedule }: ScheduleInfo, showPayloads: boolean): ScheduleInfo {
  return showPayloads && payload !== undefined ? { ...schedule, payload: withKeyId(payload) } : schedule;
}

function withKeyIds(task: TaskInfo): TaskInfo {
  const { payload, result } = task;
  return {
    ...task,
    ...(payload === undefined ? {} : { payload: withKeyId(payload) }),
    ...(result === undefined ? {} : { result: withKeyId(result) }),
  };
}

/** Where there are no keys, which one is needed is all that can be told of what is encrypted. */
function withKeyId(shown: ShownBytes): ShownBytes {
  const keyId = sealedWith(shown);
  return keyId === undefined ? shown : { ...shown, keyId };
}

/** What remains of an error says its kind. */
export function withoutTexts({ name, code }: TaskError): TaskError {
  return { name, message: '', code };
}
