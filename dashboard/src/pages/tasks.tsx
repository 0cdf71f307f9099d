import { useRef } from 'preact/hooks';
import { pathOf } from '../api/client.ts';
import { usePoll } from '../api/live.ts';
import { info, stats } from '../api/stats.ts';
import type { TaskInfo, TaskPage } from '../api/types.ts';
import { duration, plural } from '../format.ts';
import { Action } from '../parts/action.tsx';
import { ask } from '../parts/dialog.tsx';
import { Icon } from '../parts/icons.tsx';
import { StateBadge } from '../parts/state.tsx';
import { Command, Empty, Failure, Loading } from '../parts/states.tsx';
import { type Column, Table } from '../parts/table.tsx';
import { Time } from '../parts/time.tsx';
import { href, route, taskHref } from '../route.ts';
import { useStore } from '../store.ts';
import { bulk } from './bulk.ts';
import { bulkFilterOf, countOf, filterOf, pageQueryOf, type TaskQuery } from './task-filter.ts';
import { TaskFilters } from './task-filters.tsx';

const ONCE = 0;

export function Tasks() {
  const { query } = useStore(route);
  const features = useStore(info).data?.features;
  if (features === undefined) return <Loading />;
  return <TaskList query={query} canSearch={features.tasks} />;
}

function TaskList({ query, canSearch }: { query: TaskQuery; canSearch: boolean }) {
  const { data, error, atMs, refresh } = usePoll<TaskPage>(pathOf('v1/tasks', pageQueryOf(query, canSearch)), ONCE);
  // The page before stays until the next one is there.
  const kept = useRef<{ query: TaskQuery; page: TaskPage; atMs: number } | undefined>(undefined);
  if (data !== undefined) kept.current = { query, page: data, atMs };
  const shown = error === undefined ? kept.current : undefined;
  const tasks = shown === undefined ? [] : shown.query.before ? shown.page.tasks.toReversed() : shown.page.tasks;
  return (
    <>
      <div class="page-head">
        <h1>Tasks</h1>
        {shown !== undefined && (
          <span class="muted">
            as of <Time atMs={shown.atMs} />
          </span>
        )}
        <button type="button" class="button" onClick={refresh}>
          <Icon name="refresh" />
          Refresh
        </button>
        <BulkActions query={query} shown={tasks.length} hasMore={shown?.page.next !== undefined} refresh={refresh} />
      </div>
      <TaskFilters query={query} canSearch={canSearch} />
      {error !== undefined && <Failure error={error} onRetry={refresh} />}
      {shown === undefined && error === undefined && <Loading />}
      {shown !== undefined && <Page query={shown.query} canSearch={canSearch} tasks={tasks} next={shown.page.next} />}
    </>
  );
}

interface PageProps {
  query: TaskQuery;
  canSearch: boolean;
  tasks: readonly TaskInfo[];
  next: string | undefined;
}

function Page({ query, canSearch, tasks, next }: PageProps) {
  const isFiltered = Object.keys(filterOf(query)).length > 0;
  return (
    <>
      {tasks.length > 0 ? (
        <div class="panel">
          <Table caption="Tasks" columns={COLUMNS} rows={tasks} rowKey={({ id }) => id} />
        </div>
      ) : next !== undefined ? (
        <Empty title="None among those looked at so far: the server searches in bounded steps.">
          <p>Go on with the next step below.</p>
        </Empty>
      ) : isFiltered ? (
        <Empty title="No task matches.">
          <a href="#/tasks">Show all tasks</a>
        </Empty>
      ) : (
        <Empty title="No tasks yet. Enqueue one:">
          <Command>{`npx millrace enqueue hello '{"to": "world"}'`}</Command>
        </Empty>
      )}
      <Pager query={query} canSearch={canSearch} tasks={tasks} next={next} />
    </>
  );
}

function Pager({ query, canSearch, tasks, next }: PageProps) {
  const { after, before, ...rest } = query;
  const first = tasks[0]?.id;
  const last = tasks.at(-1)?.id;
  const isTurned = before !== undefined;
  const back = isTurned ? next !== undefined : after !== undefined;
  const forward = isTurned ? (last ?? before) : next;
  // A backend that cannot search lists the oldest first, and only forwards.
  const isOldestFirst = query.order === 'oldest' || !canSearch;
  const [newest, newer, older] = isOldestFirst ? ['Oldest', 'Older', 'Newer'] : ['Newest', 'Newer', 'Older'];
  if (!back && forward === undefined && tasks.length === 0) return null;
  return (
    <nav class="pager" aria-label="Pages of tasks">
      {back ? (
        <>
          <a class="button" href={href('tasks', rest)}>
            {newest}
          </a>
          {canSearch && (
            <a class="button" href={href('tasks', first === undefined ? rest : { ...rest, before: first })}>
              <Icon name="left" />
              {newer}
            </a>
          )}
        </>
      ) : (
        forward !== undefined && <span class="muted">The {newest.toLowerCase()}</span>
      )}
      <span class="muted">
        {plural(tasks.length, 'task')} {back || forward !== undefined ? 'on this page' : 'in all'}
      </span>
      {forward !== undefined ? (
        <a class="button" href={href('tasks', { ...rest, after: forward })}>
          {older}
          <Icon name="right" />
        </a>
      ) : (
        back && <span class="muted">That is all.</span>
      )}
    </nav>
  );
}

