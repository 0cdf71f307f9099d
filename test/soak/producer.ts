import type { Client, Task } from '../../src/index.ts';
import { Book } from './book.ts';
import { drawManner, FLOW_TASKS, LARGE_BYTES, MANNERS, type Manner, nowMs, type Payload } from './manners.ts';
import { product } from './product.ts';

/** A process that enqueues `rate` tasks a second until its standard input ends, then waits for its answers. */
interface Orders {
  readonly url: string;
  readonly store?: string;
  readonly name: string;
  readonly book: string;
  readonly rate: number;
}

const TICK_MS = 50;
/** What waits for an answer at most: a backend that cannot keep up is not asked for more. */
const OPEN_MAX = 5000;
const RESULT_SHARE = 0.2;
const BULK_SHARE = 0.1;
const BULK_TASKS = 20;
const RESULT_TIMEOUT_MS = 600_000;

class Producer {
  readonly #client: Client;
  readonly #orders: Orders;
  readonly #book: Book;
  readonly #open = new Set<Promise<void>>();
  #openTasks = 0;
  #keys = 0;
  #due = 0;

  constructor(client: Client, orders: Orders) {
    this.#client = client;
    this.#orders = orders;
    this.#book = new Book(orders.book);
  }

  tick(elapsedMs: number): void {
    // What could not be enqueued in its time is not made up for.
    this.#due = Math.min(this.#due + (this.#orders.rate * elapsedMs) / 1000, this.#orders.rate);
    while (this.#due >= 1 && this.#openTasks < OPEN_MAX) this.#due -= this.#begin();
  }

  async finish(): Promise<void> {
    while (this.#open.size > 0) await Promise.all(this.#open);
    await this.#client.close();
  }

  /** Returns how many tasks. */
  #begin(): number {
    if (Math.random() < BULK_SHARE / BULK_TASKS) return this.#track(BULK_TASKS, this.#enqueueBulk());
    const manner = drawManner();
    if (manner === 'flow') return this.#track(FLOW_TASKS, this.#enqueueFlow());
    return this.#track(1, this.#enqueueOne(manner));
  }

  #track(tasks: number, work: Promise<void>): number {
    this.#openTasks += tasks;
    this.#open.add(work);
    void work.finally(() => {
      this.#openTasks -= tasks;
      this.#open.delete(work);
    });
    return tasks;
  }

  async #enqueueOne(manner: Manner): Promise<void> {
    const payload = this.#payload(manner);
    const task = await this.#confirmed([payload], async () => [
      await this.#client.enqueue('work', payload, MANNERS[manner].options),
    ]);
    if (task?.[0] === undefined) return;
    if (manner === 'cancelled') await this.#cancel(payload.key, task[0]);
    else if (Math.random() < RESULT_SHARE) await this.#wait(payload.key, task[0]);
  }

  async #enqueueBulk(): Promise<void> {
    const payloads = Array.from({ length: BULK_TASKS }, () => this.#payload('plain'));
    await this.#confirmed(payloads, () => this.#client.enqueueMany('work', payloads, MANNERS.plain.options));
  }

  async #enqueueFlow(): Promise<void> {
    const payloads = Array.from({ length: FLOW_TASKS }, () => this.#payload('flow'));
    const [one, other, both, last] = payloads;
    const { options } = MANNERS.flow;
    await this.#confirmed(payloads, async () => {
      const flow = await this.#client.flow((build) => {
        const parents = [build.add('work', one, options), build.add('work', other, options)];
        const child = build.add('work', both, { ...options, dependsOn: parents });
        build.add('work', last, { ...options, dependsOn: child });
      });
      return flow.tasks;
    });
  }

  /** Undefined when it was refused. */
  async #confirmed<T>(payloads: readonly Payload[], enqueue: () => Promise<T>): Promise<T | undefined> {
    for (const { key, manner, sentMs } of payloads) this.#book.write('a', key, manner, sentMs.toFixed(1));
    try {
      const answer = await enqueue();
      for (const { key } of payloads) this.#book.write('k', key);
      return answer;
    } catch (error) {
      for (const { key } of payloads) this.#book.write('n', key, String(error));
      return undefined;
    }
  }

  async #cancel(key: string, task: Task): Promise<void> {
    const outcome = await task.cancel().catch((error: unknown) => codeOf(error));
    this.#book.write('c', key, outcome);
  }

  async #wait(key: string, task: Task): Promise<void> {
    const state = await task.result({ timeoutMs: RESULT_TIMEOUT_MS }).then(() => 'completed', codeOf);
    this.#book.write('r', key, state);
  }

  #payload(manner: Manner): Payload {
    const payload = { key: `${this.#orders.name}.${++this.#keys}`, manner, sentMs: nowMs() };
    return manner === 'large' ? { ...payload, pad: 'x'.repeat(LARGE_BYTES) } : payload;
  }
}

function codeOf(error: unknown): string {
  return String((error as { code?: unknown }).code ?? error).replaceAll(' ', '_');
}

const orders = JSON.parse(process.argv[2] as string) as Orders;
const { connect } = await product();
const client = await connect(orders.url, {
  ...{ name: orders.name, store: orders.store },
  ...{ connectTimeoutMs: 60_000, enqueueTimeoutMs: 120_000, callTimeoutMs: 120_000 },
  reconnect: { maxDelayMs: 500 },
});
const producer = new Producer(client, orders);
let lastMs = nowMs();
const ticking = setInterval(() => {
  const thisMs = nowMs();
  producer.tick(thisMs - lastMs);
  lastMs = thisMs;
}, TICK_MS);
process.stdout.write('ready\n');
process.stdin.resume();
process.stdin.once('end', () => {
  clearInterval(ticking);
  void producer.finish();
});
