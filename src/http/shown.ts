import type { TaskError, TaskInfo } from '../broker/contract.ts';

/** A task as it may be shown: where payloads are not, nothing is that a handler wrote, which may tell of them. */
export function shownTask(task: TaskInfo, showPayloads: boolean): TaskInfo & { payloadHidden?: boolean } {
  if (showPayloads) return task;
  const { payload: _payload, result: _result, progress: _progress, log: _log, failures, ...rest } = task;
  return {
    ...rest,
    failures: failures.map((failure) => ({ ...failure, error: withoutTexts(failure.error) })),
    payloadHidden: true,
  };
}

/** What remains of an error says its kind. */
export function withoutTexts({ name, code }: TaskError): TaskError {
  return { name, message: '', code };
}
