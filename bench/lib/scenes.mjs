// @ts-check
import { fileURLToPath } from 'node:url';
import { Child } from '../../dist/bench/child.js';
import { diskBytes } from '../../dist/bench/disk-bytes.js';
import { sharedNs } from '../../dist/bench/numbers.js';
import { bunProgram, nodeProgram } from './runtime.mjs';
import { atLeastOnce, atMostThose, exactlyOnce } from './verdict.mjs';
import { memoryBytes } from './weight.mjs';

/**
 * @typedef {import('./system.mjs').System} System
 * @typedef {import('./system.mjs').Instance} Instance
 * @typedef {import('./figures.mjs').RowName} RowName
 * @typedef {typeof import('./player.mjs').methods} PlayerMethods
 *
 * @typedef {object} Sizes Milliseconds unless said otherwise.
 * @property {number} warmUpMs What goes first and is not counted: V8 compiles meanwhile.
 * @property {number} bulkMs
 * @property {number} oneMs
 * @property {number} callersMs
 * @property {number} endToEndMs
 * @property {number} pacedWarmUpMs At the same pace: what gathers while V8 compiles has to be worked off as well before what is counted begins.
 * @property {number} pacedMs
 * @property {number} backlogTasks
 * @property {number} backlogBoundMs For queueing them, and again for working them off.
 *
 * @typedef {object} Sample What one run gave for one system.
 * @property {Record<string, number>} figures
 * @property {Record<string, number>} notes How many tasks a row had, how a pace was kept, and what was repeated after a crash.
 * @property {string[]} problems
 */

/** @type {Sizes} */
export const NORMAL = {
  warmUpMs: 500,
  bulkMs: 1500,
  oneMs: 1000,
  callersMs: 1500,
  endToEndMs: 2500,
  pacedWarmUpMs: 5000,
  pacedMs: 3000,
  backlogTasks: 1_000_000,
  backlogBoundMs: 20_000,
};

/** @type {Sizes} */
export const QUICK = {
  warmUpMs: 50,
  bulkMs: 100,
  oneMs: 100,
  callersMs: 100,
  endToEndMs: 200,
  pacedWarmUpMs: 100,
  pacedMs: 300,
  backlogTasks: 5000,
  backlogBoundMs: 3000,
};

const CALLERS = 256;
/** So much faster than with half as many tasks is faster. */
const FASTER = 1.15;
const WARM_UP_TASKS_MAX = 1_000_000;
const STEADY_PER_SECOND = 500;
/** As in the bench of Millrace alone: a fifth more goes first. */
const WARM_UP_SHARE = 0.2;
const PART_TIMEOUT_MS = 10 * 60_000;
/** A consumer that gets nothing for so long reports what is missing as lost. */
const QUIET_MS = 20_000;
const UNBOUNDED = Number.MAX_SAFE_INTEGER;

/**
 * All rows of one run for one system. Those that leave the queue empty share a server; the backlog has its own.
 *
 * @param {System} system
 * @param {readonly RowName[]} rows
 * @param {Sizes} sizes
 * @returns {Promise<Sample & { version: string }>}
 */
export async function play(system, rows, sizes) {
  const stage = new Stage(system, sizes);
  const light = rows.filter((row) => row !== 'backlog');
  if (light.length > 0) {
    await stage.withInstance(async (instance) => {
      for (const row of light) {
        await stage.within(row, () => SCENES[row](stage, instance));
        await instance.rest?.();
      }
    });
  }
  if (rows.includes('backlog')) {
    await stage.withInstance((instance) => stage.within('backlog', () => backlog(stage, instance)));
  }
  const { figures, notes, problems, version } = stage;
  return { figures, notes, problems, version };
}

/** The processes of one system in one run, and what came of it. */
class Stage {
  /** @type {Record<string, number>} */
  figures = {};
  /** @type {Record<string, number>} */
  notes = {};
  /** @type {string[]} */
  problems = [];
  version = '';
  /** @type {Child<PlayerMethods>[]} */
  #players = [];

  /**
   * @param {System} system
   * @param {Sizes} sizes
   */
  constructor(system, sizes) {
    this.system = system;
    this.sizes = sizes;
  }

