import { useEffect, useLayoutEffect, useRef, useState } from 'preact/hooks';
import uPlot from 'uplot';
import { time } from '../format.ts';
import { shade } from '../preferences.ts';
import { useStore } from '../store.ts';

export interface Series {
  name: string;
  /** A custom property of the style sheet: `--chart-in`. */
  colour: string;
  /** Beside the colour, which not everyone tells apart. */
  dash: readonly number[];
  values: readonly (number | null)[];
}

interface Props {
  title: string;
  /** Seconds since 1970, as uPlot takes them. */
  times: readonly number[];
  spanS: number;
  series: readonly Series[];
  /** In the legend. */
  format: (value: number) => string;
  /** On the axis. */
  formatAxis: (value: number) => string;
  /** Steps that its marks may have; absent: the usual ones of decimal numbers. */
  steps?: readonly number[];
  /** The axis reaches at least so far: a flat line near zero is no drama. */
  atLeast: number;
}

const HEIGHT_PX = 170;

/** Lines over the last minutes, the newest at the right; what the legend says follows the pointer. */
export function Chart(props: Props) {
  const { title, times, series, format } = props;
  const host = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | undefined>(undefined);
  const [pointed, setPointed] = useState<number | null>(null);
  const latest = useRef(props);
  latest.current = props;
  const shown = useStore(shade);
  // What a plot is made of: with other lines or colours it is made anew.
  const look = `${shown} ${series.map(({ name }) => name).join()}`;

  useLayoutEffect(() => {
    const element = host.current;
    if (element === null) return;
    const made = new uPlot(options(latest, element, setPointed), dataOf(latest.current), element);
    plot.current = made;
    const observer = new ResizeObserver(() => {
      if (element.clientWidth > 0) made.setSize({ width: element.clientWidth, height: HEIGHT_PX });
    });
    observer.observe(element);
    return () => {
      observer.disconnect();
      made.destroy();
      plot.current = undefined;
    };
  }, [look]);

  useEffect(() => plot.current?.setData(dataOf(props)), [times, series]);

  const index = pointed !== null && pointed < times.length ? pointed : times.length - 1;
  const valueAt = (line: Series): string => {
    const value = line.values[index];
    return value === null || value === undefined ? '–' : format(value);
  };
  return (
    <figure class="chart">
      <figcaption>
        <span class="chart-title">{title}</span>
        <span class="chart-at">{pointed === null || index < 0 ? 'now' : time((times[index] as number) * 1000)}</span>
      </figcaption>
      <ul class="legend">
        {series.map((line) => (
          <li key={line.name}>
            <svg class="legend-line" viewBox="0 0 18 8" width="18" height="8" aria-hidden="true">
              <path
                d="M0 4h18"
                stroke={`var(${line.colour})`}
                stroke-width="2"
                stroke-dasharray={line.dash.join(' ') || undefined}
              />
            </svg>
            <span class="legend-name">{line.name}</span> <span class="legend-value">{valueAt(line)}</span>
          </li>
        ))}
      </ul>
      <div
        ref={host}
        class="chart-plot"
        role="img"
        aria-label={`${title}, now: ${series.map((line) => `${line.name} ${valueAt(line)}`).join(', ')}`}
      />
    </figure>
  );
}

function dataOf({ times, series }: Props): uPlot.AlignedData {
  return [times as number[], ...series.map(({ values }) => values as (number | null)[])];
}

/** The browser's own word for a colour that a style sheet says in its terms. */
function resolved(element: HTMLElement, property: string): string {
  const probe = document.createElement('span');
  probe.style.color = `var(${property})`;
  element.append(probe);
  const { color } = getComputedStyle(probe);
  probe.remove();
  return color;
}

function options(
  latest: { readonly current: Props },
  element: HTMLElement,
  onPoint: (index: number | null) => void,
): uPlot.Options {
  const ink = resolved(element, '--muted');
  const grid = { stroke: resolved(element, '--grid'), width: 1 };
  const ticks = { show: false };
  const font = '11px system-ui, sans-serif';
  return {
    width: element.clientWidth || 400,
    height: HEIGHT_PX,
    padding: [8, 10, 0, 0],
    legend: { show: false },
    cursor: {
      y: false,
      drag: { x: false, y: false },
      sync: { key: 'overview' },
      points: { size: 6 },
    },
    scales: {
      x: {
        range: () => {
          const { times, spanS } = latest.current;
          const end = times.at(-1) ?? Date.now() / 1000;
          return [end - spanS, end];
        },
      },
      y: { range: (_, __, max) => [0, Math.max(latest.current.atLeast, (max ?? 0) * 1.08)] },
    },
    axes: [
      {
        stroke: ink,
        grid,
        ticks,
        font,
        size: 26,
        space: 48,
        values: (_, marks) => marks.map((at) => (latest.current.spanS > 60 ? MINUTES : CLOCK).format(at * 1000)),
      },
      {
        stroke: ink,
        grid,
        ticks,
        font,
        size: 52,
        space: 30,
        ...(latest.current.steps === undefined ? {} : { incrs: [...latest.current.steps] }),
        values: (_, marks) => marks.map((mark) => latest.current.formatAxis(mark)),
      },
    ],
    series: [
      {},
      ...latest.current.series.map(({ name, colour, dash }) => ({
        label: name,
        stroke: resolved(element, colour),
        width: 1.75,
        dash: [...dash],
        points: { show: false },
        spanGaps: false,
      })),
    ],
    hooks: { setCursor: [({ cursor }) => onPoint(cursor.idx ?? null)] },
  };
}

const MINUTES = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit', hourCycle: 'h23' });
const CLOCK = new Intl.DateTimeFormat(undefined, {
  hour: '2-digit',
  minute: '2-digit',
  second: '2-digit',
  hourCycle: 'h23',
});
