import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, test } from 'vitest';
import { Credentials } from '../../src/access/credentials.ts';
import { Keyring } from '../../src/access/keyring.ts';
import { open } from '../../src/connect.ts';
import { Metrics } from '../../src/http/metrics.ts';
import { type Client, connect } from '../../src/index.ts';
import { LIMITS } from '../../src/limits.ts';
import { serveOverServer } from '../../src/serve.ts';
import { Server } from '../../src/server/server.ts';
import { RunningCommand } from '../support/command.ts';
import { Gate } from '../support/embedded.ts';
import { sharedRabbit } from '../support/services.ts';
import { Exposition, scrape } from './exposition.ts';
import { HttpPlace, httpBackends, post } from './place.ts';

const [backends, rabbit] = await Promise.all([httpBackends(), sharedRabbit()]);

/** A server on disk, with HTTP over it, as `millrace server` has them, and a client of it. */
class Place {
  readonly client: Client;
  readonly url: string;
  readonly #close: () => Promise<unknown>;

  static async open(directory: string): Promise<Place> {
    const server = await Server.start({ directory, port: 0 });
    const service = await serveOverServer(server, {
      ...{ host: '127.0.0.1', port: 0, tls: undefined, showPayloads: true },
      onNotice: (_level, message) => {
        throw new Error(message);
      },
    });
    const client = await connect(server.url);
    return new Place(client, service.url, async () => {
      await client.close();
      await service.stop({ timeoutMs: 0 });
      await server.stop({ timeoutMs: 0 });
    });
  }

  private constructor(client: Client, url: string, close: () => Promise<unknown>) {
    this.client = client;
    this.url = url;
    this.#close = close;
  }

  scrape(): Promise<Exposition> {
    return scrape(this.url);
  }

  async close(): Promise<void> {
    await this.#close();
  }
}

const FAILS_ONCE = { maxAttempts: 2, backoff: { type: 'fixed', delayMs: 0 } } as const;

/** 10 tasks: 6 completed, of which 2 at the second attempt; 3 dead; 1 cancelled. */
async function traffic(client: Client, queue: string): Promise<void> {
  const handlers = {
    good: async () => {},
    bad: async () => {
      throw new Error('no');
    },
    shaky: async (_input: unknown, { attempt }: { attempt: number }) => {
      if (attempt === 1) throw new Error('not yet');
    },
  };
  const worker = await client.work(handlers, { queues: [queue] });
  const later = await client.enqueue('good', {}, { queue, delayMs: 3_600_000 });
  await later.cancel();
  const tasks = await Promise.all([
    ...Array.from({ length: 4 }, () => client.enqueue('good', {}, { queue })),
    ...Array.from({ length: 3 }, () => client.enqueue('bad', {}, { queue, maxAttempts: 1 })),
    ...Array.from({ length: 2 }, () => client.enqueue('shaky', {}, { queue, ...FAILS_ONCE })),
  ]);
  await Promise.allSettled(tasks.map((task) => task.result()));
  await worker.stop();
}

