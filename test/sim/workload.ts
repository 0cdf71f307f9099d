import type { Client } from '../../src/client/client.ts';
import type { FlowTask } from '../../src/client/flow.ts';
import { MillraceError } from '../../src/errors.ts';
import { formatTaskId, parseTaskId } from '../../src/ids.ts';
import { DEFAULTS, type QueueLimitsChange } from '../../src/limits.ts';
import { defineTask } from '../../src/task/definition.ts';
import type { TaskContext } from '../../src/task/handler.ts';
import type { EnqueueOptions } from '../../src/task/options.ts';
import { FatalTaskError, RetryLater } from '../../src/worker/failures.ts';
import type { SimProcess } from './process.ts';
import { type Promises, SimProgram } from './program.ts';
import type { SimRandom } from './random.ts';
import { Violation } from './scheduler.ts';
import { SCHEDULES } from './schedules.ts';
import { FIRED, keyOf } from './tap.ts';
import type { World } from './world.ts';

/** What clients do and what handlers do with it. The payload says how its handler behaves. */
interface Work {
  /** Names the task in the model. */
  readonly k: string;
  /** Ends by itself, at once or after `ms`; runs longer than it may; takes its worker with it. */
  readonly act: 'return' | 'wait' | 'hang' | 'kill';
  readonly ms: number;
  /** So many attempts fail first. */
  readonly fails: number;
  readonly how: 'throw' | 'fatal' | 'later';
  readonly pad?: string;
}

export const QUEUES = ['a', 'b', 'c', 'swept'] as const;
/** Only here tasks are purged, and cancelled many at once, so that elsewhere nothing may be missing. */
const SWEPT = 'swept';

export const ACTIONS = {
  enqueue: 40,
  enqueueMany: 10,
  enqueueFlow: 6,
  result: 15,
  cancel: 3,
  retry: 2,
  get: 3,
  list: 2,
  status: 2,
  pause: 1,
  resume: 3,
  purge: 1,
  redrive: 1,
  retryMany: 1,
  cancelMany: 0.5,
  limit: 1,
  schedule: 4,
} as const;
export type Action = keyof typeof ACTIONS;

/** How failed attempts, hung handlers and killed workers can be left out of a run. */
export const BEHAVIOURS = ['delays', 'failures', 'hangs', 'kills', 'large'] as const;
export type Behaviour = (typeof BEHAVIOURS)[number];

/** Nothing is added beyond: what a run does under faults matters, not how long it takes to work off afterwards. */
const BACKLOG_MAX = 150;
const OUTSTANDING_MAX = 30;
const IDS_KEPT = 200;
/** Why a task may not be enqueued, or nobody knows whether it is. */
const NOT_ENQUEUED = ['TIMEOUT', 'CLOSED', 'DISK_FULL', 'QUEUE_FULL', 'STORAGE_FAILED', 'STOPPING', 'BUFFER_FULL'];
/** How often a handler tells of its progress in a chatty world. */
const CHATS = 15;

export class ClientProgram extends SimProgram {
  readonly #without: ReadonlySet<string>;
  #serial = 0;
  #outstanding = 0;
  /** Ids that this client was given, with the keys that they are of. */
  readonly #known: { id: string; key: string }[] = [];
  acted = 0;

  constructor(name: string, world: World, promises: Promises, without: ReadonlySet<string>) {
    super(name, world, promises);
    this.#without = without;
  }

