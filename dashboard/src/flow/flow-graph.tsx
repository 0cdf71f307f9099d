import { useLayoutEffect, useMemo, useRef } from 'preact/hooks';
import { pathOf } from '../api/client.ts';
import { usePoll } from '../api/live.ts';
import type { Flow } from '../api/types.ts';
import { count } from '../format.ts';
import { StateShape } from '../parts/state.tsx';
import { Failure, Loading, Panel } from '../parts/states.tsx';
import { taskHref } from '../route.ts';
import { layOut, type Placed } from './layout.ts';

const FLOW_TASKS_MAX = 200;
const POLL_MS = 2000;

const NODE = { width: 176, height: 44, gapX: 56, gapY: 12, margin: 12 };
const NAME_CHARACTERS_MAX = 21;

/** The flow that a task is part of, from left to right. */
export function FlowPanel({ id }: { id: string }) {
  const path = pathOf(`v1/tasks/${encodeURIComponent(id)}/flow`, { limit: FLOW_TASKS_MAX });
  const { data, error, refresh } = usePoll<Flow>(path, POLL_MS);
  return (
    <Panel
      title="Flow"
      aside={
        data !== undefined &&
        !data.complete && <span class="muted">the nearest {count(data.tasks.length)} tasks of a larger one</span>
      }
    >
      {data === undefined ? (
        error ? (
          <Failure error={error} onRetry={refresh} />
        ) : (
          <Loading />
        )
      ) : (
        <FlowGraph flow={data} current={id} />
      )}
    </Panel>
  );
}

function FlowGraph({ flow, current }: { flow: Flow; current: string }) {
  const shape = `${flow.tasks.map(({ id }) => id).join()};${flow.edges.map(({ from, to }) => `${from}>${to}`).join()}`;
  // States change each second, the places of tasks do not.
  const layout = useMemo(() => {
    const ids = flow.tasks.map(({ id }) => id);
    return layOut(ids, flow.edges);
  }, [shape]);
  const places = new Map(layout.nodes.map((node) => [node.id, placeOf(node)]));
  const width = leftOf(layout.layers) - NODE.gapX + NODE.margin;
  const height = topOf(layout.rows) - NODE.gapY + NODE.margin;
  const pane = useRef<HTMLElement>(null);
  const here = places.get(current);
  // A large flow, and any on a phone, is seen in part: first the part where one is.
  useLayoutEffect(() => {
    const seen = pane.current;
    if (seen === null || here === undefined) return;
    seen.scrollLeft = here.x + NODE.width / 2 - seen.clientWidth / 2;
    seen.scrollTop = here.y + NODE.height / 2 - seen.clientHeight / 2;
  }, [here?.x, here?.y]);
  const rules = new Set(flow.edges.map(({ onFailure }) => onFailure));
  return (
    <>
      {/* biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable by keyboard. */}
      <section ref={pane} class="flow" tabIndex={0} aria-label="Graph of the flow">
        {/* biome-ignore lint/a11y/noSvgWithoutTitle: its parts have names, each of its own. */}
        <svg viewBox={`0 0 ${width} ${height}`} width={width} height={height}>
          {flow.edges.map(({ from, to, onFailure }) => {
            const [start, end] = [places.get(from), places.get(to)];
            if (start === undefined || end === undefined) return null;
            const between = (layout.waypoints.get(`${from} ${to}`) ?? []).map(placeOf);
            return <path key={`${from} ${to}`} class={`edge edge-${onFailure}`} d={line(start, end, between)} />;
          })}
          {flow.tasks.map(({ id, name, state }) => {
            const place = places.get(id);
            if (place === undefined) return null;
            const isCurrent = id === current;
            return (
              <a
                key={id}
                href={taskHref(id)}
                class={`node node-${state} ${isCurrent ? 'node-current' : ''}`}
                aria-current={isCurrent ? 'true' : undefined}
              >
                <title>{`${name} ${id}: ${state}`}</title>
                <rect x={place.x} y={place.y} width={NODE.width} height={NODE.height} rx="6" />
                <g transform={`translate(${place.x + 9} ${place.y + 14})`}>
                  <StateShape state={state} />
                </g>
                <text x={place.x + 32} y={place.y + 19} class="node-name">
                  {cut(name)}
                </text>
                <text x={place.x + 32} y={place.y + 34} class="node-state">
                  {state} · {id}
                </text>
              </a>
            );
          })}
        </svg>
      </section>
      <p class="flow-rules muted">
        {rules.has('cancel') && <Rule kind="cancel" text="cancelled when its parent fails" />}
        {rules.has('run') && <Rule kind="run" text="runs all the same" />}
        {rules.has('wait') && <Rule kind="wait" text="waits for a redrive" />}
      </p>
    </>
  );
}

function Rule({ kind, text }: { kind: string; text: string }) {
  return (
    <span>
      <svg viewBox="0 0 26 8" width="26" height="8" aria-hidden="true">
        <path class={`edge edge-${kind}`} d="M0 4h26" />
      </svg>{' '}
      {text}
    </span>
  );
}

const leftOf = (layer: number): number => NODE.margin + layer * (NODE.width + NODE.gapX);
const topOf = (row: number): number => NODE.margin + row * (NODE.height + NODE.gapY);

const placeOf = ({ layer, row }: Placed): Point => ({ x: leftOf(layer), y: topOf(row) });

interface Point {
  x: number;
  y: number;
}

/** From one task to another, straight across the layers between. */
function line(start: Point, end: Point, between: readonly Point[]): string {
  const middle = NODE.height / 2;
  let at = { x: start.x + NODE.width, y: start.y + middle };
  let path = `M${at.x} ${at.y}`;
  const bendTo = (x: number, y: number): void => {
    const bend = (x - at.x) / 2;
    path += `C${at.x + bend} ${at.y} ${x - bend} ${y} ${x} ${y}`;
    at = { x, y };
  };
  for (const { x, y } of between) {
    bendTo(x, y + middle);
    at = { x: x + NODE.width, y: y + middle };
    path += `H${at.x}`;
  }
  bendTo(end.x, end.y + middle);
  return path;
}

function cut(name: string): string {
  return name.length <= NAME_CHARACTERS_MAX ? name : `${name.slice(0, NAME_CHARACTERS_MAX - 1)}…`;
}
