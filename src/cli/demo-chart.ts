import { formatCount } from './units.ts';

export interface ChartPoint {
  atMs: number;
  value: number;
}

const EIGHTHS = ['', '▁', '▂', '▃', '▄', '▅', '▆', '▇'];
const FULL = '█';

/** Columns of blocks over a time axis that begins at 0. `width` and `height` are those of the columns alone. */
export function formatChart(points: readonly ChartPoint[], width: number, height: number): string[] {
  const endMs = points.at(-1)?.atMs ?? 0;
  const peak = Math.max(0, ...points.map(({ value }) => value));
  const columns = Array.from({ length: width }, (_, index) =>
    peakBetween(points, endMs, index / width, (index + 1) / width),
  );
  const label = formatCount(peak);
  const lines: string[] = [];
  for (let level = height - 1; level >= 0; level--) {
    const axis = level === height - 1 ? `${label} ┤` : `${' '.repeat(label.length)} │`;
    lines.push(
      `${axis}${columns.map((value) => cell(peak === 0 ? 0 : (value / peak) * height - level)).join('')}`.trimEnd(),
    );
  }
  const end = `${(endMs / 1000).toFixed(1)} s`;
  lines.push(`${'0'.padStart(label.length)} └${'─'.repeat(width)}`);
  lines.push(`${' '.repeat(label.length + 2)}0 s${end.padStart(width - 3)}`);
  return lines;
}

/** Of the values in that part of the time, or of the last one before it: between two samples nothing is known to have moved. */
function peakBetween(points: readonly ChartPoint[], endMs: number, from: number, to: number): number {
  const inside = points.filter(({ atMs }) => atMs >= from * endMs && atMs < to * endMs);
  if (inside.length > 0) return Math.max(...inside.map(({ value }) => value));
  return points.findLast(({ atMs }) => atMs <= from * endMs)?.value ?? 0;
}

/** `fill` is how many cells are filled from the bottom of this one; what is there at all shows. */
function cell(fill: number): string {
  if (fill >= 1) return FULL;
  if (fill <= 0) return ' ';
  return EIGHTHS[Math.max(1, Math.round(fill * 8))] ?? FULL;
}
