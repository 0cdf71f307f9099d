import { setTimeout as sleep } from 'node:timers/promises';
import type { Client, Worker } from '../../src/index.ts';

const KINDS = [
  { queue: 'mail', name: 'mail.send', perTick: 6, workMs: 12 },
  { queue: 'images', name: 'image.resize', perTick: 3, workMs: 40 },
  { queue: 'webhooks', name: 'webhook.post', perTick: 4, workMs: 25 },
] as const;

const TICK_MS = 50;
/** Of webhooks, so many fail at their first attempt. */
const FAILING_SHARE = 0.06;

/** A shop's tasks: enqueued and done all the time, some fail and come back, until it is stopped. */
export class Traffic {
  readonly #client: Client;
  readonly #workers: readonly Worker[];
  readonly #ticking: NodeJS.Timeout;
  readonly #enqueued = new Set<Promise<unknown>>();
  #ticks = 0;

  static async start(client: Client): Promise<Traffic> {
    const handlers = {
      ...Object.fromEntries(KINDS.map(({ name, workMs }) => [name, () => sleep(workMs * (0.5 + Math.random()))])),
      'webhook.post': async (_: unknown, { attempt }: { attempt: number }) => {
        await sleep(25);
        if (attempt === 1 && Math.random() < FAILING_SHARE) throw new TypeError('503 Service Unavailable');
      },
    };
    const workers = await Promise.all([
      client.work(handlers, { queues: ['mail', 'webhooks'], concurrency: 12, name: 'web-1' }),
      client.work(handlers, { queues: ['images'], concurrency: 4, name: 'images-1' }),
    ]);
    return new Traffic(client, workers);
  }

  private constructor(client: Client, workers: readonly Worker[]) {
    this.#client = client;
    this.#workers = workers;
    this.#ticking = setInterval(() => this.#tick(), TICK_MS);
  }

  #tick(): void {
    this.#ticks += 1;
    const wave = 1 + 0.6 * Math.sin(this.#ticks / 60);
    for (const { queue, name, perTick } of KINDS) {
      const count = Math.round(perTick * wave * (0.7 + 0.6 * Math.random()));
      const inputs = Array.from({ length: count }, (_, index) => ({ order: this.#ticks * 100 + index }));
      if (inputs.length === 0) continue;
      const enqueued = this.#client.enqueueMany(name, inputs, { queue, backoff: { delayMs: 2000 } });
      this.#enqueued.add(enqueued);
      void enqueued.finally(() => this.#enqueued.delete(enqueued));
    }
  }

  async stop(): Promise<void> {
    clearInterval(this.#ticking);
    await Promise.all(this.#enqueued);
    await Promise.all(this.#workers.map((worker) => worker.stop({ timeoutMs: 2000 })));
  }
}
