import type { Browser } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { sharedChromium } from '../support/services.ts';
import { Scene } from './scene.ts';
import { openShop, type Shop } from './shop.ts';
import { connectBrowser, DESK, PHONE, TABLET, Visitor } from './visitor.ts';

// The browser may have to be installed.
vi.setConfig({ testTimeout: 60_000, hookTimeout: 120_000 });

const browserUrl = await sharedChromium();

/** What is on it when it has come to rest. */
interface Shown {
  readonly name: string;
  readonly path: (shop: Shop) => string;
  readonly heading: string | RegExp;
  readonly text: string | RegExp;
}

const PAGES: readonly Shown[] = [
  { name: 'queues', path: () => 'queues', heading: 'Queues', text: 'webhooks' },
  { name: 'tasks', path: () => 'tasks?queue=orders', heading: 'Tasks', text: 'no such street' },
  { name: 'task-dead', path: ({ dead }) => `task/${dead}`, heading: 'invoice.charge', text: 'Failed attempts' },
  { name: 'task-running', path: ({ running }) => `task/${running}`, heading: 'report.build', text: 'reading 31 days' },
  { name: 'task-bytes', path: ({ bytes }) => `task/${bytes}`, heading: 'image.sharpen', text: '00000000  ff d8' },
  { name: 'flow', path: ({ inFlow }) => `task/${inFlow}`, heading: 'order.label', text: 'waits for a redrive' },
  { name: 'workers', path: () => 'workers', heading: 'Workers', text: '412 tasks wait' },
  { name: 'schedules', path: () => 'schedules', heading: 'Schedules', text: 'nightly report' },
  { name: 'dead', path: () => 'dead', heading: 'Dead letters', text: /card_declined/ },
  // Last, so that its charts have something to show.
  { name: 'overview', path: () => 'overview', heading: 'Overview', text: 'Workers busy' },
];

describe.skipIf(browserUrl === undefined)('each page', () => {
  let browser: Browser;
  let scene: Scene;
  let shop: Shop;

  beforeAll(async () => {
    [browser, scene] = await Promise.all([connectBrowser(browserUrl!), Scene.open()]);
    shop = await openShop(scene.client);
  });
  afterAll(async () => {
    await shop?.stop();
    await scene?.close();
    await browser?.close();
  });

  test.each(PAGES)('$name has no barriers in light and dark, and fits on a screen of any width', async (shown) => {
    const visitor = await Visitor.open(browser, scene.url, { colorScheme: 'light' });
    await visitor.visit(shown.path(shop), shown.heading);
    await visitor.sees(shown.text);
    for (const colorScheme of ['light', 'dark'] as const) {
      await visitor.page.emulateMedia({ colorScheme });
      await visitor.screenshot(`${shown.name}-${colorScheme}`);
      expect(await visitor.barriers(), colorScheme).toEqual([]);
    }
    for (const [device, size] of Object.entries({ tablet: TABLET, phone: PHONE })) {
      await visitor.page.setViewportSize(size);
      await visitor.screenshot(`${shown.name}-${device}`);
      expect(await visitor.barriers(), device).toEqual([]);
    }
    for (const width of [1180, TABLET.width, 768, PHONE.width]) {
      await visitor.page.setViewportSize({ ...DESK, width });
      expect(await visitor.overflowPx(), `at ${width} pixels`).toBe(0);
    }
    await visitor.leave();
  });
});
