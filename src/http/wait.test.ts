import { expect, test } from 'vitest';
import { OpenWaits } from './wait.ts';

/** Something that never happens. */
function forever(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    if (signal.aborted) reject(signal.reason);
    signal.addEventListener('abort', () => reject(signal.reason));
  });
}

test('a wait ends when whoever waits goes away, and others go on', async () => {
  const waits = new OpenWaits();
  const gone = new AbortController();
  const [mine, other] = [waits.run(gone.signal, forever), waits.run(new AbortController().signal, forever)];
  gone.abort();
  await expect(mine).rejects.toMatchObject({ code: 'CLOSED' });
  waits.stop();
  await expect(other).rejects.toMatchObject({ code: 'STOPPING' });
});

test('who has gone already, and who comes after a stop, does not wait', async () => {
  const waits = new OpenWaits();
  await expect(waits.run(AbortSignal.abort(), forever)).rejects.toMatchObject({ code: 'CLOSED' });
  waits.stop();
  await expect(waits.run(new AbortController().signal, forever)).rejects.toMatchObject({ code: 'STOPPING' });
});

test('what happens is what the wait gives', async () => {
  const waits = new OpenWaits();
  expect(await waits.run(new AbortController().signal, async () => 5)).toBe(5);
});
