// @ts-check
// The producer or the consumer of one row, in a process of its own.
import { Ledger } from '../../dist/bench/ledger.js';
import { answerParent } from '../../dist/bench/methods.js';
import { nowNs, percentile, sharedNs } from '../../dist/bench/numbers.js';
import { buildPayload, buildTimedPayload, indexOf } from '../../dist/bench/payload.js';
import { systemNamed } from '../systems/index.mjs';

/** More than any row has: how many there will be is not known when the consumer starts. */
const LEDGER_TASKS = 1 << 24;
/** How often is looked whether anything still comes. */
const LOOK_MS = 20;

/** @type {import('./system.mjs').Producer | undefined} */
let producer;
/** @type {import('./system.mjs').System | undefined} */
let system;

/**
 * @typedef {object} Span Nanoseconds of the clock that is common to all processes.
 * @property {number} tasks
 * @property {number} startNs Of the first call.
 * @property {number} endNs When the last was confirmed.
 */

const producing = {
  /** @param {{ name: string, url: string, queue: string }} options */
  async produce({ name, url, queue }) {
    system = systemNamed(name);
    producer = await system.produce(url, queue);
  },

  /**
   * Batches, as many in flight as the system does best with: so many tasks, or what is begun in so much time.
   *
   * @param {{ first: number, tasks: number, forMs: number }} options
   * @returns {Promise<Span>}
   */
  async bulk({ first, tasks, forMs }) {
    const { enqueueBatch, batchTasks, batchesInFlight } = producing_();
    const startNs = sharedNs();
    /** @type {Promise<unknown>[]} */
    const inFlight = [];
    let from = first;
    const end = first + tasks;
    while (from < end && sharedNs() - startNs < forMs * 1e6) {
      if (inFlight.length === batchesInFlight) await inFlight.shift();
      const count = Math.min(batchTasks, end - from);
      const payloads = new Array(count);
      for (let index = 0; index < count; index++) payloads[index] = buildPayload(from + index);
      inFlight.push(enqueueBatch(payloads));
      from += count;
    }
    await Promise.all(inFlight);
    return { tasks: from - first, startNs, endNs: sharedNs() };
  },

  /**
   * Callers that each await their enqueue before they make the next; with one, also how long that takes.
   *
   * @param {{ first: number, callers: number, forMs: number }} options
   * @returns {Promise<Span & { p50Us: number }>}
   */
  async awaited({ first, callers, forMs }) {
    const { enqueue } = producing_();
    let next = first;
    /** @type {number[]} */
    const tookNs = [];
    const startNs = sharedNs();
    const caller = async () => {
      while (sharedNs() - startNs < forMs * 1e6) {
        const payload = buildPayload(next++);
        const calledNs = nowNs();
        await enqueue(payload);
        if (callers === 1) tookNs.push(nowNs() - calledNs);
      }
    };
    await Promise.all(Array.from({ length: callers }, caller));
    const p50Us = callers === 1 ? percentile(Float64Array.from(tookNs), 0.5) / 1000 : 0;
    return { tasks: next - first, startNs, endNs: sharedNs(), p50Us };
  },

  /**
   * Tasks at an even pace, whatever became of those before. What falls due in the same moment goes in one call.
   *
   * @param {{ tasks: number, perSecond: number }} options
   * @returns {Promise<Span>} Ends with the last call, not with its confirmation.
   */
  async paced({ tasks, perSecond }) {
    const { enqueue, enqueueBatch, batchTasks } = producing_();
    /** @type {Set<Promise<unknown>>} */
    const inFlight = new Set();
    const startNs = sharedNs();
    for (let index = 0; index < tasks; ) {
      const dueNs = startNs + (index * 1e9) / perSecond;
      // A timer ends up to a millisecond late.
      while (sharedNs() < dueNs) {
        await new Promise((resolve) => setTimeout(resolve, Math.max(1, (dueNs - sharedNs()) / 1e6)));
      }
      const due = Math.floor(((sharedNs() - startNs) * perSecond) / 1e9) + 1 - index;
      const count = Math.max(1, Math.min(due, batchTasks, tasks - index));
      const calledNs = sharedNs();
      const payloads = Array.from({ length: count }, (_, offset) => buildTimedPayload(index + offset, calledNs));
      const call = count === 1 ? enqueue(payloads[0]) : enqueueBatch(payloads);
      inFlight.add(call);
      call.then(
        () => inFlight.delete(call),
        // Stays in the set, and so fails the run at the end.
        () => {},
      );
      index += count;
      // Behind its time it never sleeps above: what was called must get out all the same.
      if (due > batchTasks) await new Promise((resolve) => setImmediate(resolve));
    }
    const endNs = sharedNs();
    await Promise.all(inFlight);
    return { tasks, startNs, endNs };
  },
};

