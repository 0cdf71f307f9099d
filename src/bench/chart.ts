/** Line charts as SVG, small and many on one sheet. Readable on a light page and on a dark one. */
export interface Panel {
  readonly title: string;
  /** What stands below the x axis. */
  readonly xTitle: string;
  /**
   * Of both axes. `log` (default) shows a few points, each with a mark, `linear` what goes on over a time: its axes begin at 0.
   */
  readonly scale?: 'log' | 'linear';
  /** At most three, which is what there are colours for. */
  readonly lines: readonly Line[];
}

export interface Line {
  readonly name: string;
  readonly points: readonly (readonly [x: number, y: number])[];
}

const WIDTH = 320;
const HEIGHT = 210;
const PLOT = { left: 46, top: 40, right: 298, bottom: 168 };

const STYLE = `
  text { font: 11px system-ui, sans-serif; fill: #57606a }
  .title { font-weight: 600; fill: #24292f }
  .grid { stroke: #d0d7de; stroke-width: 1 }
  .line { fill: none; stroke-width: 2 }
  .l0 { stroke: #0969da } .d0 { fill: #0969da }
  .l1 { stroke: #bc4c00; stroke-dasharray: 5 3 } .d1 { fill: #bc4c00 }
  .l2 { stroke: #1a7f37; stroke-dasharray: 2 2 } .d2 { fill: #1a7f37 }
  @media (prefers-color-scheme: dark) {
    text { fill: #8b949e } .title { fill: #9198a1 } .grid { stroke: #6e7681 }
    .l0 { stroke: #58a6ff } .d0 { fill: #58a6ff } .l1 { stroke: #f0883e } .d1 { fill: #f0883e }
    .l2 { stroke: #3fb950 } .d2 { fill: #3fb950 }
  }`;

/** `panels` fill rows of `columns` each. */
export function drawCharts(panels: readonly Panel[], columns: number): string {
  const [width, height] = [columns * WIDTH, Math.ceil(panels.length / columns) * HEIGHT];
  const parts = panels.map((panel, index) => {
    const [x, y] = [(index % columns) * WIDTH, Math.floor(index / columns) * HEIGHT];
    return `<g transform="translate(${x} ${y})">\n${drawPanel(panel).join('\n')}\n</g>`;
  });
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" role="img">`,
    `<title>${escapeXml(panels.map(({ title }) => title).join('; '))}</title>`,
    `<style>${STYLE}\n</style>`,
    ...parts,
    '</svg>\n',
  ].join('\n');
}

function drawPanel({ title, xTitle, scale = 'log', lines }: Panel): string[] {
  const all = lines.flatMap(({ points }) => points);
  const isLog = scale === 'log';
  const { x, y } = isLog ? logAxes(all) : linearAxes(all);
  return [
    text(PLOT.left, 16, 'start', title, 'title'),
    ...y.ticks.flatMap((tick) => [
      `<line class="grid" x1="${PLOT.left}" y1="${y.at(tick)}" x2="${PLOT.right}" y2="${y.at(tick)}"/>`,
      text(PLOT.left - 5, y.at(tick) + 4, 'end', shortNumber(tick)),
    ]),
    ...x.ticks.map((tick) => text(x.at(tick), PLOT.bottom + 15, 'middle', shortNumber(tick))),
    text((PLOT.left + PLOT.right) / 2, PLOT.bottom + 31, 'middle', xTitle),
    ...lines.flatMap(({ name, points }, index) => [
      ...(lines.length > 1 ? legend(name, index) : []),
      `<polyline class="line l${index}" points="${points.map(([px, py]) => `${x.at(px)},${y.at(py)}`).join(' ')}"/>`,
      ...(isLog ? points.map(([px, py]) => `<circle class="d${index}" cx="${x.at(px)}" cy="${y.at(py)}" r="3"/>`) : []),
    ]),
  ];
}

interface Axis {
  readonly ticks: readonly number[];
  /** Where a value lies on the panel. */
  readonly at: (value: number) => number;
}

