import { expect, test } from 'vitest';
import { settle } from '../../test/support/scripted-server.ts';
import { ManualClock } from '../../test/twins/manual-clock.ts';
import { LeaseDeadlines, type Timed } from './lease-deadlines.ts';

test('a lease that is extended in time is not over, though the loop was busy until after its end', async () => {
  const clock = new ManualClock();
  const over: Timed[] = [];
  const deadlines = new LeaseDeadlines<Timed>(clock, (lease) => over.push(lease));
  const [extended, forgotten] = [1000, 1000].map((ms): Timed => ({ endsAtMs: clock.steadyMs() + ms, place: 0 }));
  for (const lease of [extended, forgotten] as Timed[]) deadlines.add(lease);
  // What extends it has come and is read when the loop goes on.
  process.nextTick(() => deadlines.move(extended as Timed, clock.steadyMs() + 1000));
  clock.advance(1500);
  await settle();
  expect(over).toEqual([forgotten]);
  clock.advance(1000);
  await settle();
  expect(over).toEqual([forgotten, extended]);
});