  /** @param {(instance: Instance) => Promise<void>} use */
  async withInstance(use) {
    const instance = await this.system.start();
    this.version = instance.version;
    try {
      await use(instance);
    } finally {
      await this.#dismiss();
      await instance.stop();
    }
  }

  /**
   * What fails in one row does not take the others along.
   *
   * @param {RowName} row
   * @param {() => Promise<void>} scene
   */
  async within(row, scene) {
    try {
      await scene();
    } catch (error) {
      this.problems.push(`${row}: ${error instanceof Error ? error.message.split('\n')[0] : String(error)}`);
    } finally {
      await this.#dismiss();
    }
  }

  /**
   * @param {Instance} instance
   * @param {string} queue
   */
  async producer({ url }, queue) {
    const player = this.player('producer');
    const { name } = this.system;
    await player.call('produce', { name, url, queue, manner: mannerOf(queue) }, PART_TIMEOUT_MS);
    return player;
  }

  /**
   * @param {Instance} instance
   * @param {string} queue
   * @param {{ timedFrom?: number, timed?: number }} [options]
   */
  async consumer({ url }, queue, options = {}) {
    const player = await this.loaded();
    const { name } = this.system;
    await player.call('consume', { name, url, queue, manner: mannerOf(queue), ...options }, PART_TIMEOUT_MS);
    return player;
  }

  /** A consumer that only needs to be told what to consume. */
  async loaded() {
    const player = this.player('consumer');
    await player.call('load', { name: this.system.name }, PART_TIMEOUT_MS);
    return player;
  }

  /** @param {string} role */
  player(role) {
    const bun = this.system.runtime === 'bun';
    const execPath = bun ? /** @type {string} */ (bunProgram()) : nodeProgram();
    const file = fileURLToPath(new URL('player.mjs', import.meta.url));
    // Bun counts its time from its own start.
    const execArgv = bun ? ['--preload', fileURLToPath(new URL('bun-clock.mjs', import.meta.url))] : [];
    /** @type {Child<PlayerMethods>} */
    const player = Child.startProgram(`${this.system.name} ${role}`, { file, execPath, execArgv });
    this.#players.push(player);
    return player;
  }

  /**
   * @param {string} row
   * @param {string | undefined} problem
   */
  judge(row, problem) {
    if (problem !== undefined) this.problems.push(`${row}: ${problem}`);
  }

  async #dismiss() {
    await Promise.all(this.#players.map((player) => player.leave()));
    this.#players = [];
  }
}

/** @type {Record<Exclude<RowName, 'backlog'>, (stage: Stage, instance: Instance) => Promise<void>>} */
const SCENES = { bulk, one, callers, 'end-to-end': endToEnd, latency };

/** @param {Stage} stage @param {Instance} instance */
async function bulk(stage, instance) {
  const { warmUpMs, bulkMs } = stage.sizes;
  const producer = await stage.producer(instance, 'bulk');
  const warm = await producer.call('bulk', { first: 0, tasks: UNBOUNDED, forMs: warmUpMs }, PART_TIMEOUT_MS);
  const options = { first: warm.tasks, tasks: UNBOUNDED, forMs: bulkMs };
  const span = await producer.call('bulk', options, PART_TIMEOUT_MS);
  await producer.leave();
  stage.figures['enqueue-bulk'] = rate(span.tasks, span.startNs, span.endNs);
  const tasks = warm.tasks + span.tasks;
  const timedFrom = Math.ceil(tasks * (WARM_UP_SHARE / (1 + WARM_UP_SHARE)));
  const { settledNs, fromNs } = await drain(stage, instance, 'bulk', tasks, timedFrom);
  stage.figures.drain = rate(tasks - timedFrom, fromNs, settledNs);
  stage.notes.drainTasks = tasks;
}

/** @param {Stage} stage @param {Instance} instance */
async function one(stage, instance) {
  const { warmUpMs, oneMs } = stage.sizes;
  const producer = await stage.producer(instance, 'one');
  const warm = await producer.call('awaited', { first: 0, callers: 1, forMs: warmUpMs }, PART_TIMEOUT_MS);
  const options = { first: warm.tasks, callers: 1, forMs: oneMs };
  const { tasks, p50Us } = await producer.call('awaited', options, PART_TIMEOUT_MS);
  await producer.leave();
  stage.figures['enqueue-one'] = p50Us;
  await drain(stage, instance, 'one', warm.tasks + tasks, 0);
}

