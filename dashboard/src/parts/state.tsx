import type { TaskState } from '../api/types.ts';

export type ShownState = TaskState | 'unknown';

export const STATES: readonly TaskState[] = [
  'scheduled',
  'blocked',
  'ready',
  'active',
  'completed',
  'dead',
  'cancelled',
];

/** Each state has a shape of its own, drawn in 16 × 16: colour never tells it alone. */
const SHAPES: Readonly<Record<ShownState, string>> = {
  scheduled: 'M8 2a6 6 0 1 0 0 12A6 6 0 1 0 8 2M8 5v3.3l2.2 1.4',
  blocked: 'M3 3h10v10H3zM6.4 5.8v4.4M9.6 5.8v4.4',
  ready: 'M8 2.6a5.4 5.4 0 1 0 0 10.8A5.4 5.4 0 1 0 8 2.6',
  active: 'M4.5 2.8v10.4L13 8z',
  completed: 'M2.8 8.4l3.4 3.6 7-8',
  dead: 'M3.6 3.6l8.8 8.8M12.4 3.6l-8.8 8.8',
  cancelled: 'M8 2.4a5.6 5.6 0 1 0 0 11.2A5.6 5.6 0 1 0 8 2.4M4.2 4.2l7.6 7.6',
  unknown: 'M5.8 6a2.2 2.2 0 1 1 3.3 1.9c-.8.5-1.1.9-1.1 1.7M8 12.2v.2',
};

export function StateShape({ state }: { state: ShownState }) {
  return <path class={`shape shape-${state}`} d={SHAPES[state]} />;
}

export function StateBadge({ state }: { state: ShownState }) {
  return (
    <span class={`state state-${state}`}>
      <svg viewBox="0 0 16 16" width="14" height="14" aria-hidden="true">
        <StateShape state={state} />
      </svg>
      {state}
    </span>
  );
}