  protected begin(process: SimProcess, client: Client): void {
    const { scheduler, options } = this.world;
    const next = (): void => {
      scheduler.schedule(this.random.exponential(options.pauseMeanMs), process, 'action', () => {
        if (this.world.calm || this.stopping) return;
        const action = this.random.weighted(ACTIONS);
        if (this.#outstanding < OUTSTANDING_MAX && !this.#without.has(action)) this.#act(action, process, client);
        next();
      });
    };
    next();
  }

  #act(action: Action, process: SimProcess, client: Client): void {
    if (action.startsWith('enqueue') && this.world.waitingTasks > BACKLOG_MAX) return;
    const known = this.#known.length > 0 ? this.random.pick(this.#known) : undefined;
    const queue = client.queue(this.random.pick(QUEUES));
    this.acted++;
    switch (action) {
      case 'enqueue':
        this.#enqueue(process, client, 1);
        break;
      case 'enqueueMany':
        this.#enqueue(process, client, this.random.int(2, this.#without.has('large') ? 4 : 40));
        break;
      case 'enqueueFlow':
        this.#flow(process, client);
        break;
      case 'result':
        if (known !== undefined) this.#result(process, client, known);
        break;
      case 'cancel':
        if (known !== undefined) this.#call(action, process, client.tasks.cancel(known.id), ['CONFLICT']);
        break;
      case 'retry':
        if (known !== undefined) this.#call(action, process, client.tasks.retry(known.id), ['CONFLICT']);
        break;
      case 'get':
        if (known !== undefined) this.#get(process, client, known);
        break;
      case 'list':
        this.#call(action, process, client.tasks.list({ queue: queue.name, limit: 20 }), []);
        break;
      case 'status':
        this.#call(action, process, client.status(), []);
        break;
      case 'pause':
        this.#call(action, process, queue.pause(), []);
        break;
      case 'resume':
        this.#call(action, process, queue.resume(), []);
        break;
      case 'purge':
        this.#call(action, process, client.queue(SWEPT).purge(), ['CONFLICT']);
        break;
      case 'redrive':
        this.#call(action, process, queue.redrive(), ['CONFLICT']);
        break;
      case 'retryMany':
        this.#call(action, process, client.tasks.retryMany({ queue: queue.name, state: 'dead' }), []);
        break;
      case 'cancelMany': {
        const order = this.random.pick(['oldest', 'newest'] as const);
        this.#call(action, process, client.tasks.cancelMany({ queue: SWEPT, order }), []);
        break;
      }
      case 'limit':
        this.#call(action, process, queue.limit(this.#limits(this.random)), []);
        break;
      case 'schedule':
        this.#schedule(process, client);
        break;
      default:
        action satisfies never;
    }
  }

