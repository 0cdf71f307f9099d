import { afterAll, beforeAll, expect, test } from 'vitest';
import { Credentials } from '../../src/access/credentials.ts';
import type { Grant } from '../../src/access/grant.ts';
import { Keyring } from '../../src/access/keyring.ts';
import { SystemRandom } from '../../src/io/random.ts';
import { LIMITS } from '../../src/limits.ts';
import { FRAME } from '../../src/protocol/frames.ts';
import { CALL_NEEDS } from '../../src/server/call-access.ts';
import { Server } from '../../src/server/server.ts';
import { RawClient } from '../server/raw-client.ts';

/** What is in a call is looked at before its method looks, if who calls may use some queues only. */
const SECRET = 'some-secret-0123456789';

let server: Server;
let raw: RawClient;

beforeAll(async () => {
  const keyring = new Keyring(Credentials.parse(`operate some ${SECRET} mail.*`, 'file'));
  server = await Server.start({ directory: null, port: 0, keyring });
  raw = await RawClient.open(server.port);
  await raw.greet({ token: SECRET, producer: new SystemRandom().hex(16) });
});

afterAll(async () => {
  raw.close();
  await server.stop({ timeoutMs: 0 });
});

const DEEP = '['.repeat(8000) + ']'.repeat(8000);
const LONG = JSON.stringify('x'.repeat(100_000));
const ODD = '{"toString":1,"valueOf":1,"toJSON":1}';
const PARAMS = ['id', 'queue', 'queues', 'name', 'payload', 'cron', 'backoff', 'headers', 'key', 'other'];
const SCHEDULE =
  '"queue":"mail.a","task":"t","everyMs":1000,"misfire":"all","priority":4,"maxAttempts":3,"timeoutMs":1000,"backoff":{"type":"fixed","delayMs":0,"maxDelayMs":0,"jitter":false}';

test.each([
  ['deep', DEEP],
  ['long', LONG],
  ['odd', ODD],
  ['odd list', `[${ODD}]`],
])('a %s value anywhere in a call of who may use some queues only is answered in a few words', async (_what, value) => {
  const ask = async (body: string): Promise<void> => {
    raw.writer.begin(FRAME.CALL, 5);
    raw.writer.text(body);
    raw.writer.end();
    const answer = await raw.next();
    expect([FRAME.REPLY, FRAME.ERROR]).toContain(answer?.type);
    expect(answer?.body.length).toBeLessThan(20_000);
  };
  for (const method of Object.keys(CALL_NEEDS)) {
    for (const name of PARAMS) {
      await ask(`{"method":"${method}","params":{"${name}":${value}}}`);
      await ask(`{"method":"${method}","params":{"name":"s","queue":"mail.a","${name}":${value}}}`);
    }
  }
  for (const name of PARAMS)
    await ask(`{"method":"schedule.set","params":{"name":"s",${SCHEDULE},"${name}":${value}}}`);
});

test('a name that no queue can have is covered by no pattern', () => {
  const grant = Credentials.parse(`read some ${SECRET} mail.*`, 'file').find(SECRET) as Grant;
  expect(grant.covers('mail.a')).toBe(true);
  expect(grant.covers(`mail.${'x'.repeat(LIMITS.queueNameBytesMax)}`)).toBe(false);
});
