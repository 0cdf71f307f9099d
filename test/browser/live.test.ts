import type { Browser } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { until } from '../conformance/events.ts';
import { sharedChromium } from '../support/services.ts';
import { Scene } from './scene.ts';
import { Traffic } from './traffic.ts';
import { connectBrowser, Visitor } from './visitor.ts';

vi.setConfig({ testTimeout: 60_000, hookTimeout: 120_000 });

const browserUrl = await sharedChromium();

describe.skipIf(browserUrl === undefined)('the dashboard', () => {
  let browser: Browser;
  let scene: Scene;
  let traffic: Traffic | undefined;

  beforeAll(async () => {
    [browser, scene] = await Promise.all([connectBrowser(browserUrl!), Scene.open()]);
    traffic = await Traffic.start(scene.client);
  });
  afterAll(async () => {
    await traffic?.stop();
    await scene?.close();
    await browser?.close();
  });

  /** Questions to the server since then. */
  const countAsked = (visitor: Visitor): (() => number) => {
    let asked = 0;
    visitor.page.on('request', () => {
      asked += 1;
    });
    return () => asked;
  };

  test('draws what happens, as it happens', async () => {
    const visitor = await Visitor.open(browser, scene.url);
    await visitor.visit('overview', 'Overview');
    const throughput = visitor.page.getByRole('img', { name: /^Throughput per second/ });
    const drawn = (): Promise<string> =>
      throughput.locator('canvas').evaluate((canvas) => (canvas as unknown as { toDataURL(): string }).toDataURL());
    await expect.poll(() => throughput.getAttribute('aria-label')).toMatch(/in [1-9]\d*, out [1-9]/);
    const [before, wordsBefore] = [await drawn(), await throughput.getAttribute('aria-label')];
    await expect.poll(drawn).not.toBe(before);
    await expect.poll(() => throughput.getAttribute('aria-label')).not.toBe(wordsBefore);
    await visitor.sees(/webhooks/);
    await visitor.leave();
  });

  test('shows the same history to who comes later', async () => {
    const history = async () => (await fetch(`${scene.url}/v1/stats/history`)).json() as Promise<{ samples: object[] }>;
    await until(history, ({ samples }) => samples.length > 0, 'the first sample');
    const visitor = await Visitor.open(browser, scene.url);
    const answered = visitor.page.waitForResponse(/stats\/history$/);
    await visitor.visit('overview', 'Overview');
    const { samples } = (await (await answered).json()) as { samples: object[] };
    expect(samples.length).toBeGreaterThan(0);
    await visitor.leave();
  });

  test('asks nothing while its tab is hidden or updates are paused, and goes on afterwards', async () => {
    const visitor = await Visitor.open(browser, scene.url);
    await visitor.page.clock.install();
    await visitor.visit('overview', 'Overview');
    await visitor.sees('live');
    const hide = (isHidden: boolean): Promise<void> =>
      visitor.page.evaluate(`{
        Object.defineProperty(document, 'hidden', { configurable: true, value: ${isHidden} });
        document.dispatchEvent(new Event('visibilitychange'));
      }`);
    for (const [still, on] of [
      [() => hide(true), () => hide(false)],
      [() => visitor.button('Pause updates').click(), () => visitor.button('Pause updates').click()],
    ] as const) {
      await still();
      // What is under way ends.
      await visitor.page.waitForLoadState('networkidle');
      const asked = countAsked(visitor);
      await visitor.page.clock.runFor(30_000);
      expect(asked()).toBe(0);
      await on();
      await visitor.page.clock.runFor(1500);
      await expect.poll(asked).toBeGreaterThan(0);
      await visitor.sees('live');
    }
    await visitor.leave();
  });

  test('keeps the chosen colours over visits', async () => {
    const visitor = await Visitor.open(browser, scene.url, { colorScheme: 'light' });
    await visitor.visit('overview', 'Overview');
    const background = (): Promise<string> => visitor.page.evaluate('getComputedStyle(document.body).backgroundColor');
    const light = await background();
    await visitor.button(/^Colours: as the system says/).click();
    await visitor.button(/^Colours: light/).click();
    await expect.poll(background).not.toBe(light);
    const dark = await background();
    await visitor.page.reload();
    await visitor.button(/^Colours: dark/).waitFor();
    expect(await background()).toBe(dark);
    await visitor.leave();
  });

  test('says that the server is gone, keeps what it knew, and finds it again by itself', async () => {
    await traffic?.stop();
    traffic = undefined;
    const visitor = await Visitor.open(browser, scene.url);
    await visitor.visit('overview', 'Overview');
    await visitor.sees('live');
    await scene.killServer();
    await visitor.sees('The server does not answer');
    await visitor.sees('server gone');
    await visitor.sees('webhooks');
    expect(await visitor.barriers()).toEqual([]);
    await visitor.screenshot('gone-light');
    await scene.startServerAgain();
    await visitor.page.getByText('The server does not answer').waitFor({ state: 'detached' });
    await visitor.sees('live');
    // The browser notes each question without an answer.
    expect(visitor.takeTroubles().filter((trouble) => !trouble.includes('ERR_CONNECTION_REFUSED'))).toEqual([]);
    await visitor.leave();
  });
});