  #schedule(process: SimProcess, client: Client): void {
    const { random, world } = this;
    const planned = random.pick(world.schedules);
    const { name, everyMs, misfire, isSteered } = planned;
    const steered = isSteered ? 1 : 0;
    const weights = { set: 8, remove: 0.2, pause: 2 * steered, resume: 3 * steered, runNow: 4 * steered };
    const act = random.weighted(weights);
    const { schedules } = client;
    switch (act) {
      case 'set': {
        if (world.endedSchedules.has(name)) return;
        const payload: Work = { k: FIRED + name, act: 'return', ms: 1, fails: 0, how: 'throw' };
        const made = client.schedule(name, { everyMs, misfire, queue: name, task: 'single', payload });
        this.#call('schedule', process, made, []);
        return;
      }
      case 'remove':
        world.endedSchedules.add(name);
        this.#call(act, process, schedules.remove(name), []);
        return;
      case 'pause':
        this.#call(act, process, schedules.pause(name), []);
        return;
      case 'resume':
        this.#call(act, process, schedules.resume(name), []);
        return;
      default:
        this.#call(act, process, schedules.runNow(name), []);
    }
  }

  #call<T>(what: string, process: SimProcess, promise: Promise<T>, codes: readonly string[]): void {
    this.#outstanding++;
    const general = ['TIMEOUT', 'CLOSED', 'DISK_FULL', 'STORAGE_FAILED', 'STOPPING', 'NOT_FOUND'];
    void this.promises.watch(what, process, DEFAULTS.callTimeoutMs, promise).then(
      () => {
        this.#outstanding--;
      },
      (error: unknown) => {
        this.#outstanding--;
        this.allow(what, error, [...general, ...codes]);
      },
    );
  }

  // ── Enqueues ──────────────────────────────────────────────────────────────────────────────────────────────────────

  #enqueue(process: SimProcess, client: Client, count: number): void {
    const { random } = this;
    const options = this.#enqueueOptions(random);
    const works = Array.from({ length: count }, () => this.#work(random));
    const name = random.pick(['single', 'single', 'checked', 'bulk', 'nobody']);
    this.#outstanding++;
    const enqueued =
      count === 1
        ? client.enqueue(name, works[0], options).then((task) => [task.id])
        : client.enqueueMany(name, works, options).then((batch) => [...batch.ids]);
    void this.promises.watch('enqueue', process, DEFAULTS.enqueueTimeoutMs + 3000, enqueued).then(
      (ids) => {
        this.#outstanding--;
        for (const [i, id] of ids.entries()) this.#acknowledged(id, (works[i] as Work).k);
      },
      (error: unknown) => {
        this.#outstanding--;
        this.allow('enqueue', error, NOT_ENQUEUED);
      },
    );
  }

  /** Tasks that depend on each other, and on what this client knows. */
  #flow(process: SimProcess, client: Client): void {
    const { random } = this;
    const works = Array.from({ length: random.int(2, 7) }, () => this.#work(random));
    const earlier = Array.from(
      { length: this.#known.length > 0 ? random.int(0, 2) : 0 },
      () => random.pick(this.#known).id,
    );
    this.#outstanding++;
    const submitted = client.flow((builder) => {
      const refs: FlowTask[] = [];
      for (const work of works) {
        const options = this.#enqueueOptions(random);
        const parents: (FlowTask | string)[] = refs.filter(() => random.chance(0.4));
        for (const id of new Set(earlier)) if (random.chance(0.3)) parents.push(id);
        const dependsOn = parents.map((task) => ({
          task,
          onFailure: random.pick(['cancel', 'run', 'run', 'wait'] as const),
        }));
        const name = random.pick(['single', 'parents', 'bulk']);
        refs.push(builder.add(name, work, dependsOn.length === 0 ? options : { ...options, dependsOn }));
      }
    });
    void this.promises.watch('flow', process, DEFAULTS.enqueueTimeoutMs + 3000, submitted).then(
      ({ tasks }) => {
        this.#outstanding--;
        for (const [i, { id }] of tasks.entries()) this.#acknowledged(id, (works[i] as Work).k);
      },
      (error: unknown) => {
        this.#outstanding--;
        this.allow('flow', error, [...NOT_ENQUEUED, 'NOT_FOUND']);
      },
    );
  }

  #acknowledged(id: string, key: string): void {
    const task = [...(this.world.model.submissions.get(key)?.ids ?? [])]
      .map((number) => this.world.model.task(number))
      .find((facts) => facts?.confirmed === true && !facts.vanished && formatTaskId(facts.id) === id);
    if (task === undefined) throw new Violation('ack-invented', `${this.name} was told that ${key} is ${id}`);
    this.#known.push({ id, key });
    if (this.#known.length > IDS_KEPT) this.#known.shift();
  }

  #limits(random: SimRandom): QueueLimitsChange {
    const rate = { count: random.int(20, 200), periodMs: 1000, burst: random.int(1, 20) };
    return {
      concurrency: random.pick([null, null, random.int(1, 20)]),
      concurrencyPerKey: random.pick([null, random.int(1, 5)]),
      rate: random.pick([null, null, rate]),
      length: random.pick([null, null, random.int(10, 100)]),
    };
  }

  #enqueueOptions(random: SimRandom): EnqueueOptions {
    const options: EnqueueOptions = { queue: random.pick(QUEUES), maxAttempts: random.int(1, 4) };
    if (random.chance(0.5)) options.priority = random.pick([0, 4, 4, 7, 9]);
    options.timeoutMs = random.pick([500, 2000, 20_000]);
    if (random.chance(0.2)) options.concurrencyKey = random.pick(['x', 'y', 'z']);
    const backoff = { type: random.pick(['fixed', 'exponential'] as const), jitter: random.chance(0.5) };
    options.backoff = { ...backoff, delayMs: Math.round(random.magnitude(1, 3000)), maxDelayMs: 10_000 };
    if (this.#without.has('delays') || random.chance(0.7)) return options;
    const ms = Math.round(random.magnitude(1, 60_000));
    if (random.chance(0.6)) options.delayMs = ms;
    else options.runAt = (this.process as SimProcess).clock.wallMs() + ms - random.int(0, 2000);
    return options;
  }

  #work(random: SimRandom): Work {
    const without = this.#without;
    const act = random.weighted({
      return: 4,
      wait: 5,
      hang: without.has('hangs') ? 0 : 0.5,
      kill: without.has('kills') ? 0 : 0.2,
    });
    const fails = without.has('failures') || random.chance(0.7) ? 0 : random.int(1, 4);
    const how = random.weighted({ throw: 6, fatal: 1, later: 1 });
    const work = { k: `${this.name}-${++this.#serial}`, act, ms: Math.round(random.magnitude(1, 1500)), fails, how };
    if (without.has('large') || random.chance(0.6)) return work;
    return { ...work, pad: '.'.repeat(Math.round(random.magnitude(1, random.chance(0.02) ? 60_000 : 2000))) };
  }

  // ── Reading ───────────────────────────────────────────────────────────────────────────────────────────────────────

  #result(process: SimProcess, client: Client, known: { id: string; key: string }): void {
    const timeoutMs = Math.round(this.random.magnitude(10, 60_000));
    const result = client.task<{ k: string } | undefined>(known.id).result({ timeoutMs });
    this.#outstanding++;
    // Sweeps of many waits come a little late.
    void this.promises.watch(`result of ${known.id} within ${timeoutMs} ms`, process, timeoutMs + 1000, result).then(
      (value) => {
        this.#outstanding--;
        if (value !== undefined && value.k !== known.key) {
          throw new Violation('wrong-result', `${known.id} is ${known.key} and has the result of ${value.k}`);
        }
      },
      (error: unknown) => {
        this.#outstanding--;
        this.allow('result', error, [
          'TIMEOUT',
          'CLOSED',
          'TASK_DEAD',
          'TASK_CANCELLED',
          'NOT_FOUND',
          'STORAGE_FAILED',
        ]);
      },
    );
  }

  #get(process: SimProcess, client: Client, known: { id: string; key: string }): void {
    const info = client.tasks.get(known.id).then(({ payload }) => {
      const key = keyOf(String(payload?.data));
      if (key !== known.key) throw new Violation('wrong-payload', `${known.id} is ${known.key} and shows ${key}`);
    });
    this.#call('get', process, info, []);
  }
}

