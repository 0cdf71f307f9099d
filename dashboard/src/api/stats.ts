import { route } from '../route.ts';
import { Store } from '../store.ts';
import { get } from './client.ts';
import { Poller } from './live.ts';
import type { Info, Sample, StatsHistory, Status } from './types.ts';

/** Pages that show it; on others it is for the menu, and what is proposed while typing. */
const STATS_PAGES = ['overview', 'workers'];
const isStatsPage = (): boolean => STATS_PAGES.includes(route.value.page);

export const stats = new Poller<Status>('v1/stats', () => (isStatsPage() ? 1000 : 5000));
export const info = new Poller<Info>('v1/info', 60_000);

export const HISTORY_MS = 15 * 60_000;
/** After so long without a sample the server's history is asked for, which has what was missed here. */
const GAP_MS = 8000;

/** The last minutes, oldest first: what the server has kept, and each answer since. */
export const samples = new Store<readonly Sample[]>([]);

let shownPage = route.value.page;
route.watch(() => {
  const { page } = route.value;
  if (page !== shownPage && isStatsPage()) stats.refresh();
  shownPage = page;
});

let isAsking = false;

stats.watch(() => {
  const { data, error } = stats.value;
  if (data === undefined || error !== undefined) return;
  const sample = sampleOf(data);
  const last = samples.value.at(-1);
  if (last === undefined || sample.atMs - last.atMs > GAP_MS) void load(sample);
  else if (sample.atMs > last.atMs) append(sample);
});

async function load(sample: Sample): Promise<void> {
  if (isAsking) return;
  isAsking = true;
  try {
    const { samples: kept } = await get<StatsHistory>('v1/stats/history');
    samples.set(kept.filter(({ atMs }) => atMs < sample.atMs));
  } catch {
    // Charts begin with now; an outage shows in the head of the page.
  } finally {
    isAsking = false;
  }
  append(sample);
}

function append(sample: Sample): void {
  const from = sample.atMs - HISTORY_MS;
  samples.set([...samples.value.filter(({ atMs }) => atMs >= from), sample]);
}

export function sampleOf({ server, throughput, latencyMs, queues, workers }: Status): Sample {
  const sum = (state: 'ready' | 'active' | 'scheduled' | 'blocked' | 'dead'): number =>
    queues.reduce((total, queue) => total + queue[state], 0);
  return {
    // By the server's clock, like its history.
    atMs: server.startedAtMs + server.uptimeMs,
    throughput,
    latencyMs,
    queues: {
      ready: sum('ready'),
      active: sum('active'),
      scheduled: sum('scheduled'),
      blocked: sum('blocked'),
      dead: sum('dead'),
    },
    oldestReadyMs: Math.max(0, ...queues.map(({ oldestReadyMs }) => oldestReadyMs)),
    workers: workers.length,
    utilisation: utilisationOf(workers),
  };
}

/** Of all handlers, the share that was busy. */
export function utilisationOf(workers: Status['workers']): number {
  const places = workers.reduce((sum, { concurrency }) => sum + concurrency, 0);
  const busy = workers.reduce((sum, { concurrency, utilisation }) => sum + concurrency * utilisation, 0);
  return places === 0 ? 0 : busy / places;
}