/** @param {Stage} stage @param {Instance} instance */
async function callers(stage, instance) {
  const { warmUpMs, callersMs } = stage.sizes;
  const producer = await stage.producer(instance, 'callers');
  const warm = await producer.call('awaited', { first: 0, callers: CALLERS, forMs: warmUpMs }, PART_TIMEOUT_MS);
  const options = { first: warm.tasks, callers: CALLERS, forMs: callersMs };
  const { tasks, startNs, endNs } = await producer.call('awaited', options, PART_TIMEOUT_MS);
  await producer.leave();
  stage.figures['enqueue-callers'] = rate(tasks, startNs, endNs);
  await drain(stage, instance, 'callers', warm.tasks + tasks, 0);
}

/** Producer and consumer at the same time. @param {Stage} stage @param {Instance} instance */
async function endToEnd(stage, instance) {
  const { warmUpMs, endToEndMs } = stage.sizes;
  const producer = await stage.producer(instance, 'ends');
  const consumer = await stage.consumer(instance, 'ends');
  const begun = await producer.call('bulk', { first: 0, tasks: UNBOUNDED, forMs: warmUpMs }, PART_TIMEOUT_MS);
  const begunEnd = await consumer.call('reach', { tasks: begun.tasks, quietMs: QUIET_MS }, PART_TIMEOUT_MS);
  let first = begun.tasks;
  let tasks = lasting(warmUpMs, rate(begun.tasks, begun.startNs, begunEnd.atNs));
  let perSecond = 0;
  // What is expected of cold processes is too little, and where consumers look now and then for what there is, a few tasks tell how
  // often they look: twice as many, until that makes it no faster.
  for (let faster = true; faster; ) {
    const [warm, warmEnd] = await Promise.all([
      producer.call('bulk', { first, tasks, forMs: UNBOUNDED }, PART_TIMEOUT_MS),
      consumer.call('reach', { tasks: first + tasks, quietMs: QUIET_MS }, PART_TIMEOUT_MS),
    ]);
    const before = perSecond;
    perSecond = rate(tasks, warm.startNs, warmEnd.atNs);
    faster = perSecond > before * FASTER && tasks < WARM_UP_TASKS_MAX;
    first += tasks;
    if (faster) tasks = Math.max(lasting(warmUpMs, perSecond), 2 * tasks);
  }
  tasks = Math.max(lasting(endToEndMs, perSecond), tasks);
  const total = first + tasks;
  const [span, report] = await Promise.all([
    producer.call('bulk', { first, tasks, forMs: UNBOUNDED }, PART_TIMEOUT_MS),
    finish(consumer, total),
  ]);
  stage.judge('end-to-end', exactlyOnce(total, report));
  stage.figures['end-to-end'] = rate(tasks, span.startNs, report.settledNs);
  stage.notes.endToEndTasks = tasks;
}

/** @param {Stage} stage @param {Instance} instance */
async function latency(stage, instance) {
  await paced(stage, instance, 'latency-500', STEADY_PER_SECOND);
  const maximum = stage.figures['end-to-end'];
  // Asked for without the row that tells it, there is no half of it.
  if (maximum === undefined) return;
  stage.figures.half = maximum / 2;
  await paced(stage, instance, 'latency-half', maximum / 2);
}

/**
 * @param {Stage} stage
 * @param {Instance} instance
 * @param {string} name
 * @param {number} perSecond
 */
async function paced(stage, instance, name, perSecond) {
  const { pacedWarmUpMs, pacedMs } = stage.sizes;
  const measured = Math.ceil((perSecond * pacedMs) / 1000);
  const warmUp = Math.ceil((perSecond * pacedWarmUpMs) / 1000);
  const tasks = warmUp + measured;
  const consumer = await stage.consumer(instance, name, { timed: tasks });
  const producer = await stage.producer(instance, name);
  const [span, report] = await Promise.all([
    producer.call('paced', { tasks, perSecond }, PART_TIMEOUT_MS),
    finish(consumer, tasks, warmUp),
  ]);
  stage.judge(name, exactlyOnce(tasks, report));
  stage.figures[`${name}-p50`] = report.latencyMs?.p50 ?? Number.NaN;
  stage.figures[`${name}-p99`] = report.latencyMs?.p99 ?? Number.NaN;
  stage.notes[`${name}-pace`] = rate(tasks, span.startNs, span.endNs) / perSecond;
  await Promise.all([producer.leave(), consumer.leave()]);
}

