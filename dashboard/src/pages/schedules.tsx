import { post } from '../api/client.ts';
import { usePoll } from '../api/live.ts';
import { info } from '../api/stats.ts';
import type { ScheduleInfo, ScheduleList } from '../api/types.ts';
import { count, duration, plural } from '../format.ts';
import { Action } from '../parts/action.tsx';
import { act } from '../parts/dialog.tsx';
import { notify } from '../parts/notices.tsx';
import { Pausing } from '../parts/pausing.tsx';
import { Command, Empty, Unready } from '../parts/states.tsx';
import { type Column, Table } from '../parts/table.tsx';
import { Ago, Time } from '../parts/time.tsx';
import { href, taskHref } from '../route.ts';
import { useStore } from '../store.ts';

const POLL_MS = 2000;

export function Schedules() {
  const { data, error, refresh } = usePoll<ScheduleList>('v1/schedules', POLL_MS);
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
  const url = useStore(info).data?.url;
  if (data === undefined) return <Unready title="Schedules" error={error} onRetry={refresh} />;
  const columns: readonly Column<ScheduleInfo>[] = [
    ...COLUMNS,
    { key: 'actions', title: 'Actions', cell: (schedule) => <ScheduleActions schedule={schedule} refresh={refresh} /> },
  ];
  return (
    <>
      <div class="page-head">
        <h1>Schedules</h1>
        <span class="muted">
          {plural(data.schedules.length, 'schedule')}; times in {zone}
        </span>
      </div>
      {data.schedules.length === 0 ? (
        <Empty title="No schedules. One enqueues a task at set times:">
          <Command>{`npx millrace schedule set nightly --url ${url ?? 'tcp://127.0.0.1:5555'} --cron '0 3 * * *' report.make`}</Command>
        </Empty>
      ) : (
        <div class="panel">
          <Table
            caption="Schedules"
            columns={columns}
            rows={data.schedules}
            rowKey={({ name }) => name}
            initial={{ key: 'name', isDescending: false }}
          />
        </div>
      )}
    </>
  );
}

const COLUMNS: readonly Column<ScheduleInfo>[] = [
  {
    key: 'name',
    title: 'Schedule',
    isName: true,
    cell: ({ name, paused }) => (
      <>
        {name} {paused && <span class="tag tag-strong">paused</span>}
      </>
    ),
    sort: ({ name }) => name,
  },
  {
    key: 'when',
    title: 'When',
    cell: ({ cron, timeZone, everyMs }) =>
      cron === undefined ? (
        `every ${duration(everyMs ?? 0)}`
      ) : (
        <>
          <code>{cron}</code> <span class="muted">{timeZone ?? 'UTC'}</span>
        </>
      ),
  },
  {
    key: 'task',
    title: 'Task',
    cell: ({ task, queue }) => (
      <>
        <a class="link-in-text" href={href('tasks', { queue, name: task })}>
          {task}
        </a>{' '}
        <span class="muted name">in {queue}</span>
      </>
    ),
    sort: ({ task }) => task,
  },
  {
    key: 'next',
    title: 'Next run',
    cell: ({ nextAtMs }) =>
      nextAtMs === undefined ? (
        <span class="zero">–</span>
      ) : (
        <>
          <Ago atMs={nextAtMs} />{' '}
          <span class="muted">
            <Time atMs={nextAtMs} />
          </span>
        </>
      ),
    sort: ({ nextAtMs }) => nextAtMs ?? Number.MAX_SAFE_INTEGER,
  },
  {
    key: 'last',
    title: 'Last run',
    cell: ({ lastAtMs, lastTaskId }) =>
      lastAtMs === undefined ? (
        <span class="zero">never</span>
      ) : (
        <>
          <Ago atMs={lastAtMs} />{' '}
          {lastTaskId !== undefined && (
            <a class="link-in-text" href={taskHref(lastTaskId)}>
              its task
            </a>
          )}
        </>
      ),
    sort: ({ lastAtMs }) => lastAtMs ?? 0,
  },
  { key: 'misfire', title: 'Missed times', cell: ({ misfire }) => MISFIRE[misfire] },
  {
    key: 'fired',
    title: 'Fired',
    isFigure: true,
    cell: ({ firedCount }) => count(firedCount),
    sort: ({ firedCount }) => firedCount,
  },
];

const MISFIRE = { skip: 'skipped', once: 'run once', all: 'all run' } as const;

function ScheduleActions({ schedule: { name, paused }, refresh }: { schedule: ScheduleInfo; refresh: () => void }) {
  const address = `v1/schedules/${encodeURIComponent(name)}`;
  const change = async (verb: 'pause' | 'resume', done: string): Promise<void> => {
    await act(() => post(`${address}/${verb}`), done);
    refresh();
  };
  const runNow = async (): Promise<void> => {
    try {
      const { id } = await post<{ id: string }>(`${address}/run`);
      notify('done', `${name} has enqueued task ${id}.`);
    } catch (error) {
      notify('failed', error instanceof Error ? error.message : String(error));
    }
    refresh();
  };
  return (
    <span class="actions">
      <Pausing name={name} paused={paused} change={change} />
      <Action icon="run" label="Run now" name={`Run now: ${name}`} onAct={runNow} />
    </span>
  );
}
