import { millrace } from './product.mjs';

// A worker whose tasks say what it is to do to itself. Says `ready`, and each task that it starts.
const [url, concurrency = '2', prefix] = process.argv.slice(2);
const amqp = prefix === undefined ? {} : { amqp: { prefix } };
const client = await millrace.connect(url, { reconnect: { initialDelayMs: 10, maxDelayMs: 50 }, ...amqp });

await client.work(
  {
    /** Keeps the event loop from everything else for so many milliseconds. */
    block: (input, { id, attempt }) => {
      process.stdout.write(`start ${id} ${attempt}\n`);
      const endMs = performance.now() + Number(input);
      while (performance.now() < endMs);
      return { attempt, pid: process.pid };
    },
    /** Never ends. Says so when the server has been told that it began. */
    hang: (_input, { id, attempt }) => {
      setTimeout(() => process.stdout.write(`start ${id} ${attempt}\n`));
      return new Promise(() => {});
    },
    /** Ends when the process, which somebody froze, goes on. */
    thaw: (_input, { id, attempt }) => {
      const thawed = new Promise((resolve) => process.once('SIGCONT', resolve));
      process.stdout.write(`start ${id} ${attempt}\n`);
      return thawed.then(() => ({ attempt, pid: process.pid }));
    },
    /** Dies of it. */
    die: (_input, { id, attempt }) => {
      process.stdout.write(`start ${id} ${attempt}\n`);
      process.kill(process.pid, 'SIGKILL');
      return new Promise(() => {});
    },
  },
  { concurrency: Number(concurrency), prefetch: Number(concurrency) * 2 },
);
process.stdout.write('ready\n');
