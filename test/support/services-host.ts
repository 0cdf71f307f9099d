import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { TestProject } from 'vitest/node';
import { findChromium } from '../../scripts/services/chromium.mjs';
import { findPostgres, findRabbit, providePostgres, provideRabbit } from '../../scripts/services/services.mjs';

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
  const postgres = once(() => findPostgres({ tell }), tell);
  const chromium = once(() => findChromium({ tell }), tell);
  const answers: Record<string, () => Promise<object>> = {
    '/rabbit': async () => {
      const { url, managementUrl, from } = await rabbit.get();
      return { url, managementUrl, outlivesRun: from === 'AMQP_URL' };
    },
    '/postgres': async () => {
      const { url, from } = await postgres.get();
      return { url, outlivesRun: from === 'DATABASE_URL' };
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
