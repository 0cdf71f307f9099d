// @ts-check
import { program } from './binaries.mjs';
import { Lodging } from './lodging.mjs';
import { answers, freePorts } from './ports.mjs';
import { run } from './processes.mjs';

const PULL_MS = 300_000;
const START_MS = 120_000;

/** @returns {Promise<string | undefined>} Why Docker is of no use here. */
export async function dockerRefusal() {
  if (program('docker') === undefined) return 'no docker';
  try {
    await run('docker', ['info'], { timeoutMs: 15_000 });
    return undefined;
  } catch {
    return 'docker does not answer';
  }
}

/** RabbitMQ in a container; it ends with this process. */
export async function dockerRabbit() {
  const [port, managementPort] = await freePorts(2);
  const hello = Buffer.from([0x41, 0x4d, 0x51, 0x50, 0, 0, 9, 1]);
  const flags = ['-p', `127.0.0.1:${port}:5672`, '-p', `127.0.0.1:${managementPort}:15672`];
  const container = await start('rabbitmq:4-management', flags, () => answers(port, hello));
  const managementUrl = `http://127.0.0.1:${managementPort}`;
  return { url: `amqp://127.0.0.1:${port}`, managementUrl, stop: container.stop };
}

/** PostgreSQL in a container; it ends with this process. */
export async function dockerPostgres() {
  const [port] = await freePorts(1);
  const url = `postgres://millrace@127.0.0.1:${port}/postgres`;
  const flags = [
    '-p',
    `127.0.0.1:${port}:5432`,
    '-e',
    'POSTGRES_USER=millrace',
    '-e',
    'POSTGRES_HOST_AUTH_METHOD=trust',
  ];
  // Its first start ends again by itself: only an answered query tells that it is up.
  const container = await start('postgres:17', [...flags, '-e', 'POSTGRES_DB=postgres'], () => takesQueries(url));
  return { url, stop: container.stop };
}

/**
 * @param {string} image
 * @param {readonly string[]} flags
 * @param {() => Promise<boolean>} probe
 */
async function start(image, flags, probe) {
  await run('docker', ['pull', '-q', image], { timeoutMs: PULL_MS });
  const lodging = await Lodging.open();
  // In the foreground: docker ends the container when its client gets a signal, and removes it.
  const daemon = lodging.start('docker', ['run', '--rm', '--init', ...flags, image], {});
  const stop = async () => {
    await daemon.stop('SIGTERM', 20_000);
    await lodging.end();
  };
  try {
    await daemon.ready(probe, START_MS);
  } catch (error) {
    await stop();
    throw error;
  }
  return { stop };
}

/** @param {string} url */
async function takesQueries(url) {
  const { default: postgres } = await import('postgres');
  const sql = postgres(url, { max: 1, connect_timeout: 2, onnotice: () => {} });
  try {
    await sql`select 1`;
    return true;
  } catch {
    return false;
  } finally {
    await sql.end({ timeout: 1 });
  }
}
