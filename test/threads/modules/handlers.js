import { getEnvironmentData, threadId } from 'node:worker_threads';
import { defineTask, FatalTaskError, RetryLater } from 'millrace';

/** Words that tests and handlers share: how many handlers have come to a point, and whether they may go on. */
const words = getEnvironmentData('words');

const seen = [];

const plain = (name, run) => defineTask(name).handle(run);

function keepThread() {
  for (;;);
}

/** Keeps the thread until so many threads are here. */
export const meet = plain('meet', ({ word, threads }) => {
  Atomics.add(words, word, 1);
  Atomics.notify(words, word);
  for (let here = Atomics.load(words, word); here < threads; here = Atomics.load(words, word)) {
    Atomics.wait(words, word, here, 5000);
  }
  return threadId;
});

/** Waits for a word without keeping the thread. */
async function until(word, signal) {
  const slice = () => new Promise((resolve) => setTimeout(resolve, 2));
  while (Atomics.load(words, word) === 0) {
    signal?.throwIfAborted();
    await slice();
  }
}

export const where = plain('where', () => threadId);
export const context = plain('context', (input, ctx) => {
  const { id, name, queue, attempt, maxAttempts, enqueuedAt, headers } = ctx;
  ctx.log('a line');
  ctx.progress(0.5, 'half');
  return { input, id, name, queue, attempt, maxAttempts, enqueuedAt, headers };
});
export const sum = plain('sum', async (_input, ctx) => {
  const parents = await ctx.parents();
  return parents.reduce((total, { result }) => total + result, 0);
});
export const number = plain('number', (input) => input);
export const order = plain('order', (input) => {
  seen.push(input);
  return input === 'last' ? seen : undefined;
});
export const reverse = defineTask('reverse', { payload: 'bytes', result: 'bytes' }).handle((bytes) =>
  Uint8Array.from(bytes).reverse(),
);
/** A schema by hand: those of libraries take longer to load than everything else. */
const schema = (check) => ({
  '~standard': {
    version: 1,
    vendor: 'tests',
    validate: (value) => check(value) ?? { issues: [{ message: `is ${JSON.stringify(value)}` }] },
  },
});

export const resize = defineTask('resize', {
  input: schema(({ width }) => (typeof width === 'string' ? { value: { width: Number(width) } } : undefined)),
  output: schema((value) => (typeof value.pixels === 'number' ? { value } : undefined)),
}).handle(async ({ width }) => ({ pixels: width === 0 ? 'none' : width * width }));
export const thrower = plain('thrower', ({ how }) => {
  if (how === 'fatal') throw new FatalTaskError('for good');
  if (how === 'later') throw new RetryLater(60_000, 'in a minute');
  if (how === 'function') throw () => {};
  throw new TypeError('not so', { cause: new Error('the reason') });
});
export const circle = plain('circle', () => {
  const it = {};
  it.self = it;
  return it;
});
/** Keeps its thread until it may go on; ends it then if it is to. */
export const held = plain('held', ({ word, go, exit }) => {
  Atomics.add(words, word, 1);
  while (Atomics.load(words, go) === 0) Atomics.wait(words, go, 0, 5);
  if (exit) process.exit(3);
});
/** Never ends, keeps its thread, and shows that it goes on. */
export const ticking = plain('ticking', ({ word }) => {
  for (;;) {
    Atomics.add(words, word, 1);
    Atomics.notify(words, word);
  }
});
export const busy = plain('busy', (input) => {
  Atomics.add(words, input.word, 1);
  keepThread();
});
export const obedient = plain('obedient', async ({ word, go }, ctx) => {
  Atomics.add(words, word, 1);
  await until(go, ctx.signal);
  return threadId;
});
export const stubborn = plain('stubborn', async ({ word }) => {
  Atomics.add(words, word, 1);
  await new Promise(() => setInterval(() => {}, 1000));
});
export const exit = plain('exit', () => process.exit(3));
export const later = plain('later', async () => {
  setImmediate(() => {
    throw new Error('nobody catches this');
  });
  await new Promise(() => {});
});
/** Keeps its thread when it has ended. */
export const untidy = plain('untidy', ({ word }) => {
  setImmediate(() => {
    Atomics.add(words, word, 1);
    keepThread();
  });
});
export const hungry = plain('hungry', () => {
  const all = [];
  for (;;) all.push(new Array(100_000).fill(all.length));
});
