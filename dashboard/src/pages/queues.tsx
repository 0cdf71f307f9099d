import { post } from '../api/client.ts';
import { connection, usePoll } from '../api/live.ts';
import type { QueueList, QueueRow } from '../api/types.ts';
import { count, duration, plural, rate } from '../format.ts';
import { Action } from '../parts/action.tsx';
import { act, ask, type Question } from '../parts/dialog.tsx';
import { Pausing } from '../parts/pausing.tsx';
import { Command, Empty, Failure, Unready } from '../parts/states.tsx';
import { type Column, Table } from '../parts/table.tsx';
import { href, replace, route } from '../route.ts';
import { useStore } from '../store.ts';

const POLL_MS = 1000;

export function Queues() {
  const { data, error, refresh } = usePoll<QueueList>('v1/queues', POLL_MS);
  const { query } = useStore(route);
  const isGone = useStore(connection).state === 'gone';
  const filter = query.filter ?? '';
  if (data === undefined) return <Unready title="Queues" error={error} onRetry={refresh} />;
  const rows = data.queues.filter(({ name }) => name.toLowerCase().includes(filter.toLowerCase()));
  return (
    <>
      <div class="page-head">
        <h1>Queues</h1>
        <span class="muted">
          {filter === ''
            ? plural(data.queues.length, 'queue')
            : `${count(rows.length)} of ${count(data.queues.length)}`}
        </span>
        <label class="field field-inline">
          <span class="sr-only">Filter by name</span>
          <input
            type="search"
            placeholder="Filter by name"
            value={filter}
            onInput={({ currentTarget: { value } }) => replace(href('queues', { filter: value }))}
          />
        </label>
      </div>
      {error !== undefined && !isGone && <Failure error={error} onRetry={refresh} />}
      {data.queues.length === 0 ? (
        <Empty title="No queues yet: a queue is there once something was enqueued.">
          <Command>{`npx millrace enqueue hello '{"to": "world"}'`}</Command>
        </Empty>
      ) : rows.length === 0 ? (
        <Empty title={`No queue has “${filter}” in its name.`}>
          <a href="#/queues">Show all {count(data.queues.length)}</a>
        </Empty>
      ) : (
        <div class="panel">
          <Table
            caption="Queues"
            columns={columnsFor(refresh)}
            rows={rows}
            rowKey={({ name }) => name}
            initial={{ key: 'name', isDescending: false }}
          />
        </div>
      )}
    </>
  );
}

function figure(key: 'ready' | 'active' | 'scheduled' | 'blocked' | 'dead', title: string): Column<QueueRow> {
  return {
    key,
    title,
    isFigure: true,
    cell: (queue) =>
      queue[key] === 0 ? (
        <span class="zero">0</span>
      ) : (
        <a class="figure-link" href={href('tasks', { queue: queue.name, state: key })}>
          {count(queue[key])}
        </a>
      ),
    sort: (queue) => queue[key],
  };
}

function rateColumn(key: 'enqueued' | 'completed' | 'failed', title: string): Column<QueueRow> {
  return {
    key,
    title,
    isFigure: true,
    cell: ({ rates }) =>
      rates === undefined ? '–' : rates[key] === 0 ? <span class="zero">0</span> : rate(rates[key]),
    sort: ({ rates }) => rates?.[key] ?? 0,
  };
}

const HELD_UP = { concurrency: 'at its concurrency', rate: 'at its rate' } as const;

const COLUMNS: readonly Column<QueueRow>[] = [
  {
    key: 'name',
    title: 'Queue',
    isName: true,
    cell: ({ name, paused, heldUpBy }) => (
      <>
        <a href={href('tasks', { queue: name })}>{name}</a>
        {paused && <span class="tag tag-strong">paused</span>}
        {heldUpBy !== undefined && heldUpBy !== 'paused' && <span class="tag">{HELD_UP[heldUpBy]}</span>}
      </>
    ),
    sort: ({ name }) => name,
  },
  figure('ready', 'Ready'),
  figure('active', 'Active'),
  figure('scheduled', 'Scheduled'),
  figure('blocked', 'Blocked'),
  figure('dead', 'Dead'),
  rateColumn('enqueued', 'In /s'),
  rateColumn('completed', 'Out /s'),
  rateColumn('failed', 'Failed /s'),
  {
    key: 'oldest',
    title: 'Oldest ready',
    isFigure: true,
    cell: ({ ready, oldestReadyMs }) => (ready === 0 ? <span class="zero">–</span> : duration(oldestReadyMs)),
    sort: ({ oldestReadyMs }) => oldestReadyMs,
  },
  { key: 'limits', title: 'Limits', cell: (queue) => limitsOf(queue) || <span class="zero">none</span> },
];

