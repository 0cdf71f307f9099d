import { pathOf } from '../api/client.ts';
import { refreshAll, usePoll } from '../api/live.ts';
import type { DeadGroup, DeadGroups } from '../api/types.ts';
import { count, plural } from '../format.ts';
import { Action } from '../parts/action.tsx';
import { ask } from '../parts/dialog.tsx';
import { Empty, Failure, Loading } from '../parts/states.tsx';
import { type Column, Table } from '../parts/table.tsx';
import { Ago } from '../parts/time.tsx';
import { href, route, taskHref } from '../route.ts';
import { useStore } from '../store.ts';
import { bulk } from './bulk.ts';

const POLL_MS = 5000;

export function Dead() {
  const { query } = useStore(route);
  const { queue } = query;
  const { data, error, refresh } = usePoll<DeadGroups>(pathOf('v1/dead-groups', { queue }), POLL_MS);
  if (data === undefined) {
    return (
      <>
        <h1>Dead letters</h1>
        {error ? <Failure error={error} onRetry={refresh} /> : <Loading />}
        {error?.code === 'UNSUPPORTED' && (
          <p>
            <a href={href('tasks', { state: 'dead' })}>Dead tasks, one by one</a>
          </p>
        )}
      </>
    );
  }
  const tasks = data.groups.reduce((sum, group) => sum + group.count, 0);
  return (
    <>
      <div class="page-head">
        <h1>Dead letters</h1>
        <span class="muted">
          {plural(tasks, 'dead task')} by what they died of{queue !== undefined && ` in ${queue}`}
          {!data.complete && ` (of the last ${count(data.scanned)} that died)`}
        </span>
        {queue !== undefined && <a href="#/dead">All queues</a>}
      </div>
      {data.groups.length === 0 ? (
        <Empty title="No dead tasks.">
          <p class="muted">Tasks come here when their last attempt has failed.</p>
        </Empty>
      ) : (
        <div class="panel">
          <Table
            caption="Dead tasks by error"
            columns={COLUMNS}
            rows={data.groups}
            rowKey={({ group }) => group}
            initial={{ key: 'count', isDescending: true }}
          />
        </div>
      )}
    </>
  );
}

const COLUMNS: readonly Column<DeadGroup>[] = [
  {
    key: 'error',
    title: 'Error',
    isName: true,
    cell: ({ error, code, message }) => (
      <span class="group-error">
        <span class="group-message">
          {error}: {message}
        </span>
        <span class="tag">{code}</span>
      </span>
    ),
    sort: ({ message }) => message,
  },
  {
    key: 'count',
    title: 'Tasks',
    isFigure: true,
    cell: ({ count: tasks }) => count(tasks),
    sort: (group) => group.count,
  },
  { key: 'task', title: 'Task', cell: ({ name }) => <span class="name">{name}</span>, sort: ({ name }) => name },
  {
    key: 'queue',
    title: 'Queue',
    cell: ({ queue }) => <a href={href('queues', { filter: queue })}>{queue}</a>,
    sort: ({ queue }) => queue,
  },
  {
    key: 'newest',
    title: 'Newest',
    cell: ({ newestAtMs, sampleId }) => (
      <a href={taskHref(sampleId)}>
        <Ago atMs={newestAtMs} />
      </a>
    ),
    sort: ({ newestAtMs }) => newestAtMs,
  },
  {
    key: 'oldest',
    title: 'Oldest',
    cell: ({ oldestAtMs }) => <Ago atMs={oldestAtMs} />,
    sort: ({ oldestAtMs }) => oldestAtMs,
  },
  { key: 'actions', title: 'Actions', cell: (group) => <GroupActions group={group} /> },
];

function GroupActions({ group: { group, queue, error, message, count: tasks } }: { group: DeadGroup }) {
  const what = `${error}: ${message}`;
  return (
    <span class="actions">
      <a class="button" href={href('tasks', { state: 'dead', queue, errorGroup: group })}>
        See tasks
      </a>
      <Action
        icon="redrive"
        label="Redrive"
        name={`Redrive those with ${what}`}
        onAct={async () =>
          ask({
            title: `Redrive ${plural(tasks, 'dead task')}?`,
            text: (
              <>
                <p class="quote">{what}</p>
                <p>
                  They become ready again in {queue}, each with fresh attempts. If the cause is still there, they die
                  again.
                </p>
              </>
            ),
            action: `Redrive ${plural(tasks, 'task')}`,
            isDanger: false,
            run: async (tell, signal) => {
              const filter = { state: 'dead', queue, errorGroup: group };
              const done = await bulk('retry', filter, tell, signal);
              refreshAll();
              return `${plural(done, 'task')} redriven.`;
            },
          })
        }
      />
    </span>
  );
}
