export type {
  AttemptRun,
  BulkReport,
  DeadGroup,
  DeadGroups,
  Misfire,
  OnParentFailure,
  Outcome,
  ParentOutcome,
  Percentiles,
  QueueStatus,
  Retention,
  ScalingDecision,
  ScalingReport,
  ScheduleInfo,
  ShownBytes,
  Status,
  SupervisorStatus,
  TaskError,
  TaskEvent,
  TaskFilter,
  TaskHeaders,
  TaskIds,
  TaskInfo,
  TaskLog,
  TaskPage,
  TaskProgress,
  TaskState,
  Uniqueness,
  WorkerStatus,
} from './broker/contract.ts';
export type { EmbeddedOptions } from './broker/embedded/embedded.ts';
export type { ReconnectOptions } from './broker/tcp/connection.ts';
export { Client, type TaskPick, type Tasks } from './client/client.ts';
export type { EventOptions, TaskEvents } from './client/events.ts';
export {
  type BatchCallback,
  type BatchProgress,
  Flow,
  FlowBuilder,
  FlowTask,
  type FlowTaskOptions,
  TaskGroup,
} from './client/flow.ts';
export type { Queue } from './client/queue.ts';
export type { ScheduleKind, ScheduleName, ScheduleOptions, Schedules } from './client/schedules.ts';
export { type ResultOptions, Task, TaskBatch } from './client/task.ts';
export { type AmqpOptions, type ClientOptions, connect } from './connect.ts';
export { ERROR_CODES, type ErrorCode, MillraceError } from './errors.ts';
export type { TlsOptions } from './io/tls.ts';
export { DEFAULTS, LIMITS, type QueueLimits, type QueueLimitsChange } from './limits.ts';
export { type EncryptionOptions, parseKeyRing } from './sealing/key-ring.ts';
export { type DefinitionOptions, defineTask, TaskDefinition, type TaskKind } from './task/definition.ts';
export type { Batch, Parent, TaskContext, TaskHandler } from './task/handler.ts';
export type { Handlers, PlainHandler } from './task/handlers.ts';
export type {
  BackoffOptions,
  EnqueueOptions,
  ParentRef,
  RelationOptions,
  TaskOptions,
  TaskRef,
} from './task/options.ts';
export type { Tracing } from './task/tracing.ts';
export { FatalTaskError, RetryLater } from './worker/failures.ts';
export type { HandlersModule } from './worker/handlers-module.ts';
export type { AttemptInfo, WorkerHooks } from './worker/hooks.ts';
export type { Logger, WorkerOptions } from './worker/options.ts';
export { type RunningAttempt, type StopReport, Worker } from './worker/worker.ts';