const PERIODS: Readonly<Record<number, string>> = { 1000: 'a second', 60000: 'a minute', 3600000: 'an hour' };

function limitsOf({ limits: { concurrency, concurrencyPerKey, rate: perPeriod, length } }: QueueRow): string {
  const parts = [
    concurrency ? `${count(concurrency)} at a time` : '',
    concurrencyPerKey ? `${count(concurrencyPerKey)} per key` : '',
    perPeriod
      ? `${count(perPeriod.count)} ${PERIODS[perPeriod.periodMs] ?? `per ${duration(perPeriod.periodMs)}`}`
      : '',
    length ? `${count(length)} unfinished` : '',
  ];
  return parts.filter(Boolean).join(', ');
}

function columnsFor(refresh: () => void): readonly Column<QueueRow>[] {
  return [
    ...COLUMNS,
    { key: 'actions', title: 'Actions', cell: (queue) => <QueueActions queue={queue} refresh={refresh} /> },
  ];
}

function QueueActions({ queue, refresh }: { queue: QueueRow; refresh: () => void }) {
  const { name, paused, dead } = queue;
  const change = async (verb: 'pause' | 'resume', done: string): Promise<void> => {
    await act(() => post(addressOf(queue, verb)), done);
    refresh();
  };
  return (
    <span class="actions">
      <Pausing name={name} paused={paused} change={change} />
      <Action
        icon="redrive"
        label="Redrive"
        name={`Redrive ${name}`}
        refusal={dead === 0 ? `${name} has no dead tasks.` : undefined}
        onAct={async () => ask(redriveQuestion(queue, refresh))}
      />
      <Action
        icon="purge"
        label="Purge"
        name={`Purge ${name}`}
        isDanger
        refusal={waitingOf(queue) === 0 ? `Nothing waits in ${name}.` : undefined}
        onAct={async () => ask(purgeQuestion(queue, refresh))}
      />
    </span>
  );
}

function addressOf({ name }: QueueRow, verb: 'pause' | 'resume' | 'purge' | 'redrive'): string {
  return `v1/queues/${encodeURIComponent(name)}/${verb}`;
}

const waitingOf = ({ ready, scheduled, blocked }: QueueRow): number => ready + scheduled + blocked;

function redriveQuestion(queue: QueueRow, refresh: () => void): Question {
  const tasks = plural(queue.dead, 'task');
  return {
    title: `Redrive ${plural(queue.dead, 'dead task')} of ${queue.name}?`,
    text: (
      <p>They become ready again, each with fresh attempts. If what they died of is still there, they die again.</p>
    ),
    action: `Redrive ${tasks}`,
    isDanger: false,
    run: async () => {
      const { count: changed } = await post<{ count: number }>(addressOf(queue, 'redrive'));
      refresh();
      return `${plural(changed, 'task')} of ${queue.name} redriven.`;
    },
  };
}

function purgeQuestion(queue: QueueRow, refresh: () => void): Question {
  const tasks = plural(waitingOf(queue), 'task');
  return {
    title: `Purge ${tasks} of ${queue.name}?`,
    text: (
      <>
        <p>
          Removes what waits: {count(queue.ready)} ready, {count(queue.scheduled)} scheduled, {count(queue.blocked)}{' '}
          blocked. What runs goes on; what has ended stays.
        </p>
        <p>
          <strong>This cannot be undone.</strong>
        </p>
      </>
    ),
    action: `Purge ${tasks}`,
    isDanger: true,
    run: async () => {
      const { count: changed } = await post<{ count: number }>(addressOf(queue, 'purge'));
      refresh();
      return `${plural(changed, 'task')} of ${queue.name} removed.`;
    },
  };
}
