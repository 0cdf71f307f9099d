import { useState } from 'preact/hooks';
import { duration } from '../format.ts';
import { Icon } from '../parts/icons.tsx';
import type { Column } from '../parts/table.tsx';

/** What workers and their supervisors have in common: each is a process, and has more to show below its row. */

export interface OpenRows {
  isOpen: (id: string) => boolean;
  toggle: (id: string) => void;
}

/** Up to `openMax` rows are open until somebody closes them. */
export function useOpenRows(rows: number, openMax: number): OpenRows {
  const [toggled, setToggled] = useState<Readonly<Record<string, boolean>>>({});
  const isOpen = (id: string): boolean => toggled[id] ?? rows <= openMax;
  return { isOpen, toggle: (id) => setToggled({ ...toggled, [id]: !isOpen(id) }) };
}

/** Its name opens and closes the row. */
export function nameColumn(title: string, { isOpen, toggle }: OpenRows): Column<{ id: string; name: string }> {
  return {
    key: 'name',
    title,
    isName: true,
    cell: ({ id, name }) => (
      <button type="button" class="disclosure" aria-expanded={isOpen(id)} onClick={() => toggle(id)}>
        <Icon name={isOpen(id) ? 'down' : 'right'} />
        {name}
      </button>
    ),
    sort: ({ name }) => name,
  };
}

export const HOST_COLUMN: Column<{ host: string; pid: number }> = {
  key: 'host',
  title: 'Host',
  cell: ({ host, pid }) => (
    <>
      <span class="name">{host}</span> <span class="muted">process {pid}</span>
    </>
  ),
  sort: ({ host, pid }) => `${host} ${pid}`,
};

/** `silentMs`: heard of less long ago, it is there now. */
export function seenColumn(silentMs: number): Column<{ lastSeenMs: number }> {
  return {
    key: 'seen',
    title: 'Last seen',
    cell: ({ lastSeenMs }) => (lastSeenMs < silentMs ? 'now' : `${duration(lastSeenMs)} ago`),
    sort: ({ lastSeenMs }) => lastSeenMs,
  };
}
