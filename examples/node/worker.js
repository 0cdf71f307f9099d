import { connect } from 'millrace';

const client = await connect(process.env.AMQP_URL ?? 'amqp://127.0.0.1');
let done = 0;

const worker = await client.work(
  {
    'report.build': async ({ month }, { attempt }) => {
      done += 1;
      console.log(`report ${done}: ${month}, attempt ${attempt}`);
      return { pages: month.length };
    },
  },
  { queues: ['reports'], concurrency: 20 },
);
console.log('working');

process.once('SIGINT', stop);
process.once('SIGTERM', stop);

async function stop() {
  await worker.stop({ timeoutMs: 10_000 });
  await client.close();
}