describe('the metrics of a server', () => {
  let directory: string;
  let place: Place;

  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), 'millrace-metrics-'));
    place = await Place.open(directory);
  });

  afterEach(async () => {
    await place.close();
    await rm(directory, { recursive: true });
  });

  const totals = (metrics: Exposition, queue: string) =>
    Object.fromEntries(
      ['enqueued', 'completed', 'failed', 'dead', 'cancelled'].map((what) => [
        what,
        metrics.value(`millrace_tasks_${what}_total{queue="${queue}"}`),
      ]),
    );

  it('are text of Prometheus’ format, and say so', async () => {
    await traffic(place.client, 'a');
    const response = await fetch(`${place.url}/metrics`);
    expect(response.headers.get('content-type')).toBe('text/plain; version=0.0.4; charset=utf-8');
    expect(response.headers.get('cache-control')).toBe('no-store');
    const metrics = new Exposition(await response.text());
    expect(metrics.types.get('millrace_tasks_enqueued_total')).toBe('counter');
    expect(metrics.types.get('millrace_queue_tasks')).toBe('gauge');
    expect(metrics.types.get('millrace_task_duration_seconds')).toBe('histogram');
    const { version } = JSON.parse(await readFile('package.json', 'utf8')) as { version: string };
    expect(metrics.value(`millrace_build_info{version="${version}"}`)).toBe(1);
  });

  it('count exactly what was enqueued, completed, failed, dead and cancelled, also after a restart', async () => {
    await traffic(place.client, 'a');
    const expected = { enqueued: 10, completed: 6, failed: 5, dead: 3, cancelled: 1 };
    expect(totals(await place.scrape(), 'a')).toEqual(expected);
    await place.close();
    place = await Place.open(directory);
    expect(totals(await place.scrape(), 'a')).toEqual(expected);
    await traffic(place.client, 'a');
    expect(totals(await place.scrape(), 'a')).toEqual({
      enqueued: 20,
      completed: 12,
      failed: 10,
      dead: 6,
      cancelled: 2,
    });
  });

  it('tell how many tasks are in which state, whether the queue is paused, and who works', async () => {
    const { client } = place;
    const started = new Gate();
    const end = new Gate();
    await client.enqueue('later', {}, { queue: 'a', delayMs: 3_600_000 });
    await client.queue('b').pause();
    await client.enqueueMany('idle', [{}, {}], { queue: 'b' });
    const task = await client.enqueue('slow', {}, { queue: 'a' });
    const slow = async (): Promise<void> => {
      started.open();
      await end.opened;
    };
    const workers = await Promise.all(
      [3, 1].map((concurrency) => client.work({ slow }, { queues: ['a'], name: 'twin', concurrency })),
    );
    await started.opened;
    const metrics = await place.scrape();
    expect(metrics.value('millrace_queue_tasks{queue="a",state="scheduled"}')).toBe(1);
    expect(metrics.value('millrace_queue_tasks{queue="a",state="active"}')).toBe(1);
    expect(metrics.value('millrace_queue_tasks{queue="b",state="ready"}')).toBe(2);
    expect(metrics.value('millrace_queue_oldest_ready_seconds{queue="b"}')).toBeGreaterThan(0);
    expect(metrics.value('millrace_queue_oldest_ready_seconds{queue="a"}')).toBe(0);
    expect(
      metrics.labelsOf('millrace_queue_paused').map((l) => [l, metrics.value(`millrace_queue_paused${l}`)]),
    ).toEqual([
      ['{queue="a"}', 0],
      ['{queue="b"}', 1],
    ]);
    expect(metrics.value('millrace_queue_workers{queue="a"}')).toBe(2);
    expect(metrics.value('millrace_queue_workers{queue="b"}')).toBe(0);
    expect(metrics.value('millrace_workers')).toBe(2);
    // Two of one name are one.
    expect(metrics.value('millrace_worker_concurrency{worker="twin"}')).toBe(4);
    expect(metrics.value('millrace_worker_running_tasks{worker="twin"}')).toBe(1);
    expect(metrics.value('millrace_worker_utilisation_ratio{worker="twin"}')).toBeGreaterThan(0);
    expect(metrics.value('millrace_worker_utilisation_ratio{worker="twin"}')).toBeLessThanOrEqual(0.5);
    end.open();
    await task.result();
    await Promise.all(workers.map((worker) => worker.stop()));
  });

  it('have a duration for each start, attempt, completion and sync', async () => {
    const before = await place.scrape();
    await traffic(place.client, 'a');
    const after = await place.scrape();
    const grown = (name: string): number => after.value(name) - before.value(name);
    // All but the cancelled one started, two of them twice; three died.
    expect(grown('millrace_task_start_delay_seconds_count')).toBe(9);
    expect(grown('millrace_task_duration_seconds_count')).toBe(11);
    expect(grown('millrace_task_total_seconds_count')).toBe(6);
    expect(grown('millrace_task_total_seconds_sum')).toBeGreaterThan(0);
    expect(grown('millrace_fsync_duration_seconds_count')).toBeGreaterThan(0);
    expect(grown('millrace_fsync_duration_seconds_count')).toBe(grown('millrace_journal_syncs_total'));
    expect(grown('millrace_fsync_duration_seconds_sum')).toBeGreaterThan(0);
    expect(grown('millrace_journal_appended_bytes_total')).toBeGreaterThan(0);
    expect(after.value('millrace_journal_segments')).toBe(1);
  });

  it('have series of their own for a bounded number of queues; the rest are counted together', async () => {
    const { client } = place;
    const { metricsQueuesMax } = LIMITS;
    const deep = 'the-last-and-deepest';
    const names = Array.from({ length: metricsQueuesMax + 20 }, (_, i) => `q${i}`);
    await Promise.all(names.map((queue) => client.enqueue('n', {}, { queue })));
    await client.enqueueMany('n', [{}, {}], { queue: deep });
    const first = await place.scrape();
    const label = '{queue="(other)"}';
    for (const what of ['enqueued', 'completed', 'failed', 'dead', 'cancelled']) {
      expect(first.labelsOf(`millrace_tasks_${what}_total`)).toHaveLength(metricsQueuesMax + 1);
    }
    expect(first.value(`millrace_tasks_enqueued_total{queue="${deep}"}`)).toBe(2);
    expect(first.value(`millrace_tasks_enqueued_total${label}`)).toBe(0);
    expect(first.value('millrace_queue_tasks{queue="(other)",state="ready"}')).toBe(21);
    expect(first.value('millrace_queues')).toBe(names.length + 1);
    await Promise.all(names.map((queue) => client.enqueue('n', {}, { queue })));
    const second = await place.scrape();
    expect(second.value(`millrace_tasks_enqueued_total${label}`)).toBe(21);
    expect(second.labelsOf('millrace_queue_paused')).toEqual(first.labelsOf('millrace_queue_paused'));
  });

  it('keep what a name says, whatever is in it', async () => {
    await place.client.enqueue('n', {}, { queue: 'say "hi" \\ {a="b"} – ü' });
    const metrics = await place.scrape();
    expect(metrics.value('millrace_tasks_enqueued_total{queue="say \\"hi\\" \\\\ {a=\\"b\\"} – ü"}')).toBe(1);
  });

  it('are made once for all who ask at the same time', async () => {
    const { client, broker } = await open('memory:');
    let asked = 0;
    const counted = new Proxy(broker, {
      get: (target, name) => {
        if (name === 'status') asked++;
        const value = Reflect.get(target, name);
        return typeof value === 'function' ? value.bind(target) : value;
      },
    });
    const metrics = new Metrics({
      broker: counted,
      features: { tasks: true, events: true, schedules: true, limits: true },
    });
    const texts = await Promise.all([metrics.scrape(), metrics.scrape(), metrics.scrape()]);
    expect(new Set(texts).size).toBe(1);
    expect(asked).toBe(1);
    await metrics.scrape();
    expect(asked).toBe(2);
    metrics.stop();
    await client.close();
  });

  it('tell of the process, from the second scrape on also of its event loop', async () => {
    const first = await place.scrape();
    expect(first.value('process_cpu_seconds_total')).toBeGreaterThan(0);
    expect(first.value('process_resident_memory_bytes')).toBeGreaterThan(1e6);
    expect(Math.abs(first.value('process_start_time_seconds') * 1000 - performance.timeOrigin)).toBeLessThan(1);
    expect(first.names).not.toContain('nodejs_eventloop_lag_p99_seconds');
    await expect.poll(async () => (await place.scrape()).names).toContain('nodejs_eventloop_lag_p99_seconds');
  });

  it('are those of docs/metrics.md', async () => {
    const text = await readFile('docs/metrics.md', 'utf8');
    const rows = [...text.matchAll(/^\| (`[a-z_0-9`, ]+`) \| (counter|gauge|histogram) \| ([a-z`, ]*) ?\|/gm)];
    const documented = rows.flatMap(([, names = '', type]) =>
      names.split(', ').map((name) => [name.slice(1, -1), type]),
    );
    await expect.poll(async () => (await place.scrape()).names).toContain('nodejs_eventloop_lag_p99_seconds');
    const { types } = await place.scrape();
    // Where the system does not tell them.
    const missing = process.platform === 'linux' ? [] : ['process_open_fds', 'process_max_fds'];
    expect(new Map(documented.filter(([name = '']) => !missing.includes(name)) as [string, string][])).toEqual(types);
  });

  it.each(['dashboard', 'rules'] as const)('have every name that the %s in examples/ use', async (what) => {
    await traffic(place.client, 'a');
    const worker = await place.client.work({ n: async () => {} }, { queues: ['a'] });
    await expect.poll(async () => (await place.scrape()).names).toContain('nodejs_eventloop_lag_p99_seconds');
    const { names } = await place.scrape();
    await worker.stop();
    const queries = what === 'dashboard' ? await dashboardQueries() : await ruleQueries();
    expect(queries.length).toBeGreaterThan(6);
    for (const query of queries) {
      const used = query.match(/\b(?:millrace|process|nodejs)_\w+/g) ?? [];
      expect(used.length, query).toBeGreaterThan(query.startsWith('up{') ? -1 : 0);
      for (const name of used) expect(names, query).toContain(name);
    }
  });
});