// ── Workers ─────────────────────────────────────────────────────────────────────────────────────────────────────────

export class WorkerProgram extends SimProgram {
  started = 0;

  protected begin(process: SimProcess, client: Client): void {
    const { random } = this;
    const concurrency = random.pick([1, 2, 5, 20]);
    const prefetch = concurrency + random.pick([0, 0, 1, 10]);
    const all = [...QUEUES, ...SCHEDULES];
    const queues = this.name === 'worker0' || random.chance(0.7) ? all : all.filter(() => random.chance(0.6));
    const bulk = defineTask<Work, unknown>('bulk').handleBatch((batch) => this.#bulk(process, [...batch], batch), {
      batchSize: random.int(1, concurrency),
    });
    const checked = defineTask<Work, unknown>('checked').handle(async (work, context) =>
      this.#run(process, work, context),
    );
    const parents = defineTask<Work, unknown>('parents').handle(async (work, context) => {
      const known = await context.parents().catch((error: unknown) => {
        // Without its server a worker goes on; nobody waits for what it does then.
        this.allow('parents', error, ['TIMEOUT', 'CLOSED', 'NOT_FOUND', 'STORAGE_FAILED', 'DISCONNECTED']);
        return [];
      });
      for (const { id, state, result } of known) {
        const key = this.world.model.task(parseTaskId(id))?.key;
        const told = (result as { k?: string } | undefined)?.k;
        if (told !== undefined && told !== key) throw new Violation('wrong-result', `${id} is ${key}, not ${told}`);
        const child = this.world.model.task(parseTaskId(context.id));
        const isLost = state === 'unknown' && child?.revived === false && !child.mayHaveEnded;
        if (isLost) throw new Violation('parent-forgotten', `${context.id} depends on ${id}, which is unknown`);
      }
      return this.#run(process, work, context);
    });
    const any = defineTask<Work, unknown>('*').handle((work, context) => this.#run(process, work, context));
    // A worker waits without limit for a server that does not answer; one that is closed meanwhile is told so.
    const options = { queues: queues.length > 0 ? queues : ['a'], concurrency, prefetch };
    void client.work([bulk, checked, parents, any], options).then(
      (worker) => {
        void worker.ended.then((error) => {
          if (error !== undefined) this.allow('worker', error, ['DISCONNECTED']);
        });
      },
      (error: unknown) => {
        this.allow('work', error, ['CLOSED', 'DISCONNECTED', 'TIMEOUT']);
        // As a program does that cannot do what it is for; one that is being stopped ends by itself.
        if (!this.stopping) this.end(false);
      },
    );
  }

