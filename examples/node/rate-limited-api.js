import { connect } from 'millrace';

// An API that allows ten calls a second, five at once, and two at a time: whatever the number of workers is.
const client = await connect(process.env.MILLRACE_URL ?? 'memory:');
await client.queue('api').limit({ concurrency: 2, rate: { count: 10, periodMs: 1000, burst: 5 } });

let calls = 0;
let most = 0;
async function call() {
  most = Math.max(most, ++calls);
  await new Promise((resolve) => setTimeout(resolve, 5));
  calls--;
}
const workers = await Promise.all([1, 2].map(() => client.work({ call }, { queues: ['api'], concurrency: 20 })));

const beganMs = performance.now();
const batch = await client.enqueueMany('call', new Array(10).fill(null), { queue: 'api' });
await batch.results();

// The first five go at once, each of the others waits a tenth of a second for its turn.
console.log(
  `10 calls, at most ${most} at a time, ${performance.now() - beganMs >= 490 ? 'no faster than allowed' : 'too fast'}`,
);

await Promise.all(workers.map((worker) => worker.stop()));
await client.close();