async function dashboardQueries(): Promise<string[]> {
  const { panels, templating } = JSON.parse(await readFile('examples/grafana/millrace.json', 'utf8')) as {
    panels: { type: string; title: string; description: string; targets?: { expr: string }[] }[];
    templating: { list: { type: string; query: string | { query: string } }[] };
  };
  const variables = templating.list.filter(({ type }) => type === 'query').map(({ query }) => query);
  for (const { type, title, description } of panels) {
    if (type !== 'row') expect(description, `${title} says what it shows`).toMatch(/\w/);
  }
  return [
    ...panels.flatMap(({ targets = [] }) => targets.map(({ expr }) => expr)),
    ...variables.map((query) => (typeof query === 'string' ? query : query.query)),
  ];
}

/** Each rule is `- alert: Name` and what stands under it; its query is one line. */
async function ruleQueries(): Promise<string[]> {
  const text = await readFile('examples/prometheus/alerts.yml', 'utf8');
  const rules = text.split(/^ +- alert: /m).slice(1);
  return rules.map((rule) => {
    const [name = ''] = rule.split('\n', 1);
    for (const part of [/^ +for: \d+[smh]$/m, /^ +severity: (warning|critical)$/m, /^ +summary: \S/m]) {
      expect(rule, name).toMatch(part);
    }
    expect(rule, `${name} says what to do`).toMatch(/^ +description: \S/m);
    const query = /^ +expr: (.+)$/m.exec(rule)?.[1];
    if (query === undefined) throw new Error(`${name} has no query`);
    return query.replace(/^'(.*)'$/, '$1');
  });
}

