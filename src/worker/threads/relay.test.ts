import { expect, test } from 'vitest';
import type { Consumption, DeliveryRun } from '../../broker/contract.ts';
import { SystemClock } from '../../io/clock.ts';
import { bothHooks, Hooks, type WorkerHooks } from '../hooks.ts';
import { HeldTasks } from './held-tasks.ts';
import { Marks } from './marks.ts';
import type { Report } from './messages.ts';
import { Relay } from './relay.ts';
import type { WorkerThread } from './worker-thread.ts';

const SPEC = { name: 'n', queue: 'q', maxAttempts: 1, timeoutMs: 1000 };
const RUN = { length: 2, spec: SPEC, attempt: 1, enqueuedAtMs: 0, id: () => '1-1' } as unknown as DeliveryRun;
const NOTHING: Report = {
  ...{ type: 'report', returned: 2, completed: [], results: undefined, byteResults: [], failed: [], released: [] },
  ...{ entered: [], ended: [], recallAccepted: false, dropped: [], remarks: [], costs: [] },
};

/** What becomes of a task whose result is no JSON: whoever reads it throws. */
function relayed(hooks: WorkerHooks): unknown[] {
  const completed: unknown[] = [];
  const consumption = {
    complete: (_run, index, result) => completed.push([index, result]),
  } as Partial<Consumption> as Consumption;
  const clock = new SystemClock();
  const relay = new Relay(consumption, new Hooks(hooks, undefined), clock, clock);
  const thread = { held: new HeldTasks(), marks: new Marks(), begun: 0, running: new Map() } as unknown as WorkerThread;
  thread.held.add(RUN, 0, 2, 1);
  relay.report(thread, { ...NOTHING, results: { base: 1, ends: Uint32Array.of(0, 4), text: '{not' } });
  return completed;
}

test('results are read for a hook that wants them, and for no other', () => {
  const onFail = (): void => {};
  const others = bothHooks({ onStart: () => {}, onFail }, { onFail, onDead: () => {} });
  expect(relayed(others as WorkerHooks)).toEqual([[0, '{not']]);
  expect(() => relayed({ onComplete: () => {} })).toThrow(SyntaxError);
});
