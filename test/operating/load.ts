import { setTimeout as sleep } from 'node:timers/promises';
import type { Client, EnqueueOptions } from '../../src/index.ts';
import { Arrivals } from '../conformance/events.ts';

const CALLERS = 4;
const PAUSE_MS = 4;

/** Enqueues one task after the other from some callers until it is stopped. */
export class Load {
  /** Of all that were acknowledged, in that order. */
  readonly acknowledged = new Arrivals<{ id: string; key: string }>();
  readonly #callers: Promise<void>[];
  #isStopped = false;
  #keys = 0;

  constructor(client: Client, name: string, options: EnqueueOptions = {}) {
    this.#callers = Array.from({ length: CALLERS }, async () => {
      while (!this.#isStopped) {
        const key = `k${++this.#keys}`;
        const { id } = await client.enqueue(name, { key }, options);
        this.acknowledged.add({ id, key });
        await sleep(PAUSE_MS);
      }
    });
  }

  get count(): number {
    return this.acknowledged.all.length;
  }

  /** Resolves when so many more were acknowledged. */
  async more(count: number): Promise<void> {
    await this.acknowledged.count(this.count + count);
  }

  /** Rejects with what an enqueue was refused with. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    await Promise.all(this.#callers);
  }
}
