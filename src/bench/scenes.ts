import { bareThreadsAgainstOne } from './bare-threads.ts';
import { roundsPerMs } from './burn.ts';
import { compare, paceOf } from './comparison.ts';
import { type DiskProbe, probeDisk } from './disk-probe.ts';
import { sharedNs } from './numbers.ts';
import type { Span } from './producing.ts';
import { PART_TIMEOUT_MS, Stage } from './stage.ts';
import { CONCURRENCY, type Handling, type RunResult, type Settings, type Threaded } from './workload.ts';

const BATCH_TASKS = 1000;
const CALLERS = 256;

/** Of a row's tasks; not measured, but in the ledger. V8 has compiled what matters by then, as in any process that runs on. */
const WARM_UP_SHARE = 0.2;

const END_TO_END_TASKS = { normal: 1_000_000, quick: 20_000 };
/** Of a millisecond each, for one thread. */
const CPU_TASKS = { normal: 20_000, quick: 50 };
const BARE_TASKS = { normal: 1000, quick: 20 };
/** One for each of the two cores that a machine has at least. */
const THREADS = 2;
const CALLERS_TASKS = { normal: 500_000, quick: 5000 };
const ONE_BY_ONE_TASKS = { normal: 3000, quick: 100 };
const PACED_SECONDS = { normal: 10, quick: 0.5 };
const DISK_WRITES = { normal: 1000, quick: 20 };

const choose = (of: { normal: number; quick: number }, { quick }: Settings): number => (quick ? of.quick : of.normal);

/** All three run at the same time: from the first enqueue call to the last confirmed completion. */
export async function endToEnd(
  settings: Settings,
  name: string,
  handling: Handling,
  threads?: number,
): Promise<RunResult> {
  const tasks = settings.tasks ?? choose(END_TO_END_TASKS, settings);
  return await Stage.play(settings, name, async (stage) => {
    const url = await stage.openServer();
    const warmUp = Math.ceil(tasks * WARM_UP_SHARE);
    const { encrypted } = settings;
    if (threads === undefined) {
      await stage.worker.call('work', { url, tasks: warmUp + tasks, handling, encrypted }, PART_TIMEOUT_MS);
    } else {
      const threaded = { threads, concurrency: CONCURRENCY[handling], rounds: 0, from: warmUp };
      await stage.worker.call('workInThreads', { url, tasks: warmUp + tasks, threaded }, PART_TIMEOUT_MS);
    }
    await stage.producer.call('connect', { url, encrypted }, PART_TIMEOUT_MS);
    const enqueue = (first: number, count: number): Promise<Span> =>
      stage.producer.call('enqueueBatches', { first, tasks: count, batchTasks: BATCH_TASKS }, PART_TIMEOUT_MS);
    await Promise.all([enqueue(0, warmUp), stage.reach(warmUp)]);
    const before = await stage.stats();
    const [{ startNs }, report] = await Promise.all([enqueue(warmUp, tasks), stage.finish(warmUp + tasks)]);
    const { syncs } = await stage.stats();
    return paceOf(tasks, report.confirmedNs - startNs, report, syncs - before.syncs);
  });
}

/** The same handler in threads and in the loop, and how many times as long it takes there. */
export function threadsAgainstLoop(settings: Settings, run: number): Promise<RunResult> {
  const threads = () => endToEnd(settings, 'row13-threads', 'each', THREADS);
  const loop = () => endToEnd(settings, 'row13-loop', 'each');
  return compare(run, 'times as long', threads, loop);
}

/** A handler that keeps the processor, in two threads and in one, and how many times as many tasks they do. */
export async function threadsAgainstOne(settings: Settings, run: number): Promise<RunResult> {
  const rounds = roundsPerMs();
  const two = () => inThreads(settings, 'row12-two', THREADS, rounds);
  const one = () => inThreads(settings, 'row12-one', 1, rounds);
  const result = await compare(run, 'times as many', two, one);
  const bare = await bareThreadsAgainstOne(run, THREADS, { rounds, tasks: choose(BARE_TASKS, settings) });
  return { ...result, values: [...result.values, bare] };
}

/** Tasks wait; what is measured is how fast they are worked off, from when the warm-up is over. */
function inThreads(settings: Settings, name: string, threads: number, rounds: number): Promise<RunResult> {
  const tasks = choose(CPU_TASKS, settings) * threads;
  const warmUp = Math.ceil(tasks * WARM_UP_SHARE);
  return Stage.play(settings, name, async (stage) => {
    const url = await stage.openServer();
    await stage.producer.call('connect', { url }, PART_TIMEOUT_MS);
    const enqueued = { first: 0, tasks: warmUp + tasks, batchTasks: BATCH_TASKS };
    await stage.producer.call('enqueueBatches', enqueued, PART_TIMEOUT_MS);
    await stage.producer.leave();
    const before = await stage.stats();
    const threaded: Threaded = { threads, concurrency: undefined, rounds, from: warmUp };
    await stage.worker.call('workInThreads', { url, tasks: warmUp + tasks, threaded }, PART_TIMEOUT_MS);
    const report = await stage.finish(warmUp + tasks);
    const { syncs } = await stage.stats();
    return paceOf(tasks, report.spanNs, report, syncs - before.syncs);
  });
}

