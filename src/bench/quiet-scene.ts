import type { NoiseMethods } from './noise-process.ts';
import { PART_TIMEOUT_MS, Stage } from './stage.ts';
import { NOISES, type RunResult, type Settings } from './workload.ts';

const PER_SECOND = 200;
const SECONDS = { normal: 5, quick: 0.2 };
const SLOW_READERS = { normal: 16, quick: 1 };

/** A client that enqueues now and then and waits for its results: alone, and beside others that ask for all they can get. */
export async function quietAmongNoise(settings: Settings): Promise<RunResult> {
  const size = settings.quick ? 'quick' : 'normal';
  const count = Math.ceil(SECONDS[size] * PER_SECOND);
  // Once before it counts, once alone.
  const tasks = count * (NOISES.length + 2);
  return await Stage.play(settings, 'row15', async (stage) => {
    const url = await stage.openServer();
    const noise = stage.start<NoiseMethods>('noise');
    await stage.worker.call('work', { url, tasks, handling: 'plain' }, PART_TIMEOUT_MS);
    await stage.producer.call('connect', { url }, PART_TIMEOUT_MS);
    await noise.call('connect', { url }, PART_TIMEOUT_MS);
    let first = 0;
    const measure = async (): Promise<{ p50Ms: number; p99Ms: number }> => {
      const options = { first, tasks: count, perSecond: PER_SECOND };
      first += count;
      return await stage.producer.call('enqueueForResults', options, PART_TIMEOUT_MS);
    };
    await measure();
    const before = await stage.stats();
    const alone = await measure();
    const values = [alone.p50Ms, alone.p99Ms];
    for (const kind of NOISES) {
      await noise.call('begin', { noise: kind, slowReaders: SLOW_READERS[size] }, PART_TIMEOUT_MS);
      const { p50Ms, p99Ms } = await measure();
      const { perSecond } = await noise.call('end', {}, PART_TIMEOUT_MS);
      values.push(p50Ms, p99Ms, perSecond);
    }
    const { syncs } = await stage.stats();
    const { lost, duplicated } = await stage.finish(tasks);
    return { values, fsyncs: syncs - before.syncs, lost, duplicated };
  });
}
