import { setTimeout as sleep } from 'node:timers/promises';
import type { TaskContext } from '../../src/index.ts';
import { Book } from './book.ts';
import { nowMs, type Payload, QUEUE, TICKS } from './manners.ts';
import { product } from './product.ts';

/** A process that works until it is killed, or told to stop by SIGTERM. */
interface Orders {
  readonly url: string;
  readonly store?: string;
  readonly name: string;
  readonly book: string;
}

const CONCURRENCY = 40;
const TASK_MS_MAX = 20;

const { url, store, name, book: path } = JSON.parse(process.argv[2] as string) as Orders;
const book = new Book(path);
const { connect } = await product();
const client = await connect(url, { name, store, connectTimeoutMs: 60_000, reconnect: { maxDelayMs: 500 } });

async function work(input: unknown, context: TaskContext): Promise<string> {
  const { key, manner, sentMs } = input as Payload;
  const { attempt } = context;
  const beganMs = nowMs();
  book.write('s', key, attempt, beganMs.toFixed(1), (beganMs - sentMs).toFixed(2));
  await sleep(Math.random() * TASK_MS_MAX);
  if (manner === 'doomed') throw new Error(`doomed: attempt ${attempt}`);
  if (manner === 'flaky' && attempt === 1) throw new TypeError('flaky: the first attempt fails');
  if (manner === 'large') {
    context.progress(0.5, 'half');
    context.log('half of it is done');
  }
  book.write('e', key, nowMs().toFixed(1));
  return key;
}

await client.work({ work, tick: () => 'tick' }, { name, queues: [QUEUE, TICKS], concurrency: CONCURRENCY });
process.stdout.write('ready\n');
process.once('SIGTERM', () => {
  void client.close();
});
