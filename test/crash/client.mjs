import { Ledger } from './ledger.mjs';
import { millrace } from './product.mjs';
import { Random } from './random.mjs';
import { drawManner, MANNERS } from './workload.mjs';

// Enqueues until its standard input ends, but for while the last word on it is `pause` and not `go`; then waits for what it
// has not been answered yet.
const [url, name, path, seed] = process.argv.slice(2);
const ledger = new Ledger(path);
const random = new Random(Number(seed));
const { MillraceError } = millrace;

const client = await millrace.connect(url, {
  name,
  reconnect: { initialDelayMs: 10, maxDelayMs: 200 },
  connectTimeoutMs: 3_600_000,
  enqueueTimeoutMs: 120_000,
});
let stopping = false;
let lastKey = 0;
/** @type {Set<Promise<void>>} */
const waits = new Set();
let going = Promise.resolve();
let go = () => {};
process.stdin.setEncoding('utf8');
process.stdin.on('data', (word) => {
  go();
  if (!String(word).endsWith('pause')) return;
  going = new Promise((resolve) => {
    go = resolve;
  });
});
process.stdin.on('end', () => {
  stopping = true;
  go();
});

async function enqueueOne() {
  const manner = drawManner(random);
  const key = `${name}-${++lastKey}`;
  ledger.write('attempt', { key, manner });
  try {
    const task = await client.enqueue('crash', { key, manner }, MANNERS[manner].options);
    ledger.write('acknowledged', { key, id: task.id });
    if (random.chance(0.3)) wait(key, task);
  } catch (error) {
    refused([key], error);
  }
}

async function enqueueMany() {
  const manner = drawManner(random);
  const keys = Array.from({ length: random.integer(2, 30) }, () => `${name}-${++lastKey}`);
  for (const key of keys) ledger.write('attempt', { key, manner });
  try {
    const payloads = keys.map((key) => ({ key, manner }));
    const { ids } = await client.enqueueMany('crash', payloads, MANNERS[manner].options);
    for (const [index, key] of keys.entries()) ledger.write('acknowledged', { key, id: ids.at(index) });
  } catch (error) {
    refused(keys, error);
  }
}

/**
 * @param {readonly string[]} keys
 * @param {unknown} error
 */
function refused(keys, error) {
  for (const key of keys) ledger.write('refused', { key, error: String(error) });
}

/**
 * @param {string} key
 * @param {{ id: string, result(options: { timeoutMs: number }): Promise<unknown> }} task
 */
function wait(key, task) {
  const waiting = task.result({ timeoutMs: 600_000 }).then(
    (result) => ledger.write('result', { key, id: task.id, state: 'completed', result }),
    (error) => {
      const state = error instanceof MillraceError && error.code === 'TASK_DEAD' ? 'dead' : String(error);
      ledger.write('result', { key, id: task.id, state });
    },
  );
  waits.add(waiting);
  void waiting.then(() => waits.delete(waiting));
}

async function enqueueOnAndOn() {
  for (;;) {
    await going;
    if (stopping) return;
    const draw = random.float();
    if (draw < 0.1) await enqueueMany();
    else if (draw < 0.2) await Promise.all(Array.from({ length: 10 }, enqueueOne));
    else await enqueueOne();
    await new Promise((resolve) => setTimeout(resolve, random.integer(0, 20)));
  }
}

await Promise.all(Array.from({ length: 4 }, enqueueOnAndOn));
await Promise.all(waits);
await client.close();
