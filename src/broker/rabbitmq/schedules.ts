import type { ScheduleInfo, ScheduleOperations, ScheduleSettings } from '../contract.ts';
import type { Remembered } from './remembered.ts';

/** The store keeps the schedules, and whoever is connected fires them. */
export class RabbitSchedules implements ScheduleOperations {
  readonly #remembered: () => Remembered;
  readonly #newId: () => string;

  /** `remembered` throws UNSUPPORTED where there is no store, and why the broker cannot be used any more. */
  constructor(remembered: () => Remembered, newId: () => string) {
    this.#remembered = remembered;
    this.#newId = newId;
  }

  async set(name: string, settings: ScheduleSettings): Promise<ScheduleInfo> {
    return await this.#remembered().store.schedules.set(name, settings);
  }

  async get(name: string): Promise<ScheduleInfo> {
    return await this.#remembered().store.schedules.get(name);
  }

  async list(): Promise<ScheduleInfo[]> {
    return await this.#remembered().store.schedules.list();
  }

  async pause(name: string): Promise<void> {
    await this.#remembered().store.schedules.pause(name);
  }

  async resume(name: string): Promise<void> {
    await this.#remembered().store.schedules.resume(name);
  }

  async remove(name: string): Promise<boolean> {
    return await this.#remembered().store.schedules.remove(name);
  }

  async runNow(name: string): Promise<string> {
    const remembered = this.#remembered();
    const id = this.#newId();
    await remembered.publishInTime(await remembered.store.schedules.runNow(name, id));
    return id;
  }
}
