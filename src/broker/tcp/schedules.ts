import type { Random } from '../../io/random.ts';
import { encodeBytes } from '../../protocol/encoded-bytes.ts';
import type { ScheduleInfo, ScheduleOperations, ScheduleSettings } from '../contract.ts';
import { answerOf } from './answers.ts';
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
    const reply = await this.#calls.call('schedule.list', {});
    return answerOf<{ schedules: ScheduleInfo[] }>('schedule.list', reply, { schedules: 'list' }).schedules;
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
    const reply = await this.#calls.call('schedule.run', { name, key });
    return answerOf<{ id: string }>('schedule.run', reply, { id: 'text' }).id;
  }
}
