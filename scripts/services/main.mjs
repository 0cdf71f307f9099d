// @ts-check
// npm run services: RabbitMQ and PostgreSQL for development, on the usual ports if those are free, until Ctrl-C.
import { once } from 'node:events';
import { isFree } from './ports.mjs';
import { findPostgres, findRabbit } from './services.mjs';

const USAGE = `Usage: npm run services

Starts RabbitMQ and PostgreSQL for development, on the usual ports if those are free, prints MILLRACE_URL and
MILLRACE_STORE for them, and ends them with their data on Ctrl-C. They are those that AMQP_URL and DATABASE_URL name, or
programs of this machine, or what apt-get installs where there are the rights, or Docker's.

  -h, --help  show this`;

const written = process.argv.slice(2);
if (written.length === 1 && ['-h', '--help'].includes(written[0] ?? '')) {
  process.stdout.write(`${USAGE}\n`);
  process.exit(0);
}
if (written.length > 0) {
  process.stderr.write(`npm run services takes no arguments but --help, and was given: ${written.join(' ')}\n`);
  process.exit(2);
}

/** @param {string} line */
const tell = (line) => process.stderr.write(`${line}\n`);
/** @param {number} port */
const ifFree = async (port) => ((await isFree(port)) ? { port } : {});

const interrupted = Promise.race([once(process, 'SIGINT'), once(process, 'SIGTERM'), once(process, 'SIGHUP')]);
const started = Promise.allSettled([
  ifFree(5672).then((options) => findRabbit({ tell, ...options })),
  ifFree(5432).then((options) => findPostgres({ tell, sync: true, ...options })),
]);
const first = await Promise.race([started, interrupted.then(() => undefined)]);
// Interrupted while they start: whatever there is of them ends with this process.
if (first === undefined) process.exit(1);
for (const result of first) {
  if (result.status === 'rejected') {
    tell(String(result.reason));
    process.exitCode = 1;
  } else {
    const name = result.value.url.startsWith('amqp') ? 'MILLRACE_URL' : 'MILLRACE_STORE';
    process.stdout.write(`${name}=${result.value.url}\n`);
  }
}
const running = first.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : []));
if (running.length > 0) {
  tell('Ctrl-C ends them and removes their data.');
  const keepAlive = setInterval(() => {}, 3_600_000);
  await interrupted;
  clearInterval(keepAlive);
  await Promise.all(running.map((service) => service.stop()));
}
