// @ts-check
// The producer or the consumer of one row, in a process of its own.
import { Ledger } from '../../dist/bench/ledger.js';
import { answerParent } from '../../dist/bench/methods.js';
import { nowNs, percentile, sharedNs } from '../../dist/bench/numbers.js';
import { buildPayload, buildTimedPayload, indexOf } from '../../dist/bench/payload.js';
import { Outstanding, sendBatches, sleepUntil } from '../../dist/bench/producing.js';
import { systemNamed } from '../systems/index.mjs';

/** More than any row has: how many there will be is not known when the consumer starts. */
const LEDGER_TASKS = 1 << 24;

/** @type {import('./system.mjs').Producer | undefined} */
let producer;
/** @type {import('./system.mjs').System | undefined} */
let system;

/** @typedef {import('../../dist/bench/producing.js').Span & { tasks: number }} Span */

const producing = {
  /** @param {{ name: string, url: string, queue: string, manner: import('./system.mjs').Manner }} options */
  async produce({ name, url, queue, manner }) {
    system = systemNamed(name);
    producer = await system.produce(url, queue, manner);
  },

  /**
   * Batches, as many in flight as the system does best with: so many tasks, or what is begun in so much time.
   *
   * @param {{ first: number, tasks: number, forMs: number }} numbers
   * @returns {Promise<Span>}
   */
  async bulk(numbers) {
    const { enqueueBatch, batchTasks, batchesInFlight } = told();
    return await sendBatches({
      ...{ ...numbers, batchTasks, callsInFlight: batchesInFlight, build: buildPayload },
      send: (payloads) => enqueueBatch(payloads),
    });
  },

  /**
   * Callers that each await their enqueue before they make the next; with one, also how long that takes.
   *
   * @param {{ first: number, callers: number, forMs: number }} options
   * @returns {Promise<Span & { p50Us: number }>}
   */
  async awaited({ first, callers, forMs }) {
    const { enqueue } = told();
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
    const { enqueue, enqueueBatch, batchTasks } = told();
    const calls = new Outstanding();
    const startNs = sharedNs();
    for (let index = 0; index < tasks; ) {
      const dueNs = startNs + (index * 1e9) / perSecond;
      if (sharedNs() < dueNs) await sleepUntil(dueNs);
      const due = Math.floor(((sharedNs() - startNs) * perSecond) / 1e9) + 1 - index;
      const count = Math.max(1, Math.min(due, batchTasks, tasks - index));
      const calledNs = sharedNs();
      const payloads = Array.from({ length: count }, (_, offset) => buildTimedPayload(index + offset, calledNs));
      calls.add(count === 1 ? enqueue(payloads[0]) : enqueueBatch(payloads));
      index += count;
      // Behind its time it never sleeps above: what was called must get out all the same.
      if (due > batchTasks) await new Promise((resolve) => setImmediate(resolve));
    }
    const endNs = sharedNs();
    await calls.settled();
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

/** @type {import('./system.mjs').Handler} */
async function handle(payload) {
  // What is no payload of ours has no number, and so is foreign to the ledger.
  const { number = Number.NaN, calledAtNs } = /** @type {{ number?: number, calledAtNs?: number }} */ (payload ?? {});
  const index = indexOf({ number });
  if (calledAtNs !== undefined) latenciesNs[index] = sharedNs() - calledAtNs;
  if (firstNs === 0) firstNs = sharedNs();
  ledger.mark(index);
  if (index > last) last = index;
  if (ledger.seen === timedFrom) fromNs = sharedNs();
}

const consuming = {
  /** @param {{ name: string }} options */
  async load({ name }) {
    await systemNamed(name).load();
  },

  /**
   * `timedFrom`: after so many tasks the clock of a drain starts. `timed`: how many carry the moment of their call.
   *
   * @param {{ name: string, url: string, queue: string, manner: import('./system.mjs').Manner, timedFrom?: number, timed?: number }} options
   */
  async consume({ name, url, queue, manner, timedFrom: from = 0, timed = 0 }) {
    ledger = new Ledger(LEDGER_TASKS);
    timedFrom = from;
    latenciesNs = new Float64Array(timed);
    consumer = await systemNamed(name).consume(url, queue, handle, manner);
  },

  /**
   * Resolves when so many were processed, or none has come for `quietMs`, or `boundMs` after the first.
   *
   * @param {{ tasks: number, quietMs: number, boundMs?: number }} options
   */
  async reach({ tasks, quietMs, boundMs = Number.POSITIVE_INFINITY }) {
    const isOver = () => firstNs !== 0 && sharedNs() - firstNs > boundMs * 1e6;
    await ledger.reach(tasks, { quietMs, isOver });
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

function told() {
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
