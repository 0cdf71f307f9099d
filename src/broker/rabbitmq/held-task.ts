import type { DeliveryRun, TaskError, TaskHeaders, TaskSpec } from '../contract.ts';
import type { TaskMessage } from './message.ts';

/**
 * A task that a worker has from the broker.
 *
 *   waiting ──handed out──▶ held ──worker settles it──▶ settled ──acknowledged──▶ gone
 *      └── connection lost ─────────────────────────────────────────────────────▶ gone
 *
 * Its delivery tag is that of the channel it came over. When that channel is lost, what is held or settled has none (0)
 * until the broker gives the message to this worker again.
 */
export type HeldState = 'waiting' | 'held' | 'settled' | 'gone';

export class HeldTask {
  readonly message: TaskMessage;
  readonly spec: TaskSpec;
  /** Losses included. */
  readonly attempt: number;
  readonly suspect: boolean;
  /** The broker gave its message to somebody before. */
  readonly redelivered: boolean;
  /** Why it may not run any more. */
  readonly fatal: TaskError | undefined;
  tag: number;
  state: HeldState = 'waiting';
  /** While the store was asked whether it may run: the store may have said so before. */
  cancelRequested = false;
  /** What is left to do before it is acknowledged is done. */
  recorded = false;
  /** When it is given up, while it has no tag; steady time. */
  adoptUntilMs = 0;
  /** Tasks that were handed out earlier have lower ones. */
  order = 0;
  /** When its handler was said to have begun; 0 before. */
  startedAtMs = 0;
  run: HeldRun | undefined;
  index = 0;

  constructor(
    message: TaskMessage,
    attempt: number,
    tag: number,
    {
      suspect = false,
      redelivered = false,
      fatal,
    }: { suspect?: boolean; redelivered?: boolean; fatal?: TaskError } = {},
  ) {
    this.message = message;
    this.spec = message.spec;
    this.attempt = attempt;
    this.suspect = suspect;
    this.redelivered = redelivered;
    this.fatal = fatal;
    this.tag = tag;
  }

  goesWith(other: HeldTask): boolean {
    return (
      this.spec === other.spec &&
      this.attempt === other.attempt &&
      this.suspect === other.suspect &&
      this.message.enqueuedAtMs === other.message.enqueuedAtMs
    );
  }
}

/** Tasks of one kind that are handed out together. */
export class HeldRun implements DeliveryRun {
  readonly tasks: readonly HeldTask[];
  readonly spec: TaskSpec;
  readonly attempt: number;
  readonly suspect: boolean;
  readonly enqueuedAtMs: number;
  readonly length: number;

  constructor(tasks: readonly HeldTask[]) {
    const first = tasks[0] as HeldTask;
    this.tasks = tasks;
    this.spec = first.spec;
    this.attempt = first.attempt;
    this.suspect = first.suspect;
    this.enqueuedAtMs = first.message.enqueuedAtMs;
    this.length = tasks.length;
    for (let index = 0; index < tasks.length; index++) {
      const task = tasks[index] as HeldTask;
      task.run = this;
      task.index = index;
    }
  }

  id(index: number): string {
    return this.#message(index).id;
  }

  bytes(index: number): Uint8Array {
    return this.#message(index).payload;
  }

  text(index: number): string {
    const { payload } = this.#message(index);
    return Buffer.from(payload.buffer, payload.byteOffset, payload.length).toString();
  }

  headers(index: number): TaskHeaders | undefined {
    return this.#message(index).taskHeaders;
  }

  #message(index: number): TaskMessage {
    return (this.tasks[index] as HeldTask).message;
  }
}
