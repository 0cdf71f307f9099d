import { expect, test } from 'vitest';
import { SystemClock } from '../io/clock.ts';
import { CALL_NEEDS } from './call-access.ts';
import { createMethods } from './calls.ts';
import { Host } from './host.ts';
import { Supervisors } from './supervisors.ts';

test('every method says what it needs', async () => {
  const host = await Host.start({ directory: null });
  const details = { worker: () => undefined, workerIndex: () => undefined, progress: () => undefined };
  const methods = createMethods(host.engine, details, new Supervisors(new SystemClock()), () => ({}));
  expect([...methods.keys()].sort()).toEqual(Object.keys(CALL_NEEDS).sort());
  await host.stop({ timeoutMs: 0 });
});
