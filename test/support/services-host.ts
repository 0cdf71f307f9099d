import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { TestProject } from 'vitest/node';
import { findChromium } from '../../scripts/services/chromium.mjs';
import { createDatabase, dropDatabase } from '../../scripts/services/postgres.mjs';
import {
  type FoundPostgres,
  findPostgres,
  findRabbit,
  providePostgres,
  provideRabbit,
} from '../../scripts/services/services.mjs';
import { PostgresStore } from '../../src/broker/postgres/postgres-store.ts';
import { SystemClock } from '../../src/io/clock.ts';
import { SystemRandom } from '../../src/io/random.ts';

declare module 'vitest' {
  export interface ProvidedContext {
    /** Where test files ask for services; see services.ts. */
    servicesUrl: string;
  }
}

/**
 * One RabbitMQ, one PostgreSQL and one browser for the whole run, each started when the first test file asks for it: a run
 * that needs none waits for none.
 */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const tell = (line: string): void => void process.stderr.write(`\nservices: ${line}\n`);
  const rabbit = once(() => findRabbit({ tell, management: true }), tell);
  const postgres = once(async () => withTemplate(await findPostgres({ tell })), tell);
  const chromium = once(() => findChromium({ tell }), tell);
  const answers: Record<string, () => Promise<object>> = {
    '/rabbit': async () => {
      const { url, managementUrl, from } = await rabbit.get();
      return { url, managementUrl, outlivesRun: from === 'AMQP_URL' };
    },
    '/postgres': async () => {
      const { url, from, template } = await postgres.get();
      return { url, template, outlivesRun: from === 'DATABASE_URL' };
    },
    '/chromium': async () => ({ url: (await chromium.get()).url }),
    '/rabbit-programs': once(async () => refusal(await provideRabbit(tell), 'rabbitmq-server'), tell).get,
    '/postgres-programs': once(async () => refusal(await providePostgres(tell), 'postgresql'), tell).get,
  };
  const server = createServer((request, response) => {
    const answer = answers[request.url ?? ''];
    const body = answer === undefined ? Promise.reject(new Error(`nothing at ${request.url}`)) : answer();
    void body
      .catch((error: unknown) => ({ missing: error instanceof Error ? error.message : String(error) }))
      .then((value) => response.end(JSON.stringify(value)));
  });
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve);
  });
  project.provide('servicesUrl', `http://127.0.0.1:${(server.address() as AddressInfo).port}`);
  return async () => {
    server.closeAllConnections();
    server.close();
    await Promise.all([rabbit.stop(), postgres.stop(), chromium.stop()]);
  };
}

/** With a database that has our tables, to be copied: making them in each would take longer than most of the tests. */
async function withTemplate(found: FoundPostgres): Promise<FoundPostgres & { readonly template: string }> {
  const template = `template_${process.pid}_${Date.now().toString(36)}`;
  await createDatabase(found.url, template);
  const url = new URL(found.url);
  url.pathname = `/${template}`;
  const io = { clock: new SystemClock(), random: new SystemRandom() };
  const store = await PostgresStore.connect({ url: url.href, ...io, connectTimeoutMs: 10_000, upkeep: false });
  await store.close(2000);
  const stop = async (): Promise<void> => {
    if (found.from === 'DATABASE_URL') await dropDatabase(found.url, template);
    await found.stop();
  };
  return { ...found, template, stop };
}

function refusal(reason: string | undefined, packages: string): object {
  if (reason === undefined) return {};
  throw new Error(`tests that start their own need the programs of ${packages} on this machine: ${reason}`);
}

/** Runs at the first call; what goes wrong is told once, loudly, and again to each caller. */
function once<T extends object>(start: () => Promise<T>, tell: (line: string) => void) {
  let started: Promise<T> | undefined;
  return {
    get: (): Promise<T> => {
      if (started === undefined) {
        started = start();
        started.catch((error: unknown) => tell(`TESTS ARE SKIPPED: ${error instanceof Error ? error.message : error}`));
      }
      return started;
    },
    stop: async (): Promise<void> => {
      const service = await started?.catch(() => undefined);
      if (service !== undefined && 'stop' in service) await (service.stop as () => Promise<void>)();
    },
  };
}
