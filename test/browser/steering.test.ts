import type { Browser } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { FatalTaskError } from '../../src/index.ts';
import { until } from '../conformance/events.ts';
import { sharedChromium } from '../support/services.ts';
import { Scene } from './scene.ts';
import { connectBrowser, Visitor } from './visitor.ts';

vi.setConfig({ testTimeout: 60_000, hookTimeout: 120_000 });

const browserUrl = await sharedChromium();

describe.skipIf(browserUrl === undefined)('from the dashboard', () => {
  let browser: Browser;
  let scene: Scene;
  let visitor: Visitor;
  let queues = 0;
  const newQueue = (): string => `queue-${++queues}`;

  beforeAll(async () => {
    [browser, scene] = await Promise.all([connectBrowser(browserUrl!), Scene.open()]);
    visitor = await Visitor.open(browser, scene.url);
  });
  afterAll(async () => {
    await scene?.close();
    await browser?.close();
  });

  const rowOf = (name: string) => visitor.page.getByRole('row').filter({ hasText: name });

  test('a queue is paused with Tab and Enter, stands still, and goes on', async () => {
    const queue = newQueue();
    const worker = await scene.client.work({ count: (input) => input }, { queues: [queue] });
    await (await scene.client.enqueue('count', 1, { queue })).result();
    await visitor.visit('queues', 'Queues');
    await visitor.page.getByPlaceholder('Filter by name').fill(queue);
    await rowOf(queue).waitFor();
    const focused = (): Promise<string | null> =>
      visitor.page.evaluate('document.activeElement.getAttribute("aria-label")');
    for (let presses = 0; (await focused()) !== `Pause ${queue}`; presses += 1) {
      expect(presses, 'presses of Tab').toBeLessThan(30);
      await visitor.page.keyboard.press('Tab');
    }
    await visitor.page.keyboard.press('Enter');
    await rowOf(queue).getByText('paused').waitFor();
    const waiting = await scene.client.enqueue('count', 2, { queue });
    await rowOf(queue).getByRole('link', { name: '1', exact: true }).waitFor();
    expect((await scene.client.tasks.get(waiting.id)).state).toBe('ready');
    await visitor.button(`Resume ${queue}`).click();
    expect(await waiting.result()).toBe(2);
    await visitor.button(`Pause ${queue}`).waitFor();
    await worker.stop();
    expect(visitor.takeTroubles()).toEqual([]);
  });

  test('a group of dead tasks is redriven after a look at them, and completes', async () => {
    const queue = newQueue();
    let isMended = false;
    const handlers = {
      repair: (input: unknown) => {
        if (!isMended) throw new FatalTaskError(`out of paper on ${queue}`);
        return input;
      },
    };
    const worker = await scene.client.work(handlers, { queues: [queue] });
    const tasks = await scene.client.enqueueMany('repair', [1, 2, 3], { queue });
    await until(
      () => scene.client.tasks.list({ queue, state: 'dead' }),
      ({ tasks: dead }) => dead.length === 3,
    );
    await visitor.visit('dead', 'Dead letters');
    await rowOf(`out of paper on ${queue.replace(/\d+/, '#')}`)
      .getByRole('link', { name: 'See tasks' })
      .click();
    await visitor.page.getByRole('heading', { level: 1, name: 'Tasks' }).waitFor();
    await expect.poll(() => visitor.link('repair').count()).toBe(3);
    await visitor.page.goBack();
    isMended = true;
    await rowOf('out of paper on')
      .getByRole('button', { name: /^Redrive/ })
      .click();
    await visitor.page.getByRole('dialog', { name: 'Redrive 3 dead tasks?' }).waitFor();
    expect(await visitor.barriers()).toEqual([]);
    await visitor.screenshot('dialog-light');
    await visitor.button('Redrive 3 tasks').click();
    await visitor.sees('3 tasks redriven.');
    expect(await Promise.all([...tasks].map((task) => task.result()))).toEqual([1, 2, 3]);
    await visitor.sees('No dead tasks.');
    await worker.stop();
    expect(visitor.takeTroubles()).toEqual([]);
  });

  test('one dead task is retried on its page, which follows it to its end', async () => {
    const queue = newQueue();
    let runs = 0;
    const once = (): string => {
      runs += 1;
      if (runs === 1) throw new FatalTaskError('not today');
      return 'tomorrow';
    };
    const worker = await scene.client.work({ once }, { queues: [queue] });
    const { id } = await scene.client.enqueue('once', null, { queue });
    await until(
      () => scene.client.tasks.get(id),
      ({ state }) => state === 'dead',
    );
    await visitor.visit(`task/${id}`, 'once');
    await visitor.sees('FatalTaskError: not today');
    await visitor.button('Retry').click();
    await visitor.sees('"tomorrow"');
    await visitor.page.locator('.page-head').getByText('completed').waitFor();
    await worker.stop();
    expect(visitor.takeTroubles()).toEqual([]);
  });

  test('a purge asks with the number of tasks, and Escape keeps them', async () => {
    const queue = newQueue();
    await scene.client.enqueueMany('idle', [1, 2, 3, 4], { queue });
    await visitor.visit('queues', 'Queues');
    await visitor.button(`Purge ${queue}`).click();
    const dialog = visitor.page.getByRole('dialog', { name: `Purge 4 tasks of ${queue}?` });
    await dialog.waitFor();
    await visitor.page.keyboard.press('Escape');
    await dialog.waitFor({ state: 'detached' });
    expect((await scene.client.tasks.list({ queue })).tasks).toHaveLength(4);
    await visitor.button(`Purge ${queue}`).click();
    await visitor.button('Purge 4 tasks').click();
    await visitor.sees(`4 tasks of ${queue} removed.`);
    expect((await scene.client.tasks.list({ queue })).tasks).toHaveLength(0);
    expect(visitor.takeTroubles()).toEqual([]);
  });

  test('a running task is cancelled on its page', async () => {
    const queue = newQueue();
    const worker = await scene.client.work(
      {
        wait: (_, { signal }) =>
          new Promise((_resolve, reject) => signal.addEventListener('abort', () => reject(signal.reason))),
      },
      { queues: [queue] },
    );
    const { id } = await scene.client.enqueue('wait', null, { queue });
    await visitor.visit(`task/${id}`, 'wait');
    await visitor.page.locator('.page-head').getByText('active').waitFor();
    await visitor.button('Cancel').click();
    await visitor.button('Cancel it').click();
    await visitor.page.locator('.page-head').getByText('cancelled').waitFor();
    await worker.stop();
    expect(visitor.takeTroubles()).toEqual([]);
  });

  test('a schedule is run now, paused and resumed', async () => {
    const queue = newQueue();
    const worker = await scene.client.work({ greet: () => 'hello' }, { queues: [queue] });
    await scene.client.schedule('greeting', { task: 'greet', queue, cron: '0 3 1 1 *' });
    await visitor.visit('schedules', 'Schedules');
    await visitor.button('Run now: greeting').click();
    await rowOf('greeting').getByRole('link', { name: 'its task' }).click();
    await visitor.page.getByRole('heading', { level: 1, name: 'greet' }).waitFor();
    await visitor.sees('"hello"');
    await visitor.page.goBack();
    await visitor.button('Pause greeting').click();
    await rowOf('greeting').getByText('paused').waitFor();
    await visitor.button('Resume greeting').click();
    await rowOf('greeting').getByText('paused').waitFor({ state: 'detached' });
    await worker.stop();
    expect(visitor.takeTroubles()).toEqual([]);
  });

  test('nothing is changed by who may only read, and it says why', async () => {
    const boss = 'another-secret-of-letters';
    const credentials = `read watcher a-secret-of-twenty-letters\noperate boss ${boss}\n`;
    const guarded = await Scene.open({ MILLRACE_CREDENTIALS: credentials }, boss);
    try {
      await guarded.client.enqueueMany('idle', [1, 2], { queue: 'kept' });
      const watcher = await Visitor.open(browser, guarded.url, {
        httpCredentials: { username: 'watcher', password: 'a-secret-of-twenty-letters' },
      });
      await watcher.visit('queues', 'Queues');
      await watcher.sees('read only');
      expect(await watcher.button('Purge kept').getAttribute('aria-disabled')).toBe('true');
      // It can be reached all the same, to be told the reason.
      await watcher.button('Purge kept').click({ force: true });
      await watcher.sees('Your credentials may only read');
      expect(await watcher.barriers()).toEqual([]);
      expect((await guarded.client.tasks.list({ queue: 'kept' })).tasks).toHaveLength(2);
      await watcher.leave();
    } finally {
      await guarded.close();
    }
  });
});
