import type { ComponentChildren } from 'preact';
import { useState } from 'preact/hooks';
import { count } from '../format.ts';
import { Icon } from './icons.tsx';

export interface Column<Row> {
  key: string;
  title: string;
  /** Figures stand at the end. */
  isFigure?: boolean;
  /** Its cell names the row. */
  isName?: boolean;
  cell: (row: Row) => ComponentChildren;
  /** By what the column sorts; absent: it does not. */
  sort?: (row: Row) => number | string;
}

export interface Order {
  key: string;
  isDescending: boolean;
}

interface Props<Row> {
  caption: string;
  columns: readonly Column<Row>[];
  rows: readonly Row[];
  rowKey: (row: Row) => string;
  /** Absent: in the order of `rows`, and nobody can change that. */
  initial?: Order;
  /** More about a row, below it. */
  below?: (row: Row) => ComponentChildren;
}

const PAGE_ROWS = 100;

/** Rows that sort and come in pages; cards on a phone. */
export function Table<Row>({ caption, columns, rows, rowKey, initial, below }: Props<Row>) {
  const [order, setOrder] = useState(initial);
  const [page, setPage] = useState(0);
  const sorted = order === undefined ? rows : sortRows(rows, columns, order);
  const pages = Math.max(1, Math.ceil(sorted.length / PAGE_ROWS));
  const current = Math.min(page, pages - 1);
  const shown = sorted.slice(current * PAGE_ROWS, (current + 1) * PAGE_ROWS);
  const sortBy = (column: Column<Row>): void => {
    const isSame = order?.key === column.key;
    setOrder({ key: column.key, isDescending: isSame ? !order.isDescending : column.isFigure === true });
    setPage(0);
  };
  return (
    <>
      {order !== undefined && <PhoneOrder columns={columns} order={order} onChange={setOrder} />}
      {/* Explicit roles: cards on a phone are no table for the browser any more. */}
      <table class="table" role="table">
        <caption class="sr-only">{caption}</caption>
        <thead role="rowgroup">
          <tr role="row">
            {columns.map((column) => (
              <Head key={column.key} column={column} order={order} onSort={() => sortBy(column)} />
            ))}
          </tr>
        </thead>
        <tbody role="rowgroup">
          {shown.flatMap((row) => {
            const key = rowKey(row);
            const more = below?.(row);
            const line = (
              <tr key={key} role="row">
                {columns.map((column) => (
                  <Cell key={column.key} column={column} row={row} />
                ))}
              </tr>
            );
            if (!more) return [line];
            return [
              line,
              <tr key={`${key} below`} role="row" class="row-below">
                <td role="cell" colSpan={columns.length}>
                  {more}
                </td>
              </tr>,
            ];
          })}
        </tbody>
      </table>
      {pages > 1 && (
        <nav class="pager" aria-label={`Pages of ${caption}`}>
          <button type="button" class="button" disabled={current === 0} onClick={() => setPage(current - 1)}>
            <Icon name="left" />
            Previous
          </button>
          <span>
            {count(current * PAGE_ROWS + 1)}–{count(current * PAGE_ROWS + shown.length)} of {count(sorted.length)}
          </span>
          <button type="button" class="button" disabled={current >= pages - 1} onClick={() => setPage(current + 1)}>
            Next
            <Icon name="right" />
          </button>
        </nav>
      )}
    </>
  );
}

function Head<Row>({ column, order, onSort }: { column: Column<Row>; order: Order | undefined; onSort: () => void }) {
  const isOrder = order?.key === column.key;
  const direction = order?.isDescending ? 'descending' : 'ascending';
  return (
    <th
      role="columnheader"
      scope="col"
      class={column.isFigure ? 'figure' : undefined}
      aria-sort={isOrder ? direction : undefined}
    >
      {order !== undefined && column.sort !== undefined ? (
        <button type="button" class="sort" onClick={onSort}>
          {column.title}
          <span class="sort-mark" aria-hidden="true">
            {isOrder ? (order.isDescending ? '▼' : '▲') : ''}
          </span>
        </button>
      ) : (
        column.title
      )}
    </th>
  );
}

function Cell<Row>({ column, row }: { column: Column<Row>; row: Row }) {
  const content = column.cell(row);
  const kind = column.isFigure ? 'figure' : undefined;
  return column.isName ? (
    <th role="rowheader" scope="row" class="row-name">
      {content}
    </th>
  ) : (
    <td role="cell" class={kind} data-label={column.title}>
      {content}
    </td>
  );
}

function PhoneOrder<Row>({
  columns,
  order,
  onChange,
}: {
  columns: readonly Column<Row>[];
  order: Order;
  onChange: (order: Order) => void;
}) {
  return (
    <label class="phone-order">
      Sort by
      <select
        value={order.key}
        onChange={({ currentTarget: { value } }) =>
          onChange({ key: value, isDescending: columns.find(({ key }) => key === value)?.isFigure === true })
        }
      >
        {columns
          .filter(({ sort }) => sort !== undefined)
          .map(({ key, title }) => (
            <option key={key} value={key}>
              {title}
            </option>
          ))}
      </select>
    </label>
  );
}

function sortRows<Row>(rows: readonly Row[], columns: readonly Column<Row>[], { key, isDescending }: Order): Row[] {
  const sort = columns.find((column) => column.key === key)?.sort;
  if (sort === undefined) return [...rows];
  const sign = isDescending ? -1 : 1;
  return [...rows].sort((one, other) => {
    const [a, b] = [sort(one), sort(other)];
    return typeof a === 'number' && typeof b === 'number' ? sign * (a - b) : sign * String(a).localeCompare(String(b));
  });
}
