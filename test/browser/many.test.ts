import type { Browser } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { sharedChromium } from '../support/services.ts';
import { Scene } from './scene.ts';
import { connectBrowser, Visitor } from './visitor.ts';

vi.setConfig({ testTimeout: 60_000, hookTimeout: 120_000 });

const browserUrl = await sharedChromium();

const TASKS = 100_000;
const QUEUES = 1000;
/** From a click to the next page, on a machine where other tests run. */
const TURN_MS_MAX = 2000;

describe.skipIf(browserUrl === undefined)('with a lot of everything', () => {
  let browser: Browser;
  let scene: Scene;
  let visitor: Visitor;

  beforeAll(async () => {
    [browser, scene] = await Promise.all([connectBrowser(browserUrl!), Scene.open()]);
    visitor = await Visitor.open(browser, scene.url);
  });
  afterAll(async () => {
    await scene?.close();
    await browser?.close();
  });

  test(`${TASKS} tasks are paged through without a stop, and cancelled at one request`, async () => {
    const inputs = Array.from({ length: 10_000 }, (_, index) => index);
    for (let sent = 0; sent < TASKS; sent += inputs.length) {
      await scene.client.enqueueMany('many', inputs, { queue: 'many' });
    }
    await visitor.visit('tasks?queue=many', 'Tasks');
    await visitor.sees('100 tasks on this page');
    const firstId = (): Promise<string | null> => visitor.page.locator('tbody .mono').first().textContent();
    const turnMs: number[] = [];
    const seen = new Set([await firstId()]);
    for (const way of ['Older', 'Older', 'Older', 'Older', 'Newer', 'Older', 'Newest']) {
      const before = await firstId();
      const startMs = performance.now();
      await visitor.link(way).click();
      await expect.poll(firstId, { interval: 20 }).not.toBe(before);
      turnMs.push(performance.now() - startMs);
      expect(await visitor.page.locator('tbody tr').count()).toBe(100);
      seen.add(await firstId());
    }
    expect(Math.max(...turnMs), turnMs.map(Math.round).join()).toBeLessThan(TURN_MS_MAX);
    // Back to where it was before, and to the newest: five pages in all.
    expect(seen.size).toBe(5);
    await visitor.button('Cancel all that match').click();
    await visitor.page.getByRole('dialog', { name: /^Cancel 100,000 tasks/ }).waitFor();
    await visitor.button('Cancel them').click();
    await visitor.sees(/^100,000 tasks cancelled/);
    expect((await scene.client.tasks.list({ queue: 'many', state: 'ready' })).tasks).toHaveLength(0);
    expect(visitor.takeTroubles()).toEqual([]);
  });

  test(`${QUEUES} queues are a table in pages, sorted and filtered while it changes`, async () => {
    const names = Array.from({ length: QUEUES }, (_, index) => `tenant-${index + 1}`);
    await Promise.all(names.map((queue) => scene.client.enqueue('idle', null, { queue })));
    await scene.client.enqueue('idle', null, { queue: 'tenant-777' });
    await visitor.visit('queues', 'Queues');
    await visitor.sees('1,001 queues');
    const rows = visitor.page.locator('tbody tr');
    expect(await rows.count()).toBe(100);
    await visitor.button('Ready').click();
    await rows.first().getByText('tenant-777').waitFor();
    await visitor.button('Next').click();
    await visitor.sees('101–200 of 1,001');
    const startMs = performance.now();
    await visitor.page.getByPlaceholder('Filter by name').pressSequentially('tenant-99');
    await visitor.sees('11 of 1,001');
    expect(performance.now() - startMs).toBeLessThan(TURN_MS_MAX);
    expect(await rows.count()).toBe(11);
    expect(visitor.takeTroubles()).toEqual([]);
  });
});
