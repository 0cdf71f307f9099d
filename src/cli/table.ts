import { printable } from './printable.ts';

export interface Column<Row> {
  title: string;
  align?: 'left' | 'right';
  /** May be cut to fit the screen; the other columns keep their width. */
  elastic?: boolean;
  text: (row: Row) => string;
}

const GAP = '  ';
const ELASTIC_MIN = 8;

/** Aligned columns under their titles. Cells of elastic columns are cut when the table is wider than `columns`. */
export function formatTable<Row>(
  shape: readonly Column<Row>[],
  rows: readonly Row[],
  columns: number | undefined,
): string[] {
  const cells = rows.map((row) => shape.map((column) => printable(column.text(row))));
  const widths = shape.map((column, index) =>
    Math.max(column.title.length, ...cells.map((row) => (row[index] as string).length)),
  );
  if (columns !== undefined) shrink(shape, widths, columns);
  return [shape.map((column) => column.title), ...cells].map((row) =>
    row
      .map((cell, index) => {
        const width = widths[index] as number;
        const fitted = cut(cell, width);
        return shape[index]?.align === 'right' ? fitted.padStart(width) : fitted.padEnd(width);
      })
      .join(GAP)
      .trimEnd(),
  );
}

function shrink<Row>(shape: readonly Column<Row>[], widths: number[], columns: number): void {
  let excess = widths.reduce((sum, width) => sum + width, GAP.length * (widths.length - 1)) - columns;
  while (excess > 0) {
    const widest = widths.reduce(
      (best, width, index) =>
        shape[index]?.elastic === true && width > ELASTIC_MIN && width > (widths[best] ?? 0) ? index : best,
      -1,
    );
    if (widest === -1) return;
    (widths[widest] as number)--;
    excess--;
  }
}

export function cut(text: string, width: number): string {
  return text.length <= width ? text : `${text.slice(0, Math.max(0, width - 1))}…`;
}