/** Tasks queue up with no consumer; the server is killed, started again and worked off. @param {Stage} stage @param {Instance} instance */
async function backlog(stage, instance) {
  const { backlogTasks, backlogBoundMs } = stage.sizes;
  const producer = await stage.producer(instance, 'backlog');
  const before = { memory: memoryBytes(instance.pids), disk: diskBytes(instance.directory) };
  const options = { first: 0, tasks: backlogTasks, forMs: backlogBoundMs };
  const { tasks } = await producer.call('bulk', options, PART_TIMEOUT_MS);
  stage.figures.memory = (memoryBytes(instance.pids) - before.memory) / tasks;
  stage.figures.disk = (diskBytes(instance.directory) - before.disk) / tasks;
  stage.notes.backlogTasks = tasks;
  await producer.leave();
  const consumer = await stage.loaded();
  await instance.kill();
  const startNs = sharedNs();
  await instance.start();
  const { name } = stage.system;
  const told = { name, url: instance.url, queue: 'backlog', manner: mannerOf('backlog') };
  await consumer.call('consume', told, PART_TIMEOUT_MS);
  const reached = await consumer.call('reach', { tasks, quietMs: QUIET_MS, boundMs: backlogBoundMs }, PART_TIMEOUT_MS);
  // What is not done by now says how fast it is; what is, must also be with the server.
  const report = reached.seen < tasks ? undefined : await consumer.call('settle', {}, PART_TIMEOUT_MS);
  if (reached.firstNs !== 0) stage.figures.restart = (reached.firstNs - startNs) / 1e9;
  const endNs = report?.settledNs ?? reached.atNs;
  stage.figures['backlog-drain'] = rate(reached.seen, reached.firstNs, endNs);
  stage.notes.backlogDrained = reached.seen;
  stage.notes.backlogRepeated = (report ?? reached).duplicated;
  const bounded =
    report === undefined && reached.firstNs !== 0 && reached.atNs - reached.firstNs >= backlogBoundMs * 1e6;
  if (bounded) {
    // Its end is the kill of everything: what it still holds need not be given back.
    stage.judge('backlog', atMostThose(tasks, reached));
  } else stage.judge('backlog', atLeastOnce(tasks, report ?? reached));
}

/**
 * A consumer that comes when everything is queued.
 *
 * @param {Stage} stage
 * @param {Instance} instance
 * @param {import('./figures.mjs').RowName} queue
 * @param {number} tasks
 * @param {number} timedFrom
 */
async function drain(stage, instance, queue, tasks, timedFrom) {
  const consumer = await stage.consumer(instance, queue, { timedFrom });
  const report = await finish(consumer, tasks);
  stage.judge(queue, exactlyOnce(tasks, report));
  await consumer.leave();
  return report;
}

/**
 * @param {Child<PlayerMethods>} consumer
 * @param {number} tasks
 * @param {number} [warmUp]
 */
async function finish(consumer, tasks, warmUp = 0) {
  await consumer.call('reach', { tasks, quietMs: QUIET_MS }, PART_TIMEOUT_MS);
  return await consumer.call('settle', { warmUp }, PART_TIMEOUT_MS);
}

/** Queues of rows that do not enqueue in batches. */
const SINGLE = ['one', 'callers', 'latency-500', 'latency-half'];

/** @param {string} queue @returns {import('./system.mjs').Manner} */
const mannerOf = (queue) => ({ isSingle: SINGLE.includes(queue) });

/** How many tasks take so long. @param {number} ms @param {number} perSecond */
const lasting = (ms, perSecond) => Math.max(1, Math.round((perSecond * ms) / 1000));

/**
 * Per second.
 *
 * @param {number} tasks
 * @param {number} startNs
 * @param {number} endNs
 */
function rate(tasks, startNs, endNs) {
  return tasks / ((endNs - startNs) / 1e9);
}
