import type { Random } from '../../io/random.ts';
import { encodeBytes } from '../../protocol/encoded-bytes.ts';
import type { ScheduleInfo, ScheduleOperations, ScheduleSettings } from '../contract.ts';
import type { Calls } from './calls.ts';

const KEY_BYTES = 8;

/** The server keeps the schedules and fires them. */
export class RemoteSchedules implements ScheduleOperations {
  readonly #calls: Calls;
  readonly #random: Random;

  constructor(calls: Calls, random: Random) {
    this.#calls = calls;
    this.#random = random;
  }

  async set(name: string, { spec, payload, ...timing }: ScheduleSettings): Promise<ScheduleInfo> {
    const { name: task, ...options } = spec;
    const params = { ...timing, task, ...options, payload: encodeBytes(payload), name };
    return (await this.#calls.call('schedule.set', params)) as unknown as ScheduleInfo;
  }

  async get(name: string): Promise<ScheduleInfo> {
    return (await this.#calls.call('schedule.get', { name })) as unknown as ScheduleInfo;
  }

  async list(): Promise<ScheduleInfo[]> {
    return (await this.#calls.call('schedule.list', {})).schedules as ScheduleInfo[];
  }

  async pause(name: string): Promise<void> {
    await this.#calls.call('schedule.pause', { name });
  }

  async resume(name: string): Promise<void> {
    await this.#calls.call('schedule.resume', { name });
  }

  async remove(name: string): Promise<boolean> {
    return (await this.#calls.call('schedule.remove', { name })).removed === true;
  }

  async runNow(name: string): Promise<string> {
    const key = this.#random.hex(KEY_BYTES);
    return (await this.#calls.call('schedule.run', { name, key })).id as string;
  }
}
