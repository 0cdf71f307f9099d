import { expect, test } from 'vitest';
import { Credentials } from '../access/credentials.ts';
import type { Grant } from '../access/grant.ts';
import { Keyring } from '../access/keyring.ts';
import { open } from '../connect.ts';
import { Backends } from './backends.ts';

const WEB = 'web-secret-0123456789';
const OPS = 'ops-secret-0123456789';
const LINES = `operate ops ${OPS}\noperate web ${WEB} mail`;

test('who may use some queues has a backend of his own, until his line is another', async () => {
  const keyring = new Keyring(Credentials.parse(LINES, 'file'));
  const grantOf = (secret: string): Grant => keyring.admit(secret);
  const shared = await open('memory:shared');
  const backends = new Backends(shared, keyring, () => open('memory:own'));
  expect(await backends.of(grantOf(OPS))).toBe(shared);
  const own = await backends.of(grantOf(WEB));
  expect(own.client).not.toBe(shared.client);
  keyring.replace(Credentials.parse(`# the same\n${LINES}`, 'file'));
  expect(await backends.of(grantOf(WEB))).toBe(own);
  keyring.replace(Credentials.parse(`${LINES} ads`, 'file'));
  expect(await backends.of(grantOf(WEB))).not.toBe(own);
  const outcome = () => own.client.enqueue('x').then(String, ({ code }: { code: string }) => code);
  await expect.poll(outcome).toBe('CLOSED');
  await backends.close();
  await shared.client.close();
});
