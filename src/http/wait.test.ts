import { expect, test } from 'vitest';
import { Credentials } from '../access/credentials.ts';
import { EVERYTHING, type Grant } from '../access/grant.ts';
import { Keyring } from '../access/keyring.ts';
import { OpenWaits } from './wait.ts';

function by(gone: AbortSignal): { gone: AbortSignal; grant: Grant } {
  return { gone, grant: EVERYTHING };
}

/** Something that never happens. */
function forever(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    if (signal.aborted) reject(signal.reason);
    signal.addEventListener('abort', () => reject(signal.reason));
  });
}

test('a wait ends when whoever waits goes away, and others go on', async () => {
  const waits = new OpenWaits(new Keyring());
  const gone = new AbortController();
  const [mine, other] = [waits.run(by(gone.signal), forever), waits.run(by(new AbortController().signal), forever)];
  gone.abort();
  await expect(mine).rejects.toMatchObject({ code: 'CLOSED' });
  waits.stop();
  await expect(other).rejects.toMatchObject({ code: 'STOPPING' });
});

test('who has gone already, and who comes after a stop, does not wait', async () => {
  const waits = new OpenWaits(new Keyring());
  await expect(waits.run(by(AbortSignal.abort()), forever)).rejects.toMatchObject({ code: 'CLOSED' });
  waits.stop();
  await expect(waits.run(by(new AbortController().signal), forever)).rejects.toMatchObject({ code: 'STOPPING' });
});

test('what happens is what the wait gives', async () => {
  const waits = new OpenWaits(new Keyring());
  expect(await waits.run(by(new AbortController().signal), async () => 5)).toBe(5);
});

test('a wait ends when the credentials of whoever waits are taken back', async () => {
  const secret = 'secret-0123456789';
  const before = Credentials.parse(`read web ${secret}\nread ops ops-${secret}`, 'file');
  const keyring = new Keyring(before);
  const waits = new OpenWaits(keyring);
  const grant = before.find(secret) as Grant;
  const { signal: gone } = new AbortController();
  const waiting = waits.run({ gone, grant }, forever);
  keyring.replace(Credentials.parse(`read ops ops-${secret}`, 'file'));
  await expect(waiting).rejects.toMatchObject({ code: 'UNAUTHENTICATED' });
  await expect(waits.run({ gone, grant }, forever)).rejects.toMatchObject({ code: 'UNAUTHENTICATED' });
});
