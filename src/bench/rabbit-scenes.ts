import { invariant } from '../errors.ts';
import type { BareMethods } from './bare-process.ts';
import { Child, type Role } from './child.ts';
import type { Methods } from './methods.ts';
import type { ProducerMethods, Span } from './producer-process.ts';
import { PART_TIMEOUT_MS, QUIET_MS } from './stage.ts';
import type { WorkerMethods } from './worker-process.ts';
import { CONCURRENCY, type RunResult, type Settings } from './workload.ts';

const BATCH_TASKS = 1000;
/** V8 has compiled what matters by then, and the queue is there. */
const WARM_UP_TASKS = { normal: 2000, quick: 100 };
const PUBLISH_TASKS = { normal: 10_000, quick: 500 };
const CONSUME_TASKS = { normal: 100_000, quick: 2000 };

const choose = (of: { normal: number; quick: number }, { quick }: Settings): number => (quick ? of.quick : of.normal);

/** Nanoseconds, and what the ledger says. */
interface Measured {
  tookNs: number;
  lost: number;
  duplicated: number;
}

type Measure = (troupe: Troupe, tasks: number) => Promise<Measured>;

let runs = 0;

/** Ours and the client library alone, in turns: one run ours begins, in the next the other. */
export function publishAgainstBare(settings: Settings): Promise<RunResult> {
  const tasks = choose(PUBLISH_TASKS, settings);
  return compare(settings, 'publish', tasks, [publishOurs(undefined), publishBare]);
}

export function consumeAgainstBare(settings: Settings): Promise<RunResult> {
  const tasks = settings.tasks ?? choose(CONSUME_TASKS, settings);
  return compare(settings, 'consume', tasks, [consumeOurs(undefined), consumeBare]);
}

/** With a store and without. */
export function publishWithStore(settings: Settings): Promise<RunResult> {
  const tasks = choose(PUBLISH_TASKS, settings);
  return compare(settings, 'publish-store', tasks, [publishOurs(storeOf(settings)), publishOurs(undefined)]);
}

export function consumeWithStore(settings: Settings): Promise<RunResult> {
  const tasks = settings.tasks ?? choose(CONSUME_TASKS, settings);
  return compare(settings, 'consume-store', tasks, [consumeOurs(storeOf(settings)), consumeOurs(undefined)]);
}

/** Gives the rates of both, and how many times as long the first took. */
async function compare(
  settings: Settings,
  name: string,
  tasks: number,
  [first, second]: readonly [Measure, Measure],
): Promise<RunResult> {
  runs += 1;
  const measured: Measured[] = [];
  const order = runs % 2 === 0 ? [first, second] : [second, first];
  for (const measure of order) measured.push(await Troupe.play(settings, name, (troupe) => measure(troupe, tasks)));
  const [one, other] = order[0] === first ? measured : measured.reverse();
  invariant(one !== undefined && other !== undefined, 'both were measured');
  return {
    values: [tasks / (one.tookNs / 1e9), tasks / (other.tookNs / 1e9), one.tookNs / other.tookNs],
    // The broker does not tell.
    fsyncs: null,
    lost: one.lost + other.lost,
    duplicated: one.duplicated + other.duplicated,
  };
}

/** The worker comes afterwards, for the ledger. */
function publishOurs(store: string | undefined): Measure {
  return async (troupe, tasks) => {
    const { producer, warmUp } = await troupe.producerOf(store);
    const { startNs, endNs } = await enqueue(producer, warmUp, tasks);
    const { lost, duplicated } = await troupe.workOff(store, warmUp + tasks);
    return { tookNs: endNs - startNs, lost, duplicated };
  };
}

function consumeOurs(store: string | undefined): Measure {
  return async (troupe, tasks) => {
    const { producer } = await troupe.producerOf(store, 0);
    await enqueue(producer, 0, tasks);
    await producer.leave();
    const { firstNs, confirmedNs, lost, duplicated } = await troupe.workOff(store, tasks);
    return { tookNs: confirmedNs - firstNs, lost, duplicated };
  };
}

async function publishBare(troupe: Troupe, tasks: number): Promise<Measured> {
  const bare = await troupe.bare();
  const { bareQueue: queue, warmUp } = troupe;
  await bare.call('createQueue', { queue }, PART_TIMEOUT_MS);
  await bare.call('publish', { queue, first: 0, tasks: warmUp }, PART_TIMEOUT_MS);
  const { startNs, endNs } = await bare.call('publish', { queue, first: warmUp, tasks }, PART_TIMEOUT_MS);
  const { lost, duplicated } = await takeAll(bare, queue, warmUp + tasks);
  return { tookNs: endNs - startNs, lost, duplicated };
}

