import type { SupervisorStatus } from '../api/types.ts';
import { count } from '../format.ts';
import { Panel } from '../parts/states.tsx';
import { type Column, Table } from '../parts/table.tsx';
import { Ago, Time } from '../parts/time.tsx';
import { HOST_COLUMN, nameColumn, seenColumn, useOpenRows } from './process-columns.tsx';

/** Few supervisors show their decisions at once. */
const OPEN_SUPERVISORS_MAX = 2;
const DECISIONS_SHOWN_MAX = 5;
/** They speak every five seconds. */
const SILENT_MS = 12_000;

/** Of worker processes: how many there are, and why. */
export function Supervisors({ supervisors }: { supervisors: readonly SupervisorStatus[] }) {
  const open = useOpenRows(supervisors.length, OPEN_SUPERVISORS_MAX);
  const columns: readonly Column<SupervisorStatus>[] = [nameColumn('Supervisor', open), ...COLUMNS];
  return (
    <Panel title="Scaling">
      <Table
        caption="Supervisors of worker processes"
        columns={columns}
        rows={supervisors}
        rowKey={({ id }) => id}
        initial={{ key: 'name', isDescending: false }}
        below={(supervisor) => open.isOpen(supervisor.id) && <Decisions {...supervisor} />}
      />
    </Panel>
  );
}

const COLUMNS: readonly Column<SupervisorStatus>[] = [
  HOST_COLUMN,
  {
    key: 'current',
    title: 'Processes',
    isFigure: true,
    cell: ({ current, retiring }) =>
      retiring === 0 ? count(current) : `${count(current)} and ${count(retiring)} retiring`,
    sort: ({ current }) => current,
  },
  {
    key: 'bounds',
    title: 'Least to most',
    isFigure: true,
    cell: ({ min, max }) => `${count(min)} to ${count(max)}`,
    sort: ({ max }) => max,
  },
  {
    key: 'decided',
    title: 'Last decision',
    cell: ({ decisions: [last] }) => (last === undefined ? '–' : <Ago atMs={last.atMs} />),
    sort: ({ decisions: [last] }) => last?.atMs ?? 0,
  },
  seenColumn(SILENT_MS),
];

function Decisions({ decisions }: SupervisorStatus) {
  return (
    <ol class="decisions" aria-label="Last decisions, newest first">
      {decisions.slice(0, DECISIONS_SHOWN_MAX).map(({ atMs, from, to, reason }) => (
        <li key={`${atMs} ${from} ${to} ${reason}`}>
          <span class="muted">
            <Time atMs={atMs} />
          </span>
          <strong>{from === to ? `stays ${count(to)}` : `${count(from)} → ${count(to)}`}</strong>
          <span class="name">{reason}</span>
        </li>
      ))}
    </ol>
  );
}
