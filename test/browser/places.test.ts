import { mkdtemp, rm } from 'node:fs/promises';
import { createServer, request, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Browser } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { RunningCommand } from '../support/command.ts';
import { sharedChromium, sharedRabbit } from '../support/services.ts';
import { Scene } from './scene.ts';
import { connectBrowser, Visitor } from './visitor.ts';

vi.setConfig({ testTimeout: 60_000, hookTimeout: 120_000 });

const [browserUrl, rabbit] = await Promise.all([sharedChromium(), sharedRabbit()]);

/** Passes on what is asked for below a path, as people have it in their nginx. */
async function proxyTo(target: string, prefix: string): Promise<{ server: Server; url: string }> {
  const server = createServer((incoming, outgoing) => {
    if (!incoming.url?.startsWith(`${prefix}/`)) {
      outgoing.writeHead(404).end();
      return;
    }
    const { method, headers } = incoming;
    const passed = request(`${target}${incoming.url.slice(prefix.length)}`, { method, headers }, (answer) => {
      outgoing.writeHead(answer.statusCode ?? 502, answer.headers);
      answer.pipe(outgoing);
    });
    passed.on('error', () => outgoing.destroy());
    incoming.pipe(passed);
  });
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve);
  });
  return { server, url: `http://127.0.0.1:${(server.address() as AddressInfo).port}${prefix}` };
}

describe.skipIf(browserUrl === undefined)('the dashboard', () => {
  let browser: Browser;

  beforeAll(async () => {
    browser = await connectBrowser(browserUrl!);
  });
  afterAll(() => browser?.close());

  test('works below a path of a proxy, reading and steering', async () => {
    const scene = await Scene.open();
    const proxy = await proxyTo(scene.url, '/ops/millrace');
    try {
      await scene.client.enqueue('idle', null, { queue: 'behind' });
      const visitor = await Visitor.open(browser, proxy.url);
      await visitor.visit('queues', 'Queues');
      await visitor.button('Pause behind').click();
      await visitor.button('Resume behind').waitFor();
      await visitor.link('Overview').click();
      await visitor.page.getByRole('img', { name: /^Throughput per second/ }).waitFor();
      await visitor.leave();
    } finally {
      proxy.server.closeAllConnections();
      proxy.server.close();
      await scene.close();
    }
  });

  test('of a new server says on each page what to do next', async () => {
    const scene = await Scene.open();
    try {
      const visitor = await Visitor.open(browser, scene.url);
      for (const [path, heading, text] of [
        ['queues', 'Queues', 'npx millrace enqueue'],
        ['tasks', 'Tasks', 'npx millrace enqueue'],
        ['workers', 'Workers', `npx millrace worker --url tcp://127.0.0.1`],
        ['schedules', 'Schedules', 'npx millrace schedule set'],
        ['dead', 'Dead letters', 'No dead tasks.'],
        ['overview', 'Overview', 'npx millrace'],
      ] as const) {
        await visitor.visit(path, heading);
        await visitor.sees(text);
        expect(await visitor.barriers(), path).toEqual([]);
        await visitor.screenshot(`empty-${path}-light`);
      }
      await visitor.page.goto(`${scene.url}/#/nowhere`);
      await visitor.sees('There is no such page.');
      await visitor.leave();
    } finally {
      await scene.close();
    }
  });

  test.skipIf(rabbit === undefined)('over RabbitMQ alone says what that cannot, and shows the rest', async () => {
    const vhost = await rabbit!.vhost();
    const directory = await mkdtemp(join(tmpdir(), 'millrace-browser-'));
    const gateway = new RunningCommand(['server', '--url', vhost.url], {
      directory,
      environment: { MILLRACE_HTTP_PORT: '0', MILLRACE_LOG_FILE: 'off' },
    });
    try {
      const [, url = ''] = await gateway.said(/HTTP API on (http:\S+)/);
      const visitor = await Visitor.open(browser, url);
      for (const [path, heading] of [
        ['tasks', 'Tasks'],
        ['dead', 'Dead letters'],
        ['schedules', 'Schedules'],
      ] as const) {
        await visitor.visit(path, heading);
        await visitor.sees('This backend does not have it.');
        expect(await visitor.page.getByText('That did not work.').count(), path).toBe(0);
        await visitor.screenshot(`rabbitmq-${path}-light`);
      }
      await visitor.visit('overview', 'Overview');
      await visitor.sees('live');
      // The browser notes what it was refused.
      expect(visitor.takeTroubles().filter((trouble) => !trouble.includes('status of 501'))).toEqual([]);
      await visitor.leave();
    } finally {
      await gateway.kill();
      await vhost.drop();
      await rm(directory, { recursive: true, force: true });
    }
  });
});