  #run(process: SimProcess, work: Work, context: TaskContext): unknown {
    this.started++;
    const { scheduler } = this.world;
    scheduler.note(`${process.name} runs ${work.k} (${context.id}), attempt ${context.attempt}: ${work.act}`);
    if (this.random.chance(0.1)) this.#progress(context, '');
    const end = (): unknown => {
      if (context.attempt <= work.fails) throw failure(work);
      return work.ms % 5 === 0 ? undefined : { k: work.k, a: context.attempt };
    };
    if (work.act === 'return') return end();
    if (this.stallsWhenBusyMs > 0) {
      process.stalledUntilMs = scheduler.nowMs + this.stallsWhenBusyMs;
      this.stallsWhenBusyMs = 0;
    }
    // Takes its worker with it, soon after it began.
    if (work.act === 'kill') scheduler.schedule(work.ms % 20, process, 'kill', () => this.end(false));
    const waitMs = work.act === 'wait' ? work.ms : work.act === 'hang' ? 25_000 : 1e6;
    if (this.world.options.chatty) this.#chat(process, context, waitMs / CHATS);
    return new Promise((resolve, reject) => {
      const timer = process.clock.setTimer(waitMs, () => {
        try {
          resolve(end());
        } catch (error) {
          reject(error);
        }
      });
      if (work.ms % 2 === 0) {
        context.signal.addEventListener('abort', () => {
          timer.cancel();
          reject(context.signal.reason);
        });
      }
    });
  }

  #progress(context: TaskContext, pad: string): void {
    context.progress({ at: this.world.scheduler.nowMs, pad });
    this.world.events.progressed(context.id, context.attempt);
  }

  /** As much progress as one may have, again and again. */
  #chat(process: SimProcess, context: TaskContext, everyMs: number): void {
    let left = CHATS;
    const next = (): void => {
      if (--left < 0 || context.signal.aborted) return;
      this.#progress(context, '.'.repeat(4000));
      process.clock.setTimer(everyMs, next);
    };
    next();
  }

  #bulk(
    process: SimProcess,
    works: readonly Work[],
    batch: { attempt: number; fail(index: number, error: unknown): void },
  ): Promise<unknown[] | undefined> {
    this.started += works.length;
    for (const [i, work] of works.entries()) {
      this.world.scheduler.note(`${process.name} runs ${work.k} in a batch, attempt ${batch.attempt}`);
      if (batch.attempt <= work.fails) batch.fail(i, failure(work));
    }
    const [first] = works as [Work];
    return new Promise((resolve) => {
      const results = first.ms % 3 === 0 ? undefined : works.map(({ k }) => ({ k }));
      process.clock.setTimer(first.ms, () => resolve(results));
    });
  }
}

function failure(work: Work): Error {
  if (work.how === 'fatal') return new FatalTaskError(`${work.k} fails for good`);
  if (work.how === 'later') return new RetryLater(work.ms, `${work.k} later`);
  return new MillraceError('INVALID_PAYLOAD', `${work.k} fails`);
}
