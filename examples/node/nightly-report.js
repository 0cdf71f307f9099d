// A report each night at 2:30, by the clock of Berlin. Start it as often as you like: the schedule is one.
//   node examples/node/nightly-report.js        works until Ctrl-C
//   node examples/node/nightly-report.js now    has the report made now, and ends
import { connect, defineTask } from 'millrace';

const report = defineTask('report.nightly', { queue: 'reports', maxAttempts: 5, timeoutMs: 60_000 });

const client = await connect(process.env.MILLRACE_URL ?? 'tcp://127.0.0.1:5555');
const worker = await client.work([
  report.handle(async ({ title }, { enqueuedAt, signal }) => {
    signal.throwIfAborted();
    console.log(`${title}, begun ${enqueuedAt.toISOString()}`);
    return { pages: title.length };
  }),
]);

const schedule = await client.schedule('nightly-report', {
  cron: '30 2 * * *',
  timeZone: 'Europe/Berlin',
  // After a night without a server one report is made, as soon as there is one.
  misfire: 'once',
  task: report,
  payload: { title: 'Sales of the day' },
});
console.log(`next report: ${new Date(schedule.nextAtMs).toISOString()}`);

if (process.argv[2] === 'now') {
  const task = await client.schedules.runNow('nightly-report');
  console.log('made:', await task.result());
  await stop();
} else {
  process.once('SIGINT', stop);
  process.once('SIGTERM', stop);
}

async function stop() {
  await worker.stop({ timeoutMs: 10_000 });
  await client.close();
}
