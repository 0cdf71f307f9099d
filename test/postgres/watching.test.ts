import { describe, expect, test } from 'vitest';
import type { StoreWatcher } from '../../src/broker/store.ts';
import { Arrivals } from '../conformance/events.ts';
import { arrival, proxyTo, shared, tasks, within } from './scene.ts';

class Ears implements StoreWatcher {
  readonly cancels = new Arrivals<string>();
  readonly pauses = new Arrivals<string>();

  cancelRequested(ids: readonly string[]): void {
    for (const id of ids) this.cancels.add(id);
  }

  paused(queues: readonly string[]): void {
    this.pauses.add(queues.join());
  }

  released(): void {}
  watched(): void {}
}

describe.skipIf(shared === undefined)('watching', () => {
  test(
    'everybody hears of pauses and of cancels that were asked for, also those from before',
    within(async (scene) => {
      const [one, other] = [await scene.store(), await scene.store()];
      const ids = scene.ids(3);
      const [before, after, waiting] = ids as [string, string, string];
      await one.insert([tasks(ids)]);
      await one.begin('w1', [arrival(before), arrival(after)]);
      await one.cancelTask(before);
      await one.pauseQueue('a');
      const ears = [new Ears(), new Ears()];
      await one.watch(ears[0] as Ears);
      await other.watch(ears[1] as Ears);
      for (const { cancels, pauses } of ears) {
        expect(cancels.all).toEqual([before]);
        expect(pauses.all).toEqual(['a']);
      }
      await other.cancelTask(after);
      // Nobody has to be told: it does not run.
      await other.cancelTask(waiting);
      await one.pauseQueue('b');
      for (const { cancels, pauses } of ears) {
        expect(await cancels.count(2)).toEqual([before, after]);
        expect((await pauses.count(2)).at(-1)).toBe('a,b');
      }
      await other.resumeQueue('a');
      for (const { pauses } of ears) expect((await pauses.count(3)).at(-1)).toBe('b');
    }),
  );

  test(
    'what happened while the connection was lost is told after it is back, and what happens then too',
    within(async (scene) => {
      const { proxy, url } = await proxyTo(scene);
      const [behind, direct] = [await scene.store({ url }), await scene.store()];
      const ids = scene.ids(2);
      await direct.insert([tasks(ids)]);
      await direct.begin(
        'w1',
        ids.map((id) => arrival(id)),
      );
      const { cancels, pauses } = await listening();
      proxy.refuse();
      proxy.cut();
      await direct.pauseQueue('a');
      await direct.cancelTask(ids[0] as string);
      proxy.pass();
      expect(await cancels.count(1)).toEqual([ids[0]]);
      expect((await pauses.count(2)).at(-1)).toBe('a');
      await direct.cancelTask(ids[1] as string);
      expect((await cancels.count(2)).at(-1)).toBe(ids[1]);
      for (let round = 0; round < 3; round++) {
        const heard = pauses.all.length;
        proxy.cut();
        expect((await pauses.count(heard + 1)).at(-1)).toBe('a');
      }
      await behind.close(1000);
      await proxy.stop();

      async function listening(): Promise<Ears> {
        const ears = new Ears();
        await behind.watch(ears);
        expect(ears.pauses.all).toEqual(['']);
        return ears;
      }
    }),
  );
});