function logAxes(points: Line['points']): { x: Axis; y: Axis } {
  const xs = [...new Set(points.map(([x]) => x))].sort((a, b) => a - b);
  const ys = yTicks(points.map(([, y]) => y));
  return {
    x: { ticks: xs, at: logScale(xs[0] ?? 1, xs.at(-1) ?? 1, PLOT.left, PLOT.right) },
    y: { ticks: ys, at: logScale(ys[0] as number, ys.at(-1) as number, PLOT.bottom, PLOT.top) },
  };
}

function linearAxes(points: Line['points']): { x: Axis; y: Axis } {
  const axis = (values: readonly number[], count: number, from: number, to: number): Axis => {
    const ticks = linearTicks(Math.max(...values), count);
    const max = ticks.at(-1) as number;
    return { ticks, at: (value) => Number((from + (value / max) * (to - from)).toFixed(1)) };
  };
  const xs = points.map(([x]) => x);
  const ys = points.map(([, y]) => y);
  return { x: axis(xs, 6, PLOT.left, PLOT.right), y: axis(ys, 4, PLOT.bottom, PLOT.top) };
}

/** What is beyond the last tick by less than this share needs no further one: an hour that took a second longer. */
const BEYOND = 0.005;

/** From 0 in at most `count` round steps, until `max` is reached. */
export function linearTicks(max: number, count: number): number[] {
  if (max <= 0) return [0, 1];
  const reached = max / (1 + BEYOND);
  const rough = reached / count;
  const decade = 10 ** Math.floor(Math.log10(rough));
  const step = (STEPS.find((each) => each * decade >= rough) ?? 10) * decade;
  const steps = Math.ceil(reached / step);
  return Array.from({ length: steps + 1 }, (_, index) => Number((index * step).toPrecision(12)));
}

function legend(name: string, index: number): string[] {
  const left = PLOT.left + index * 90;
  return [
    `<line class="line l${index}" x1="${left}" y1="28" x2="${left + 18}" y2="28"/>`,
    text(left + 23, 32, 'start', name),
  ];
}

/** Where a value lies between two ends; in the middle when there is nothing between the ends. */
function logScale(min: number, max: number, from: number, to: number): (value: number) => number {
  return (value) => {
    const share = max === min ? 0.5 : Math.log(value / min) / Math.log(max / min);
    return Number((from + share * (to - from)).toFixed(1));
  };
}

const STEPS = [1, 2, 5];

/** 1, 2 and 5 of each decade around all values; the powers of ten alone where these are many. */
export function yTicks(values: readonly number[]): number[] {
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const decades = Array.from({ length: 31 }, (_, index) => index - 15);
  const all = decades.flatMap((decade) => STEPS.map((step) => Number(`${step}e${decade}`)));
  const first = all.findLastIndex((tick) => tick <= low);
  const last = all.findIndex((tick) => tick >= high);
  // Three steps at least: what differs by a tenth is to look flat.
  const around = all.slice(Math.max(0, Math.min(first, last - 3)), last + 1);
  if (around.length <= 8) return around;
  const powers = decades.map((decade) => Number(`1e${decade}`));
  return powers.slice(
    powers.findLastIndex((tick) => tick <= low),
    powers.findIndex((tick) => tick >= high) + 1,
  );
}

/** 0.5, 20, 1 k, 10 M. */
function shortNumber(value: number): string {
  if (value >= 1e6) return `${value / 1e6} M`;
  return value >= 1000 ? `${value / 1000} k` : String(value);
}

function text(x: number, y: number, anchor: 'start' | 'middle' | 'end', content: string, kind = ''): string {
  const className = kind === '' ? '' : ` class="${kind}"`;
  return `<text${className} x="${x}" y="${y}" text-anchor="${anchor}">${escapeXml(content)}</text>`;
}

function escapeXml(content: string): string {
  return content.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('"', '&quot;');
}
