import type { ComponentChildren } from 'preact';
import { usePoller } from '../api/live.ts';
import { stats, utilisationOf } from '../api/stats.ts';
import type { QueueStatus, Status, WorkerStatus } from '../api/types.ts';
import { bytes, count, duration, plural, rate, share } from '../format.ts';
import { Fact } from '../parts/fact.tsx';
import { Icon } from '../parts/icons.tsx';
import { Bar, Command, Empty, Panel, Unready } from '../parts/states.tsx';
import { type Column, Table } from '../parts/table.tsx';
import { SPANS_MIN, setSpan, spanMin } from '../preferences.ts';
import { href } from '../route.ts';
import { useStore } from '../store.ts';
import { type Concern, concerns } from './concerns.ts';
import { Charts } from './overview-charts.tsx';

export function Overview() {
  const { data, error } = usePoller(stats);
  if (data === undefined) return <Unready title="Overview" error={error} onRetry={() => stats.refresh()} />;
  return (
    <>
      <div class="page-head">
        <h1>Overview</h1>
        <Spans />
      </div>
      <Tiles status={data} />
      <Concerns list={concerns(data)} />
      <Charts />
      <div class="columns">
        <BusyQueues queues={data.queues} />
        <BusyWorkers workers={data.workers} />
      </div>
      <ServerFacts status={data} />
    </>
  );
}

function Spans() {
  const shown = useStore(spanMin);
  return (
    <fieldset class="segments">
      <legend class="sr-only">Charts show the last</legend>
      {SPANS_MIN.map((minutes) => (
        <label key={minutes}>
          <input type="radio" name="span" checked={minutes === shown} onChange={() => setSpan(minutes)} />
          <span>{minutes} min</span>
        </label>
      ))}
    </fieldset>
  );
}

function Tiles({ status }: { status: Status }) {
  const { throughput, latencyMs, queues, workers } = status;
  const sum = (of: (queue: QueueStatus) => number): number => queues.reduce((total, queue) => total + of(queue), 0);
  const oldest = queues.reduce((one, other) => (other.oldestReadyMs > one.oldestReadyMs ? other : one), NO_QUEUE);
  const ready = sum((queue) => queue.ready);
  const dead = sum((queue) => queue.dead);
  const places = workers.reduce((total, { concurrency }) => total + concurrency, 0);
  const hasLatency = latencyMs.start.count > 0;
  return (
    <dl class="tiles">
      <Tile label="In" value={rate(throughput.enqueued)} unit="/s" mark="in" />
      <Tile label="Out" value={rate(throughput.completed)} unit="/s" mark="out" />
      <Tile
        label="Failed"
        value={rate(throughput.failed)}
        unit="/s"
        mark="failed"
        note={throughput.completed + throughput.failed === 0 ? '' : `${failedShare(throughput)} of attempts`}
      />
      <Tile
        label="Until started"
        value={hasLatency ? duration(latencyMs.start.p50) : '–'}
        note={hasLatency ? `p99 ${duration(latencyMs.start.p99)}` : 'none in a minute'}
      />
      <Tile
        label="Ready"
        value={count(ready)}
        note={ready === 0 ? 'nothing waits' : `oldest ${duration(oldest.oldestReadyMs)} in ${oldest.name}`}
      />
      <Tile
        label="Workers busy"
        value={places === 0 ? '–' : share(utilisationOf(workers))}
        note={places === 0 ? 'no workers' : `${plural(workers.length, 'worker')}, ${plural(places, 'handler')}`}
      />
      <Tile label="Dead" value={count(dead)} note={dead === 0 ? 'none' : <a href="#/dead">see why</a>} />
    </dl>
  );
}

const NO_QUEUE = { name: '', oldestReadyMs: 0 };

function failedShare({ completed, failed }: { completed: number; failed: number }): string {
  const part = failed / (completed + failed);
  return part > 0 && part < 0.01 ? '< 1%' : share(part);
}

interface TileProps {
  label: string;
  value: string;
  unit?: string;
  note?: ComponentChildren;
  mark?: 'in' | 'out' | 'failed';
}

function Tile({ label, value, unit, note, mark }: TileProps) {
  return (
    <div class="tile">
      <dt>
        {mark && <span class={`tile-mark tile-mark-${mark}`} aria-hidden="true" />}
        {label}
      </dt>
      <dd>
        <span class="tile-value">
          {value}
          {unit && <span class="tile-unit">{unit}</span>}
        </span>
        <span class="tile-note">{note}</span>
      </dd>
    </div>
  );
}

const CONCERNS_MAX = 5;