/** The messages are ours: what is consumed is the same. */
async function consumeBare(troupe: Troupe, tasks: number): Promise<Measured> {
  const { producer } = await troupe.producerOf(undefined, 0);
  await enqueue(producer, 0, tasks);
  await producer.leave();
  const { firstNs, endNs, lost, duplicated } = await takeAll(await troupe.bare(), troupe.brokerQueue, tasks);
  return { tookNs: endNs - firstNs, lost, duplicated };
}

function enqueue(producer: Child<ProducerMethods>, first: number, tasks: number): Promise<Span> {
  return producer.call('enqueueBatches', { first, tasks, batchTasks: BATCH_TASKS }, PART_TIMEOUT_MS);
}

function takeAll(bare: Child<BareMethods>, queue: string, tasks: number) {
  // As much ahead as our worker asks for.
  const prefetch = 2 * CONCURRENCY.plain;
  return bare.call('consume', { queue, tasks, prefetch, quietMs: QUIET_MS }, PART_TIMEOUT_MS);
}

function storeOf({ rabbit }: Settings): string {
  invariant(rabbit?.store !== undefined, 'rows with a store are run with one');
  return rabbit.store;
}

/** The processes of one measurement and the queues it uses, which are deleted afterwards. */
class Troupe {
  readonly warmUp: number;
  readonly queue = `bench-${process.pid}-${Date.now().toString(36)}`;
  readonly bareQueue = `millrace-bench-bare.${this.queue}`;
  readonly #url: string;
  readonly #settings: Settings;
  readonly #name: string;
  readonly #children: { leave: () => Promise<void>; kill: () => Promise<void> }[] = [];
  #bare: Child<BareMethods> | undefined;
  readonly #onAbort = (): void => {
    for (const child of this.#children) void child.kill();
  };

  static async play(settings: Settings, name: string, scene: (troupe: Troupe) => Promise<Measured>): Promise<Measured> {
    settings.signal.throwIfAborted();
    const troupe = new Troupe(settings, name);
    settings.signal.addEventListener('abort', troupe.#onAbort);
    try {
      const measured = await scene(troupe);
      await troupe.#deleteQueues();
      await Promise.all(troupe.#children.map((child) => child.leave()));
      return measured;
    } catch (error) {
      // What fails when everyone is killed is not the reason.
      settings.signal.throwIfAborted();
      throw error;
    } finally {
      settings.signal.removeEventListener('abort', troupe.#onAbort);
      await Promise.all(troupe.#children.map((child) => child.kill()));
    }
  }

  private constructor(settings: Settings, name: string) {
    invariant(settings.rabbit !== undefined, 'these rows are run with a URL');
    this.#settings = settings;
    this.#name = name;
    this.#url = settings.rabbit.url;
    this.warmUp = choose(WARM_UP_TASKS, settings);
  }

  /** What our queue is called on the broker, for tasks of priority 4; docs/rabbitmq.md. */
  get brokerQueue(): string {
    return `millrace.${this.queue}`;
  }

  async producerOf(store: string | undefined, warmUp = this.warmUp) {
    const producer = this.#start<ProducerMethods>('producer');
    await producer.call('connect', { url: this.#url, store, queue: this.queue }, PART_TIMEOUT_MS);
    if (warmUp > 0) await enqueue(producer, 0, warmUp);
    return { producer, warmUp };
  }

  async workOff(store: string | undefined, tasks: number) {
    const worker = this.#start<WorkerMethods>('worker');
    const options = { url: this.#url, store, queue: this.queue, tasks, handling: 'plain' } as const;
    await worker.call('work', options, PART_TIMEOUT_MS);
    return await worker.call('finish', { warmUp: 0, quietMs: QUIET_MS }, PART_TIMEOUT_MS);
  }

  async bare(): Promise<Child<BareMethods>> {
    if (this.#bare === undefined) {
      this.#bare = this.#start<BareMethods>('bare');
      await this.#bare.call('connect', { url: this.#url }, PART_TIMEOUT_MS);
    }
    return this.#bare;
  }

  #start<M extends Methods>(role: Role): Child<M> {
    const directory = this.#settings.profileDirectory;
    const name = `${this.#name}-${this.queue}-${role}`;
    const child = Child.start<M>(role, directory === undefined ? undefined : { directory, name });
    this.#children.push(child);
    return child;
  }

  async #deleteQueues(): Promise<void> {
    const queues = ['', '.high', '.low', '.dead', '.suspect'].map((suffix) => this.brokerQueue + suffix);
    await (await this.bare()).call('deleteQueues', { queues: [...queues, this.bareQueue] }, PART_TIMEOUT_MS);
  }
}
