// @ts-check

import { aptInstall, aptRefusal } from './apt.mjs';
import { postgresDirectory, rabbitDirectory, serverProgram } from './binaries.mjs';
import { dockerPostgres, dockerRabbit, dockerRefusal } from './docker.mjs';
import { startPostgres } from './postgres.mjs';
import { startRabbit } from './rabbit.mjs';

/**
 * @typedef {object} FoundRabbit
 * @property {string} url
 * @property {string} from Where it comes from, for people.
 * @property {string | undefined} managementUrl Of its HTTP API, if it is known.
 * @property {() => Promise<void>} stop
 *
 * @typedef {object} FoundPostgres
 * @property {string} url
 * @property {string} from
 * @property {() => Promise<void>} stop
 */

/** Nothing on this machine serves; the message says what was tried and how to get it. */
export class ServiceMissing extends Error {}

/**
 * A RabbitMQ: `AMQP_URL`, or a private one from the machine's binaries, or from those that apt-get installs, or Docker.
 *
 * @param {{ tell: (line: string) => void, management?: boolean, port?: number }} options
 * @returns {Promise<FoundRabbit>}
 */
export async function findRabbit({ tell, ...options }) {
  const url = process.env.AMQP_URL;
  if (url) {
    return { url, managementUrl: process.env.AMQP_MANAGEMENT_URL, from: 'AMQP_URL', stop: async () => {} };
  }
  const refused = await provideRabbit(tell);
  if (refused === undefined) {
    const rabbit = await startRabbit(options);
    const { url, managementUrl } = rabbit;
    return { url, managementUrl, from: 'a private one', stop: () => rabbit.stop() };
  }
  const noDocker = await dockerRefusal();
  if (noDocker === undefined) {
    try {
      return { ...(await dockerRabbit()), from: 'Docker' };
    } catch (error) {
      throw missing('RabbitMQ', 'rabbitmq-server', 'AMQP_URL=amqp://…', `${refused}; ${firstLine(error)}`);
    }
  }
  throw missing('RabbitMQ', 'rabbitmq-server', 'AMQP_URL=amqp://…', `${refused}; ${noDocker}`);
}

/**
 * A PostgreSQL: `DATABASE_URL` (its user must be allowed to create databases), or as for RabbitMQ.
 *
 * @param {{ tell: (line: string) => void, sync?: boolean, port?: number }} options
 * @returns {Promise<FoundPostgres>}
 */
export async function findPostgres({ tell, ...options }) {
  const url = process.env.DATABASE_URL;
  if (url) return { url, from: 'DATABASE_URL', stop: async () => {} };
  const refused = await providePostgres(tell);
  if (refused === undefined) {
    const postgres = await startPostgres(options);
    return { url: postgres.url, from: 'a private one', stop: () => postgres.stop() };
  }
  const noDocker = await dockerRefusal();
  if (noDocker === undefined) {
    try {
      return { ...(await dockerPostgres()), from: 'Docker' };
    } catch (error) {
      throw missing('PostgreSQL', 'postgresql', 'DATABASE_URL=postgres://…', `${refused}; ${firstLine(error)}`);
    }
  }
  throw missing('PostgreSQL', 'postgresql', 'DATABASE_URL=postgres://…', `${refused}; ${noDocker}`);
}

/**
 * Sees to it that RabbitMQ's programs are on this machine; resolves with the reason when they are not.
 *
 * @param {(line: string) => void} tell
 */
export function provideRabbit(tell) {
  return provide(rabbitDirectory, ['rabbitmq-server'], tell);
}

/** @param {(line: string) => void} tell */
export function providePostgres(tell) {
  return provide(postgresDirectory, ['postgresql'], tell);
}

/** @param {(line: string) => void} tell */
export function provideRedis(tell) {
  return provide(() => serverProgram('redis-server'), ['redis-server'], tell);
}

/** @param {(line: string) => void} tell */
export function provideNats(tell) {
  return provide(() => serverProgram('nats-server'), ['nats-server'], tell);
}

/** @param {(line: string) => void} tell */
export function provideBeanstalkd(tell) {
  return provide(() => serverProgram('beanstalkd'), ['beanstalkd'], tell);
}

/**
 * Installs packages if `find` finds nothing; resolves with the reason when it finds nothing afterwards.
 *
 * @param {() => string | undefined} find
 * @param {readonly string[]} packages
 * @param {(line: string) => void} tell
 * @returns {Promise<string | undefined>}
 */
export async function provide(find, packages, tell) {
  if (find() !== undefined) return undefined;
  const refusal = await aptRefusal();
  if (refusal !== undefined) return refusal;
  try {
    await aptInstall(packages, tell);
  } catch (error) {
    return firstLine(error);
  }
  return find() === undefined ? `${packages.join(' ')} came without the expected programs` : undefined;
}

/**
 * @param {string} service
 * @param {string} packages
 * @param {string} variable
 * @param {string} tried
 */
function missing(service, packages, variable, tried) {
  return new ServiceMissing(
    `no ${service} here (${tried}): install it (Debian, Ubuntu: apt-get install ${packages}), start Docker, or set ${variable}`,
  );
}

/** @param {unknown} error */
function firstLine(error) {
  return (error instanceof Error ? error.message : String(error)).split('\n')[0];
}