/** Callers that each await one enqueue after the other. The worker comes afterwards, for the ledger. */
export async function awaitedByMany(settings: Settings): Promise<RunResult> {
  const tasks = settings.tasks ?? choose(CALLERS_TASKS, settings);
  return await Stage.play(settings, 'row3', async (stage) => {
    const url = await stage.openServer();
    await stage.producer.call('connect', { url, encrypted: settings.encrypted }, PART_TIMEOUT_MS);
    const warmUp = Math.ceil(tasks * WARM_UP_SHARE);
    const enqueue = (first: number, count: number): Promise<Span> =>
      stage.producer.call('enqueueAwaited', { first, tasks: count, callers: CALLERS }, PART_TIMEOUT_MS);
    await enqueue(0, warmUp);
    const before = await stage.stats();
    const { startNs, endNs } = await enqueue(warmUp, tasks);
    const { syncs } = await stage.stats();
    const report = await stage.workOff(url, warmUp + tasks);
    return paceOf(tasks, endNs - startNs, report, syncs - before.syncs);
  });
}

/** The disk alone is measured right before and right after: its speed drifts. */
export async function awaitedByOne(settings: Settings): Promise<RunResult> {
  const tasks = choose(ONE_BY_ONE_TASKS, settings);
  const writes = choose(DISK_WRITES, settings);
  return await Stage.play(settings, 'row4', async (stage) => {
    const url = await stage.openServer();
    await stage.producer.call('connect', { url, encrypted: settings.encrypted }, PART_TIMEOUT_MS);
    const before = await stage.stats();
    const diskBefore = probeDisk(stage.directory, writes);
    const options = { tasks, warmUp: Math.floor(tasks / 3) };
    const { p50Us } = await stage.producer.call('enqueueOneByOne', options, PART_TIMEOUT_MS);
    const diskAfter = probeDisk(stage.directory, writes);
    const { syncs } = await stage.stats();
    const { lost, duplicated } = await stage.workOff(url, tasks);
    const ratio = (of: keyof DiskProbe): number | null => {
      const [first, last] = [diskBefore[of], diskAfter[of]];
      return first === null || last === null ? null : p50Us / ((first + last) / 2);
    };
    const values = [p50Us, ratio('fdatasyncP50Us'), ratio('zeroedDsyncP50Us')];
    return { values, fsyncs: syncs - before.syncs, lost, duplicated };
  });
}

export async function startLatency(settings: Settings, perSecond: number): Promise<RunResult> {
  const measured = Math.ceil(choose(PACED_SECONDS, settings) * perSecond);
  const warmUp = Math.ceil(measured * WARM_UP_SHARE);
  const tasks = warmUp + measured;
  return await Stage.play(settings, `row5-${perSecond}`, async (stage) => {
    const url = await stage.openServer();
    await stage.worker.call('work', { url, tasks, handling: 'timed', encrypted: settings.encrypted }, PART_TIMEOUT_MS);
    await stage.producer.call('connect', { url, encrypted: settings.encrypted }, PART_TIMEOUT_MS);
    const before = await stage.stats();
    const [, report] = await Promise.all([
      stage.producer.call('enqueuePaced', { tasks, perSecond }, PART_TIMEOUT_MS),
      stage.finish(tasks, warmUp),
    ]);
    const { syncs } = await stage.stats();
    const { startLatencyMs, lost, duplicated } = report;
    const values = [startLatencyMs?.p50 ?? null, startLatencyMs?.p99 ?? null];
    return { values, fsyncs: syncs - before.syncs, lost, duplicated };
  });
}

/** Tasks queue up with no worker; the server is killed, opened again and worked off. */
export async function backlog(settings: Settings, tasks: number): Promise<RunResult> {
  return await Stage.play(settings, `row6-${tasks}`, async (stage) => {
    const emptyUrl = await stage.openServer();
    await stage.producer.call('connect', { url: emptyUrl, encrypted: settings.encrypted }, PART_TIMEOUT_MS);
    const empty = await stage.stats();
    await stage.producer.call('enqueueBatches', { first: 0, tasks, batchTasks: BATCH_TASKS }, PART_TIMEOUT_MS);
    const full = await stage.stats();
    // It would try to reconnect, and so take time from what is measured next.
    await stage.producer.leave();
    await stage.crashServer();
    const startNs = sharedNs();
    const url = await stage.reopenServer();
    const { firstNs, lost, duplicated } = await stage.workOff(url, tasks);
    const values = [
      (full.rssBytes - empty.rssBytes) / tasks,
      (full.appendedBytes - empty.appendedBytes) / tasks,
      full.allocatedBytes / tasks,
      firstNs === 0 ? null : (firstNs - startNs) / 1e6,
    ];
    return { values, fsyncs: full.syncs - empty.syncs, lost, duplicated };
  });
}