test.each(backends.filter(({ hasStore }) => hasStore))(
  'over $name there are queues, workers and the process, without histograms',
  async ({ open }) => {
    const place = await open();
    try {
      const { client } = place;
      const worker = await client.work({ good: async () => {} }, { queues: ['a'] });
      const task = await client.enqueue('good', {}, { queue: 'a' });
      await task.result();
      await expect
        .poll(async () => (await scrape(place.url)).labelsOf('millrace_queue_workers'), { timeout: 10_000 })
        .toContain('{queue="a"}');
      const metrics = await scrape(place.url);
      expect(metrics.value('millrace_workers')).toBeGreaterThan(0);
      expect(metrics.value('process_cpu_seconds_total')).toBeGreaterThan(0);
      expect([...metrics.types.values()]).not.toContain('histogram');
      await worker.stop();
    } finally {
      await place.close();
    }
  },
);

test.skipIf(rabbit === undefined)('over RabbitMQ alone only what it knows is told', async () => {
  const vhost = await (rabbit as NonNullable<typeof rabbit>).vhost();
  const features = { tasks: false, events: false, schedules: false, limits: false };
  const place = await HttpPlace.open(vhost.url, {}, { drop: () => vhost.drop(), over: { features } });
  try {
    await place.client.enqueueMany('n', [{}, {}, {}], { queue: 'a' });
    const metrics = await scrape(place.url);
    expect(metrics.value('millrace_queue_tasks{queue="a",state="ready"}')).toBe(3);
    expect(metrics.value('millrace_queue_tasks{queue="a",state="dead"}')).toBe(0);
    expect(metrics.labelsOf('millrace_queue_tasks')).toHaveLength(2);
    for (const name of ['millrace_tasks_enqueued_total', 'millrace_queue_workers', 'millrace_workers']) {
      expect(metrics.names).not.toContain(name);
    }
  } finally {
    await place.close();
  }
});

test('metrics need the role read where there are credentials', async () => {
  const secret = 'a-secret-that-is-long-enough-to-be-one';
  const keyring = new Keyring(Credentials.parse(`read prometheus ${secret}\n`, 'credentials'));
  const place = await HttpPlace.open(undefined, {}, { over: { access: { keyring, hostNames: [] } } });
  try {
    expect((await fetch(`${place.url}/metrics`)).status).toBe(401);
    const headers = { authorization: `Bearer ${secret}` };
    expect((await fetch(`${place.url}/metrics`, { headers })).status).toBe(200);
  } finally {
    await place.close();
  }
});

test('millrace server has histograms, and keeps its counters when it is killed', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'millrace-metrics-'));
  try {
    const first = await startServer(directory);
    const { status } = await post(`${first.url}/v1/tasks`, { name: 'a' });
    expect(status).toBe(201);
    const before = await scrape(first.url);
    expect(before.types.get('millrace_task_start_delay_seconds')).toBe('histogram');
    expect(before.value('millrace_fsync_duration_seconds_count')).toBeGreaterThan(0);
    await first.command.kill();
    const second = await startServer(directory);
    expect((await scrape(second.url)).value('millrace_tasks_enqueued_total{queue="default"}')).toBe(1);
    await second.command.kill();
  } finally {
    await rm(directory, { recursive: true });
  }
});

async function startServer(directory: string): Promise<{ url: string; command: RunningCommand }> {
  const args = ['server', '--data', directory, '--port', '0', '--http-port', '0'];
  const command = new RunningCommand(args, { directory });
  const [, url = ''] = await command.said(/HTTP API on (http:\S+)/);
  return { url, command };
}