function Concerns({ list }: { list: Concern[] }) {
  if (list.length === 0) {
    return (
      <p class="calm">
        <Icon name="check" /> Nothing needs attention.
      </p>
    );
  }
  return (
    <ul class="concerns" aria-label="What needs attention">
      {list.slice(0, CONCERNS_MAX).map(({ text, to, link }) => (
        <li key={text}>
          <Icon name="warning" />
          <span>{text}</span>
          <a href={to}>{link}</a>
        </li>
      ))}
      {list.length > CONCERNS_MAX && <li class="muted">and {count(list.length - CONCERNS_MAX)} more like these</li>}
    </ul>
  );
}

const BUSY_ROWS = 8;

const QUEUE_COLUMNS: readonly Column<QueueStatus>[] = [
  {
    key: 'name',
    title: 'Queue',
    isName: true,
    cell: ({ name, paused }) => (
      <>
        <a href={href('tasks', { queue: name })}>{name}</a> {paused && <span class="tag">paused</span>}
      </>
    ),
  },
  { key: 'ready', title: 'Ready', isFigure: true, cell: ({ ready }) => count(ready) },
  { key: 'active', title: 'Active', isFigure: true, cell: ({ active }) => count(active) },
  { key: 'dead', title: 'Dead', isFigure: true, cell: ({ dead }) => count(dead) },
  {
    key: 'oldest',
    title: 'Oldest ready',
    isFigure: true,
    cell: ({ ready, oldestReadyMs }) => (ready === 0 ? '–' : duration(oldestReadyMs)),
  },
];

function BusyQueues({ queues }: { queues: readonly QueueStatus[] }) {
  const busiest = [...queues]
    .sort((one, other) => other.ready + other.active - one.ready - one.active)
    .slice(0, BUSY_ROWS);
  return (
    <Panel title="Queues" aside={<a href="#/queues">All {count(queues.length)}</a>}>
      {queues.length === 0 ? (
        <Empty title="No queues yet: a queue is there once something was enqueued.">
          <Command>{`npx millrace enqueue hello '{"to": "world"}'`}</Command>
        </Empty>
      ) : (
        <Table caption="Busiest queues" columns={QUEUE_COLUMNS} rows={busiest} rowKey={({ name }) => name} />
      )}
    </Panel>
  );
}

const WORKER_COLUMNS: readonly Column<WorkerStatus>[] = [
  {
    key: 'name',
    title: 'Worker',
    isName: true,
    cell: ({ id, name }) => <a href={href('tasks', { state: 'active', worker: id })}>{name}</a>,
  },
  {
    key: 'busy',
    title: 'Busy',
    cell: ({ utilisation }) => <Bar value={utilisation} label={share(utilisation)} />,
  },
  {
    key: 'running',
    title: 'Running',
    isFigure: true,
    cell: ({ running, concurrency }) => `${count(running)} / ${count(concurrency)}`,
  },
  { key: 'completed', title: 'Completed', isFigure: true, cell: ({ completed }) => count(completed) },
  { key: 'failed', title: 'Failed', isFigure: true, cell: ({ failed }) => count(failed) },
];

function BusyWorkers({ workers }: { workers: readonly WorkerStatus[] }) {
  const busiest = [...workers].sort((one, other) => other.utilisation - one.utilisation).slice(0, BUSY_ROWS);
  return (
    <Panel title="Workers" aside={<a href="#/workers">All {count(workers.length)}</a>}>
      {workers.length === 0 ? (
        <Empty title="No workers are connected: nothing is being done.">
          <Command>npx millrace worker --handlers ./handlers.js</Command>
        </Empty>
      ) : (
        <Table caption="Busiest workers" columns={WORKER_COLUMNS} rows={busiest} rowKey={({ id }) => id} />
      )}
    </Panel>
  );
}

function ServerFacts({ status: { server, journal, memory } }: { status: Status }) {
  return (
    <dl class="facts facts-line">
      <Fact label="Millrace">{server.version}</Fact>
      <Fact label="Up">{duration(Math.floor(server.uptimeMs / 1000) * 1000)}</Fact>
      <Fact label="fsync">{server.durability}</Fact>
      <Fact label="Connections">{count(server.connections)}</Fact>
      <Fact label="Journal">
        {journal === null ? 'none' : `${bytes(journal.bytes)} in ${plural(journal.segments, 'segment')}`}
      </Fact>
      <Fact label="Memory">{bytes(memory.rssBytes)}</Fact>
      <Fact label="Process">{server.pid}</Fact>
    </dl>
  );
}
