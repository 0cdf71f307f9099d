import { connect } from 'millrace';

// In memory, so that it runs by itself.
const client = await connect(process.env.MILLRACE_URL ?? 'memory:');
await client.queue('reports').limit({ concurrencyPerKey: 1 });

// One tenant wants a thousand reports, another one three; each is a key, and keys take turns.
await client.enqueueMany('report', new Array(1000).fill('big'), { queue: 'reports', concurrencyKey: 'big' });
const small = await client.enqueueMany('report', [1, 2, 3], { queue: 'reports', concurrencyKey: 'small' });

let made = 0;
const worker = await client.work(
  {
    report: async (input) => {
      await new Promise((resolve) => setImmediate(resolve));
      made++;
      return `${input} was report number ${made}`;
    },
  },
  { queues: ['reports'], concurrency: 10 },
);

await small.results();
console.log(
  made < 20 ? 'the small tenant did not wait for the big one' : `the small tenant waited for ${made} reports`,
);

await worker.stop();
await client.close();