/** @type {import('./system.mjs').Consumer | undefined} */
let consumer;
let ledger = new Ledger(0);
let last = -1;
let firstNs = 0;
let latenciesNs = new Float64Array(0);
/** When that many had been processed, the clock was read. */
let timedFrom = 0;
let fromNs = 0;

/** @param {any} payload */
async function handle(payload) {
  const index = indexOf(payload);
  if (payload.calledAtNs !== undefined) latenciesNs[index] = sharedNs() - payload.calledAtNs;
  if (firstNs === 0) firstNs = sharedNs();
  ledger.mark(index);
  if (index > last) last = index;
  if (ledger.seen === timedFrom) fromNs = sharedNs();
  if (ledger.seen === target) onTarget();
}

/** How many different tasks are waited for. */
let target = 0;
let onTarget = () => {};

const consuming = {
  /** @param {{ name: string }} options */
  async load({ name }) {
    await systemNamed(name).load();
  },

  /**
   * `timedFrom`: after so many tasks the clock of a drain starts. `timed`: how many carry the moment of their call.
   *
   * @param {{ name: string, url: string, queue: string, timedFrom?: number, timed?: number }} options
   */
  async consume({ name, url, queue, timedFrom: from = 0, timed = 0 }) {
    ledger = new Ledger(LEDGER_TASKS);
    timedFrom = from;
    latenciesNs = new Float64Array(timed);
    consumer = await systemNamed(name).consume(url, queue, handle, { isPaced: timed > 0 });
  },

  /**
   * Resolves when so many were processed, or none has come for `quietMs`, or `boundMs` after the first.
   *
   * @param {{ tasks: number, quietMs: number, boundMs?: number }} options
   */
  async reach({ tasks, quietMs, boundMs = Number.POSITIVE_INFINITY }) {
    let { marks } = ledger;
    let changedNs = sharedNs();
    await new Promise((resolve) => {
      target = tasks;
      const timer = setInterval(() => {
        const now = sharedNs();
        if (ledger.marks !== marks) {
          marks = ledger.marks;
          changedNs = now;
        } else if (now - changedNs > quietMs * 1e6) onTarget();
        if (firstNs !== 0 && now - firstNs > boundMs * 1e6) onTarget();
      }, LOOK_MS);
      onTarget = () => {
        clearInterval(timer);
        resolve(undefined);
      };
      if (ledger.seen >= tasks) onTarget();
    });
    const { seen, duplicated, foreign } = ledger;
    return { seen, duplicated, foreign, last, firstNs, atNs: sharedNs() };
  },

  /**
   * Resolves when the server has every completion. `warmUp`: the latencies of the first are not counted.
   *
   * @param {{ warmUp?: number }} options
   */
  async settle({ warmUp = 0 }) {
    await consumer?.settle();
    const settledNs = sharedNs();
    const { seen, duplicated, foreign } = ledger;
    const measured = latenciesNs.subarray(warmUp);
    const latencyMs =
      measured.length === 0 ? null : { p50: percentile(measured, 0.5) / 1e6, p99: percentile(measured, 0.99) / 1e6 };
    return { settledNs, firstNs, fromNs, latencyMs, seen, duplicated, foreign, last };
  },
};

export const methods = { ...producing, ...consuming };

function producing_() {
  if (producer === undefined || system === undefined) throw new Error('it was not told what to produce for');
  const { batchTasks, batchesInFlight } = system;
  const { enqueue, enqueueBatch } = producer;
  return { enqueue, enqueueBatch, batchTasks, batchesInFlight };
}

answerParent(methods, async () => {
  // What hangs in a client must not keep the process.
  await Promise.race([
    Promise.allSettled([consumer?.close(), producer?.close()]),
    new Promise((resolve) => setTimeout(resolve, 2000)),
  ]);
});
