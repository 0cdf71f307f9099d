import type { ScheduleInfo, ScheduleOperations, ScheduleSettings } from '../broker/contract.ts';
import { LIMITS } from '../limits.ts';
import type { Sealing } from './sealing.ts';
import { shownOpened } from './shown-bytes.ts';

/** A schedule's payload is encrypted once, as that of its tasks, which whoever fires it makes of it unseen. */
export class SealedSchedules implements ScheduleOperations {
  readonly #schedules: ScheduleOperations;
  readonly #sealing: Sealing;

  constructor(schedules: ScheduleOperations, sealing: Sealing) {
    this.#schedules = schedules;
    this.#sealing = sealing;
  }

  async set(name: string, settings: ScheduleSettings): Promise<ScheduleInfo> {
    const { payload, spec } = settings;
    const sealed = this.#sealing.sealPayload(payload, spec, undefined, LIMITS.schedulePayloadBytesMax);
    return this.#shown(await this.#schedules.set(name, { ...settings, payload: sealed }));
  }

  async get(name: string): Promise<ScheduleInfo> {
    return this.#shown(await this.#schedules.get(name));
  }

  list(): Promise<ScheduleInfo[]> {
    return this.#schedules.list();
  }

  pause(name: string): Promise<void> {
    return this.#schedules.pause(name);
  }

  resume(name: string): Promise<void> {
    return this.#schedules.resume(name);
  }

  remove(name: string): Promise<boolean> {
    return this.#schedules.remove(name);
  }

  runNow(name: string): Promise<string> {
    return this.#schedules.runNow(name);
  }

  #shown(schedule: ScheduleInfo): ScheduleInfo {
    const { queue, task: name, payload } = schedule;
    if (payload === undefined) return schedule;
    const open = (bytes: Buffer): Buffer => this.#sealing.openPayload(bytes, { queue, name });
    return { ...schedule, payload: shownOpened(payload, open) };
  }
}
