import type { Browser } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { type Client, FatalTaskError } from '../../src/index.ts';
import { until } from '../conformance/events.ts';
import { sharedChromium } from '../support/services.ts';
import { Scene } from './scene.ts';
import { connectBrowser, DESK, PHONE, Visitor } from './visitor.ts';

vi.setConfig({ testTimeout: 60_000, hookTimeout: 120_000 });

const browserUrl = await sharedChromium();

const ATTACK = `<img src=x onerror="alert('attacked')"><script>alert(1)</script>"'><svg onload=alert(2)>`;

/** A task that is dead; its worker stays. */
async function failUnderLongNames(client: Client, long: string): Promise<string> {
  const fail = (): never => {
    throw new FatalTaskError(long.repeat(8));
  };
  await client.work({ [long]: fail }, { queues: [long], name: long });
  const options = { queue: long, uniqueKey: long, headers: { [long]: long.repeat(8) } };
  const { id } = await client.enqueue(long, long.repeat(8), options);
  await client.schedule(long, { task: long, queue: long, cron: '0 3 1 1 *' });
  await until(
    () => client.tasks.get(id),
    ({ state }) => state === 'dead',
  );
  return id;
}

describe.skipIf(browserUrl === undefined)('what tasks say', () => {
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

  test('stays text, wherever it is shown', async () => {
    const queue = ATTACK;
    const worker = await scene.client.work(
      {
        '*': (_, context) => {
          context.log(ATTACK);
          throw Object.assign(new Error(ATTACK), { name: ATTACK, stack: ATTACK });
        },
      },
      { queues: [queue], name: ATTACK.slice(0, 128) },
    );
    const options = { queue, headers: { attack: ATTACK }, uniqueKey: ATTACK, maxAttempts: 1 };
    const { id } = await scene.client.enqueue(ATTACK, { [ATTACK]: ATTACK }, options);
    const child = await scene.client.enqueue(ATTACK, ATTACK, { queue, dependsOn: { task: id, onFailure: 'wait' } });
    await until(
      () => scene.client.tasks.get(id),
      ({ state }) => state === 'dead',
    );
    await scene.client.schedule(ATTACK.slice(0, 128), { task: ATTACK, queue, cron: '0 3 1 1 *' });
    for (const [path, heading] of [
      ['overview', 'Overview'],
      ['queues', 'Queues'],
      [`queues?${new URLSearchParams({ filter: `${ATTACK}?` })}`, 'Queues'],
      ['tasks', 'Tasks'],
      [`tasks?${new URLSearchParams({ queue, errorGroup: ATTACK, worker: ATTACK })}`, 'Tasks'],
      [`task/${id}`, ATTACK],
      [`task/${child.id}`, ATTACK],
      [`task/${encodeURIComponent(ATTACK)}`, /^Task/],
      ['workers', 'Workers'],
      ['schedules', 'Schedules'],
      ['dead', 'Dead letters'],
    ] as const) {
      await visitor.visit(path, heading);
      await expect.poll(() => visitor.page.locator('main').innerHTML()).toContain('onerror');
      expect(await visitor.page.locator('main :is(img, script, [onerror], [onload])').count(), path).toBe(0);
    }
    await worker.stop();
    // One that is not there is asked for, which the browser notes.
    expect(visitor.takeTroubles().filter((trouble) => !/status of 40[04]/.test(trouble))).toEqual([]);
  });

  test('breaks where it is as long as it may be, on a desk and on a phone', async () => {
    const long = 'x'.repeat(128);
    const other = await Scene.open();
    try {
      const task = await failUnderLongNames(other.client, long);
      const visitor = await Visitor.open(browser, other.url);
      const tooWide: string[] = [];
      for (const page of ['overview', 'queues', 'tasks', `task/${task}`, 'workers', 'schedules', 'dead']) {
        await visitor.visit(page, /./);
        await visitor.sees(long);
        for (const [device, size] of Object.entries({ phone: PHONE, desk: DESK })) {
          await visitor.page.setViewportSize(size);
          if ((await visitor.overflowPx()) > 0) tooWide.push(`${page} on a ${device}`);
        }
      }
      expect(tooWide).toEqual([]);
      await visitor.leave();
    } finally {
      await other.close();
    }
  });

  test('a flow is drawn, with its states, and leads to each of its tasks', async () => {
    const queue = 'flow';
    const worker = await scene.client.work({ first: () => 1, left: () => 2, right: () => 3 }, { queues: [queue] });
    const flow = await scene.client.flow((build) => {
      const first = build.add('first', null, { queue });
      const sides = ['left', 'right'].map((name) => build.add(name, null, { queue, dependsOn: first }));
      build.add('last', null, { queue: 'nobody', dependsOn: sides });
    });
    await Promise.all(flow.tasks.slice(0, 3).map((task) => task.result()));
    await visitor.visit(`task/${flow.tasks[3]?.id}`, 'last');
    const graph = visitor.page.getByRole('region', { name: 'Graph of the flow' });
    const nodes = graph.getByRole('link');
    await graph.getByText(/^ready/).waitFor();
    expect(await nodes.count()).toBe(4);
    expect(await graph.getByText(/^completed/).count()).toBe(3);
    expect(await graph.locator('path.edge').count()).toBe(4);
    const names = ['first', 'left', 'right', 'last'];
    const boxes = await Promise.all(names.map((name) => nodes.filter({ hasText: name }).locator('rect').boundingBox()));
    const [first, left, right, last] = boxes;
    expect(first!.x).toBeLessThan(left!.x);
    expect(left!.x).toBe(right!.x);
    expect(Math.abs(left!.y - right!.y)).toBeGreaterThanOrEqual(left!.height);
    expect(right!.x).toBeLessThan(last!.x);
    await nodes.filter({ hasText: 'first' }).click();
    await visitor.page.getByRole('heading', { level: 1, name: 'first' }).waitFor();
    await worker.stop();
    expect(visitor.takeTroubles()).toEqual([]);
  });

  test('a flow that is wider than the screen shows the task that one looks at', async () => {
    const flow = await scene.client.flow((build) => {
      let last = build.add('step-0', null, { queue: 'long' });
      for (let step = 1; step <= 12; step += 1) {
        last = build.add(`step-${step}`, null, { queue: 'long', dependsOn: last });
      }
    });
    await visitor.visit(`task/${flow.tasks[9]?.id}`, 'step-9');
    const graph = visitor.page.getByRole('region', { name: 'Graph of the flow' });
    const pane = await graph.boundingBox();
    const node = await graph.getByRole('link').filter({ hasText: 'step-9' }).locator('rect').boundingBox();
    expect(node!.x).toBeGreaterThan(pane!.x);
    expect(node!.x + node!.width).toBeLessThan(pane!.x + pane!.width);
    expect(visitor.takeTroubles()).toEqual([]);
  });

  test('a large payload is shown in part, whole when asked for, and downloaded as it is', async () => {
    const text = `begins ${'x'.repeat(30_000)} ends`;
    const { id } = await scene.client.enqueue('large', text, { queue: 'content' });
    await visitor.visit(`task/${id}`, 'large');
    await visitor.sees(/The first 20,000 of 30,014 characters/);
    const shown = visitor.page.locator('pre.code');
    expect((await shown.textContent())?.length).toBe(20_000);
    await visitor.button('Show all').click();
    await expect.poll(() => shown.textContent()).toBe(JSON.stringify(text));
    const [download] = await Promise.all([
      visitor.page.waitForEvent('download'),
      visitor.button('Download the payload').click(),
    ]);
    let content = '';
    for await (const chunk of await download.createReadStream()) content += chunk;
    expect(content).toBe(JSON.stringify(text));
    expect(visitor.takeTroubles()).toEqual([]);
  });

  test('payloads that are not to be shown are said to be hidden', async () => {
    const hiding = await Scene.open({ MILLRACE_HTTP_PAYLOADS: 'off' });
    try {
      const { id } = await hiding.client.enqueue('secret', { card: '4242' }, { queue: 'content' });
      const other = await Visitor.open(browser, hiding.url);
      await other.visit(`task/${id}`, 'secret');
      await other.sees('This server does not show payloads and results.');
      expect(await other.page.getByText('4242').count()).toBe(0);
      await other.leave();
    } finally {
      await hiding.close();
    }
  });
});
