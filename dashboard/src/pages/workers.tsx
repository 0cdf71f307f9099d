import { pathOf } from '../api/client.ts';
import { usePoll, usePoller } from '../api/live.ts';
import { info, stats } from '../api/stats.ts';
import type { TaskPage, WorkerStatus } from '../api/types.ts';
import { count, duration, plural, rate, share } from '../format.ts';
import { Bar, Command, Empty, Failure, Loading, Unready } from '../parts/states.tsx';
import { type Column, Table } from '../parts/table.tsx';
import { Ago, useNow } from '../parts/time.tsx';
import { href, taskHref } from '../route.ts';
import { useStore } from '../store.ts';
import { HOST_COLUMN, nameColumn, seenColumn, useOpenRows } from './process-columns.tsx';
import { Supervisors } from './supervisors.tsx';

/** Few workers show what they do at once. */
const OPEN_WORKERS_MAX = 3;
const CURRENT_TASKS_MAX = 20;
const CURRENT_POLL_MS = 2000;

export function Workers() {
  const { data, error } = usePoller(stats);
  const url = useStore(info).data?.url;
  const open = useOpenRows(data?.workers.length ?? 0, OPEN_WORKERS_MAX);
  if (data === undefined) return <Unready title="Workers" error={error} onRetry={() => stats.refresh()} />;
  const { workers, supervisors = [] } = data;
  const columns: readonly Column<WorkerStatus>[] = [nameColumn('Worker', open), ...COLUMNS];
  return (
    <>
      <div class="page-head">
        <h1>Workers</h1>
        <span class="muted">
          {plural(workers.length, 'worker')}, {plural(total(workers, 'concurrency'), 'handler')},{' '}
          {count(total(workers, 'running'))} running
        </span>
      </div>
      {workers.length === 0 ? (
        <Empty title="No workers are connected: nothing is being done.">
          <Command>{`npx millrace worker --url ${url ?? 'tcp://127.0.0.1:5555'} --handlers ./handlers.js`}</Command>
        </Empty>
      ) : (
        <div class="panel">
          <Table
            caption="Workers"
            columns={columns}
            rows={workers}
            rowKey={({ id }) => id}
            initial={{ key: 'name', isDescending: false }}
            below={({ id, running }) => open.isOpen(id) && <CurrentTasks worker={id} running={running} />}
          />
        </div>
      )}
      {supervisors.length > 0 && <Supervisors supervisors={supervisors} />}
    </>
  );
}

function total(workers: readonly WorkerStatus[], of: 'concurrency' | 'running'): number {
  return workers.reduce((sum, worker) => sum + worker[of], 0);
}

const SILENT_MS = 10_000;

const COLUMNS: readonly Column<WorkerStatus>[] = [
  HOST_COLUMN,
  { key: 'version', title: 'Version', cell: ({ version }) => version ?? '–', sort: ({ version }) => version ?? '' },
  {
    key: 'queues',
    title: 'Queues',
    cell: ({ queues }) => (
      <span class="name" title={queues.join(', ')}>
        {queues.slice(0, 3).join(', ')}
        {queues.length > 3 && ` and ${count(queues.length - 3)} more`}
      </span>
    ),
  },
  {
    key: 'busy',
    title: 'Busy',
    cell: ({ utilisation }) => <Bar value={utilisation} label={share(utilisation)} />,
    sort: ({ utilisation }) => utilisation,
  },
  {
    key: 'running',
    title: 'Running',
    isFigure: true,
    cell: ({ running, concurrency }) => `${count(running)} / ${count(concurrency)}`,
    sort: ({ running }) => running,
  },
  {
    key: 'held',
    title: 'Held',
    isFigure: true,
    cell: ({ held, prefetch }) => `${count(held)} / ${count(prefetch)}`,
    sort: ({ held }) => held,
  },
  {
    key: 'rate',
    title: 'Tasks /s',
    isFigure: true,
    cell: (worker) => rate(meanRate(worker)),
    sort: meanRate,
  },
  {
    key: 'completed',
    title: 'Completed',
    isFigure: true,
    cell: ({ completed }) => count(completed),
    sort: ({ completed }) => completed,
  },
  {
    key: 'failed',
    title: 'Failed',
    isFigure: true,
    cell: ({ failed }) => (failed === 0 ? <span class="zero">0</span> : count(failed)),
    sort: ({ failed }) => failed,
  },
  {
    key: 'connected',
    title: 'Connected',
    cell: ({ connectedAtMs }) => <Ago atMs={connectedAtMs} />,
    sort: ({ connectedAtMs }) => connectedAtMs,
  },
  seenColumn(SILENT_MS),
];

/** Since it connected. */
function meanRate({ completed, failed, connectedAtMs }: WorkerStatus): number {
  return (completed + failed) / Math.max(1, (Date.now() - connectedAtMs) / 1000);
}

function CurrentTasks({ worker, running }: { worker: string; running: number }) {
  const query = { state: 'active', worker, limit: CURRENT_TASKS_MAX };
  const { data, error, atMs, refresh } = usePoll<TaskPage>(pathOf('v1/tasks', query), CURRENT_POLL_MS);
  // What has just come may have begun after the last second did.
  const nowMs = Math.max(useNow(), atMs);
  if (data === undefined) return error ? <Failure error={error} onRetry={refresh} /> : <Loading />;
  if (data.tasks.length === 0)
    return (
      <p class="muted current-none">
        {running === 0 ? 'Idle.' : 'Only short tasks: none ran at the moment of asking.'}
      </p>
    );
  return (
    <ul class="current">
      {data.tasks.map(({ id, name, startedAtMs, progress }) => (
        <li key={id}>
          <a href={taskHref(id)}>{name}</a> <span class="mono muted">{id}</span>
          <span>{startedAtMs === undefined ? 'held' : `for ${duration(Math.max(0, nowMs - startedAtMs))}`}</span>
          {typeof progress?.value === 'number' && <Bar value={progress.value} label={share(progress.value)} />}
        </li>
      ))}
      {data.next !== undefined && (
        <li>
          <a href={href('tasks', { state: 'active', worker })}>and more</a>
        </li>
      )}
    </ul>
  );
}
