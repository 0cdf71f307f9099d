import { connect } from 'millrace';

const count = Number(process.argv[2] ?? 1);
const client = await connect(process.env.AMQP_URL ?? 'amqp://127.0.0.1');

const months = Array.from({ length: count }, (_, index) => ({
  month: `2026-${String((index % 12) + 1).padStart(2, '0')}`,
}));
// Resolves when the broker has them on disk.
const tasks = await client.enqueueMany('report.build', months, { queue: 'reports' });
console.log(`${tasks.length} tasks are in the queue`);

await client.close();