const COLUMNS: readonly Column<TaskInfo>[] = [
  { key: 'state', title: 'State', cell: ({ state }) => <StateBadge state={state} /> },
  {
    key: 'name',
    title: 'Task',
    isName: true,
    cell: ({ id, name }) => (
      <>
        <a href={taskHref(id)}>{name}</a> <span class="mono muted">{id}</span>
      </>
    ),
  },
  { key: 'queue', title: 'Queue', cell: ({ queue }) => <a href={href('tasks', { queue })}>{queue}</a> },
  { key: 'priority', title: 'Priority', isFigure: true, cell: ({ priority }) => priority },
  {
    key: 'attempt',
    title: 'Attempt',
    isFigure: true,
    cell: ({ attempt, maxAttempts }) => `${attempt} / ${maxAttempts}`,
  },
  { key: 'enqueued', title: 'Enqueued', cell: ({ enqueuedAtMs }) => <Time atMs={enqueuedAtMs} /> },
  { key: 'then', title: 'Then', cell: then },
  {
    key: 'error',
    title: 'Last error',
    cell: ({ failures }) => {
      const failure = failures.at(-1);
      return failure === undefined ? (
        <span class="zero">–</span>
      ) : (
        <span class="cut" title={failure.error.message}>
          {failure.error.message}
        </span>
      );
    },
  },
];

function then({ state, runAtMs, startedAtMs, finishedAtMs, enqueuedAtMs, worker }: TaskInfo) {
  if (finishedAtMs !== undefined) return <span class="muted">ended after {duration(finishedAtMs - enqueuedAtMs)}</span>;
  if (state === 'scheduled' && runAtMs !== undefined) {
    return (
      <span class="muted">
        due <Time atMs={runAtMs} />
      </span>
    );
  }
  if (state === 'active' && startedAtMs !== undefined) {
    return <span class="muted">began after {duration(startedAtMs - enqueuedAtMs)}</span>;
  }
  return worker === undefined ? <span class="zero">–</span> : <span class="muted name">with {worker}</span>;
}

interface BulkProps {
  query: TaskQuery;
  shown: number;
  hasMore: boolean;
  refresh: () => void;
}

function BulkActions({ query, shown, hasMore, refresh }: BulkProps) {
  const { data } = useStore(stats);
  const { state } = query;
  const known = countOf(query, data);
  const number =
    known !== undefined
      ? plural(known, 'task')
      : hasMore
        ? `more than ${plural(shown, 'task')}`
        : plural(shown, 'task');
  const none = shown === 0 && !hasMore ? 'No task matches.' : undefined;
  const run = (verb: 'retry' | 'cancel', done: string) => async (tell: (text: string) => void, signal: AbortSignal) => {
    const changed = await bulk(verb, bulkFilterOf(query), tell, signal);
    refresh();
    return `${plural(changed, 'task')} ${done}${signal.aborted ? ', then stopped' : ''}.`;
  };
  return (
    <span class="actions">
      <Action
        icon="retry"
        label="Retry all that match"
        refusal={none ?? (state === 'dead' || state === 'scheduled' ? undefined : 'Filter by dead or scheduled first.')}
        onAct={async () =>
          ask({
            title: `Retry ${number}?`,
            text: (
              <>
                <FilterWords query={query} />
                <p>
                  {state === 'scheduled'
                    ? 'They become ready now, whatever time they wait for.'
                    : 'They become ready again, each with fresh attempts.'}
                </p>
              </>
            ),
            action: 'Retry them',
            isDanger: false,
            run: run('retry', 'retried'),
          })
        }
      />
      <Action
        icon="cancel"
        label="Cancel all that match"
        isDanger
        refusal={none ?? (isEnded(state) ? 'What has ended cannot be cancelled.' : undefined)}
        onAct={async () =>
          ask({
            title: `Cancel ${number}?`,
            text: (
              <>
                <FilterWords query={query} />
                <p>
                  What waits is cancelled; what runs is asked to end. <strong>This cannot be undone.</strong>
                </p>
              </>
            ),
            action: 'Cancel them',
            isDanger: true,
            run: run('cancel', 'cancelled or asked to end'),
          })
        }
      />
    </span>
  );
}

function isEnded(state: string | undefined): boolean {
  return state === 'completed' || state === 'dead' || state === 'cancelled';
}

function FilterWords({ query }: { query: TaskQuery }) {
  const words = Object.entries(filterOf(query)).map(([key, value]) => `${key} ${value}`);
  return <p class="quote">{words.length === 0 ? 'All tasks, without any filter' : words.join(', ')}</p>;
}
