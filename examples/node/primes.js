// Counts primes in two threads. A handler that never ends is stopped, and the others go on.
import { connect } from 'millrace';

const client = await connect(process.env.MILLRACE_URL ?? 'memory:');
await client.work(new URL('./handlers/primes.js', import.meta.url), { threads: 2 });

const endless = await client.enqueue('endless', null, { timeoutMs: 200, maxAttempts: 1 });
const ranges = Array.from({ length: 20 }, (_, index) => ({ from: index * 10_000, to: (index + 1) * 10_000 }));
const counts = await (await client.enqueueMany('primes.count', ranges)).results();

console.log(`${counts.reduce((sum, count) => sum + count)} primes below 200,000`);
await endless.result().catch(({ cause }) => console.log(`the endless one: ${cause.code}`));
await client.close();
