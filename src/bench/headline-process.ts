import { connect, defineTask } from '../index.ts';
import { type HeadlinePayload, headlinePayload, headlineSum } from './headline.ts';
import { Ledger } from './ledger.ts';
import { answerParent } from './methods.ts';
import { spread } from './numbers.ts';
import { QUIET_MS } from './stage.ts';

const task = defineTask<HeadlinePayload>('bench.sum');

interface Round {
  tookMs: number;
  lost: number;
  duplicated: number;
}

const methods = {
  /** The first round is given by itself: V8 compiles during it. */
  async drain({ tasks, warmUp, rounds }: { tasks: number; warmUp: number; rounds: number }) {
    const payloads = Array.from({ length: tasks }, (_, index) => headlinePayload(index));
    const all: Round[] = [];
    for (let round = 0; round < 1 + warmUp + rounds; round++) all.push(await drainOnce(payloads));
    const sum = (of: (round: Round) => number): number => all.reduce((total, round) => total + of(round), 0);
    return {
      firstMs: all[0]?.tookMs ?? 0,
      tookMs: all.slice(1 + warmUp).map(({ tookMs }) => tookMs),
      parseMs: parseAlone(
        payloads.map((payload) => JSON.stringify(payload)),
        rounds,
      ),
      lost: sum(({ lost }) => lost),
      duplicated: sum(({ duplicated }) => duplicated),
    };
  },
};

export type HeadlineMethods = typeof methods;

/** From the call of `work` to the moment when every completion was confirmed; a queue in memory of its own each time. */
async function drainOnce(payloads: readonly HeadlinePayload[]): Promise<Round> {
  const ledger = new Ledger(payloads.length);
  const client = await connect('memory:');
  await client.enqueueMany(task, payloads);
  let sum = 0;
  let drained = (): void => {};
  const allDone = new Promise<void>((resolve) => {
    drained = resolve;
  });
  // What is missing then is lost.
  const timer = setTimeout(drained, QUIET_MS);
  const handler = task.handleBatch((batch) => {
    for (const { id, value } of batch.inputs) {
      sum += value;
      ledger.mark(id);
    }
    if (ledger.seen === payloads.length) drained();
  });
  const startMs = performance.now();
  const worker = await client.work([handler]);
  await allDone;
  await worker.stop();
  const tookMs = performance.now() - startMs;
  clearTimeout(timer);
  const { queues } = await client.status();
  await client.close();
  const completed = queues[0]?.completed;
  if (ledger.lost === 0 && (sum !== headlineSum(payloads.length) || completed !== payloads.length)) {
    const message = `the sum is ${sum} and ${completed} are completed; it should be ${headlineSum(payloads.length)} of ${payloads.length}`;
    throw new Error(message);
  }
  return { tookMs, lost: ledger.lost, duplicated: ledger.duplicated + ledger.foreign };
}

/** What no queue in this language can be faster than, on one core. */
function parseAlone(texts: readonly string[], rounds: number): number {
  const tookMs: number[] = [];
  for (let round = 0; round < 2 * rounds; round++) {
    const startMs = performance.now();
    let sum = 0;
    for (const text of texts) sum += (JSON.parse(text) as HeadlinePayload).value;
    tookMs.push(performance.now() - startMs);
    if (sum !== headlineSum(texts.length)) throw new Error(`the sum is ${sum}`);
  }
  return spread(tookMs.slice(rounds)).median;
}

answerParent(methods, async () => {});
