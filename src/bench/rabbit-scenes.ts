import { invariant } from '../errors.ts';
import type { BareMethods } from './bare-process.ts';
import type { Child } from './child.ts';
import { compare, paceOf } from './comparison.ts';
import type { ProducerMethods } from './producer-process.ts';
import type { Span } from './producing.ts';
import { PART_TIMEOUT_MS, QUIET_MS } from './stage.ts';
import { Troupe } from './troupe.ts';
import type { WorkerMethods } from './worker-process.ts';
import { CONCURRENCY, type RunResult, type Settings } from './workload.ts';

const BATCH_TASKS = 1000;
/** V8 has compiled what matters by then, and the queue is there. */
const WARM_UP_TASKS = { normal: 2000, quick: 100 };
const PUBLISH_TASKS = { normal: 10_000, quick: 500 };
const CONSUME_TASKS = { normal: 100_000, quick: 2000 };

const choose = (of: { normal: number; quick: number }, { quick }: Settings): number => (quick ? of.quick : of.normal);

/** The broker does not tell. */
const NO_SYNCS = null;

/** Ours and the client library alone. */
export function publishAgainstBare(settings: Settings, run: number): Promise<RunResult> {
  const tasks = choose(PUBLISH_TASKS, settings);
  return compareScenes(settings, run, 'publish', publishOurs(undefined, tasks), publishBare(tasks));
}

export function consumeAgainstBare(settings: Settings, run: number): Promise<RunResult> {
  const tasks = settings.tasks ?? choose(CONSUME_TASKS, settings);
  return compareScenes(settings, run, 'consume', consumeOurs(undefined, tasks), consumeBare(tasks));
}

/** With a store and without. */
export function publishWithStore(settings: Settings, run: number): Promise<RunResult> {
  const tasks = choose(PUBLISH_TASKS, settings);
  const [withStore, without] = [publishOurs(storeOf(settings), tasks), publishOurs(undefined, tasks)];
  return compareScenes(settings, run, 'publish-store', withStore, without);
}

export function consumeWithStore(settings: Settings, run: number): Promise<RunResult> {
  const tasks = settings.tasks ?? choose(CONSUME_TASKS, settings);
  const [withStore, without] = [consumeOurs(storeOf(settings), tasks), consumeOurs(undefined, tasks)];
  return compareScenes(settings, run, 'consume-store', withStore, without);
}

type Scene = (stage: BrokerStage) => Promise<RunResult>;

/** Each on a stage of its own. */
function compareScenes(settings: Settings, run: number, name: string, one: Scene, other: Scene): Promise<RunResult> {
  const play = (scene: Scene) => () => BrokerStage.play(settings, name, scene);
  return compare(run, 'times as long', play(one), play(other));
}

/** The worker comes afterwards, for the ledger. */
function publishOurs(store: string | undefined, tasks: number): Scene {
  return async (stage) => {
    const { producer, warmUp } = await stage.producerOf(store);
    const { startNs, endNs } = await enqueue(producer, warmUp, tasks);
    const ledger = await stage.workOff(store, warmUp + tasks);
    return paceOf(tasks, endNs - startNs, ledger, NO_SYNCS);
  };
}

function consumeOurs(store: string | undefined, tasks: number): Scene {
  return async (stage) => {
    await stage.fill(store, tasks);
    const report = await stage.workOff(store, tasks);
    return paceOf(tasks, report.confirmedNs - report.firstNs, report, NO_SYNCS);
  };
}

function publishBare(tasks: number): Scene {
  return async (stage) => {
    const bare = await stage.bare();
    const { bareQueue: queue, warmUp } = stage;
    await bare.call('createQueue', { queue }, PART_TIMEOUT_MS);
    await bare.call('publish', { queue, first: 0, tasks: warmUp }, PART_TIMEOUT_MS);
    const { startNs, endNs } = await bare.call('publish', { queue, first: warmUp, tasks }, PART_TIMEOUT_MS);
    const ledger = await takeAll(bare, queue, warmUp + tasks);
    return paceOf(tasks, endNs - startNs, ledger, NO_SYNCS);
  };
}

/** The messages are ours: what is consumed is the same. */
function consumeBare(tasks: number): Scene {
  return async (stage) => {
    await stage.fill(undefined, tasks);
    const report = await takeAll(await stage.bare(), stage.brokerQueue, tasks);
    return paceOf(tasks, report.endNs - report.firstNs, report, NO_SYNCS);
  };
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
class BrokerStage {
  readonly warmUp: number;
  readonly queue = `bench-${process.pid}-${Date.now().toString(36)}`;
  readonly bareQueue = `millrace-bench-bare.${this.queue}`;
  readonly #url: string;
  readonly #name: string;
  readonly #troupe: Troupe;
  #bare: Child<BareMethods> | undefined;

  static play(settings: Settings, name: string, scene: Scene): Promise<RunResult> {
    return Troupe.play(settings, async (troupe) => {
      const stage = new BrokerStage(settings, name, troupe);
      const result = await scene(stage);
      await stage.#deleteQueues(result);
      return result;
    });
  }

  private constructor(settings: Settings, name: string, troupe: Troupe) {
    invariant(settings.rabbit !== undefined, 'these rows are run with a URL');
    this.#name = name;
    this.#troupe = troupe;
    this.#url = settings.rabbit.url;
    this.warmUp = choose(WARM_UP_TASKS, settings);
  }

  /** What our queue is called on the broker, for tasks of priority 4; docs/rabbitmq.md. */
  get brokerQueue(): string {
    return `millrace.${this.queue}`;
  }

  async producerOf(store: string | undefined, warmUp = this.warmUp) {
    const producer = this.#troupe.start<ProducerMethods>('producer', this.#profileName('producer'));
    await producer.call('connect', { url: this.#url, store, queue: this.queue }, PART_TIMEOUT_MS);
    if (warmUp > 0) await enqueue(producer, 0, warmUp);
    return { producer, warmUp };
  }

  /** Tasks that wait, of a producer that is gone. */
  async fill(store: string | undefined, tasks: number): Promise<void> {
    const { producer } = await this.producerOf(store, 0);
    await enqueue(producer, 0, tasks);
    await producer.leave();
  }

  async workOff(store: string | undefined, tasks: number) {
    const worker = this.#troupe.start<WorkerMethods>('worker', this.#profileName('worker'));
    const options = { url: this.#url, store, queue: this.queue, tasks, handling: 'plain' } as const;
    await worker.call('work', options, PART_TIMEOUT_MS);
    return await worker.call('finish', { warmUp: 0, quietMs: QUIET_MS }, PART_TIMEOUT_MS);
  }

  async bare(): Promise<Child<BareMethods>> {
    if (this.#bare === undefined) {
      this.#bare = this.#troupe.start<BareMethods>('bare', this.#profileName('bare'));
      await this.#bare.call('connect', { url: this.#url }, PART_TIMEOUT_MS);
    }
    return this.#bare;
  }

  #profileName(role: string): string {
    return `${this.#name}-${this.queue}-${role}`;
  }

  /** Where the ledger is complete, nothing more may be there: a message that is left would be a task that came twice. */
  async #deleteQueues({ lost, duplicated }: RunResult): Promise<void> {
    const queues = ['', '.high', '.low', '.dead', '.suspect'].map((suffix) => this.brokerQueue + suffix);
    const bare = await this.bare();
    const { left } = await bare.call('deleteQueues', { queues: [...queues, this.bareQueue] }, PART_TIMEOUT_MS);
    if (lost + duplicated > 0 || left === 0) return;
    throw new Error(`every task was processed once, but the broker still has ${left} messages in ${this.#name}`);
  }
}
