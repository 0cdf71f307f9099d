import type { Broker, Misfire, ScheduleInfo } from '../broker/contract.ts';
import { checkName, LIMITS } from '../limits.ts';
import type { TaskKind } from '../task/definition.ts';
import { checkKeys, type EnqueueOptions, type TaskOptions, taskOptionKeys } from '../task/options.ts';
import { Task } from './task.ts';

/** When a schedule is due, and the options of the tasks that it enqueues. One of `cron` and `everyMs` is to be given. */
export interface ScheduleOptions extends TaskOptions {
  /** Five fields, minute hour day month weekday, or six with seconds before them: `30 2 * * *` is 2:30 each day. */
  cron?: string | undefined;
  /** The IANA time zone that `cron` is read in, such as `Europe/Berlin`. Default `UTC`. */
  timeZone?: string | undefined;
  /** Every so many milliseconds from when the schedule was made; 100 ms to 366 days. */
  everyMs?: number | undefined;
  /**
   * What becomes of the times that were missed while no server ran: `skip` none of them, `once` (default) one task for all
   * of them, `all` a task for each, up to 1000.
   */
  misfire?: Misfire | undefined;
  /** Of each task: as in `EnqueueOptions`. */
  headers?: EnqueueOptions['headers'];
}

/** With what `defineTask` made. */
export interface ScheduleKind<Input> extends ScheduleOptions {
  task: TaskKind<Input, unknown>;
  payload: NoInfer<Input>;
}

/** With a plain task name. */
export interface ScheduleName extends ScheduleOptions {
  task: string;
  payload?: unknown;
}

const SCHEDULE_KEYS = [...taskOptionKeys, 'cron', 'timeZone', 'everyMs', 'misfire', 'headers', 'task', 'payload'];

/** Throws INVALID_ARGUMENT. */
export function checkSchedule(name: unknown, options: unknown): void {
  checkScheduleName(name);
  checkKeys('schedule', options, SCHEDULE_KEYS);
}

function checkScheduleName(name: unknown): asserts name is string {
  checkName('schedule name', name, LIMITS.scheduleNameBytesMax);
}

/** Looking at schedules and steering them; `client.schedule` makes and changes them. */
export class Schedules {
  readonly #broker: Broker;

  constructor(broker: Broker) {
    this.#broker = broker;
  }

  /** All of them, in the order of their names. */
  list(): Promise<ScheduleInfo[]> {
    return this.#broker.schedules.list();
  }

  /** Rejects with NOT_FOUND. */
  async get(name: string): Promise<ScheduleInfo> {
    checkScheduleName(name);
    return await this.#broker.schedules.get(name);
  }

  /** It fires no more until `resume`, over restarts too. Rejects with NOT_FOUND. */
  async pause(name: string): Promise<void> {
    checkScheduleName(name);
    await this.#broker.schedules.pause(name);
  }

  /** Goes on with its next time from now on: what was due while it was paused is let go. Rejects with NOT_FOUND. */
  async resume(name: string): Promise<void> {
    checkScheduleName(name);
    await this.#broker.schedules.resume(name);
  }

  /** Resolves with whether there was one. Tasks that it has enqueued stay. */
  async remove(name: string): Promise<boolean> {
    checkScheduleName(name);
    return await this.#broker.schedules.remove(name);
  }

  /** Enqueues its task now, also while it is paused; its times stay as they are. Rejects with NOT_FOUND, DISK_FULL, QUEUE_FULL. */
  async runNow<Result = unknown>(name: string, kind?: TaskKind<unknown, Result>): Promise<Task<Result>> {
    checkScheduleName(name);
    return new Task(this.#broker, await this.#broker.schedules.runNow(name), kind);
  }
}
