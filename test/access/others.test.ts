import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { Credentials } from '../../src/access/credentials.ts';
import { Keyring } from '../../src/access/keyring.ts';
import { type Client, connect } from '../../src/index.ts';
import { SystemRandom } from '../../src/io/random.ts';
import { parseTaskId } from '../../src/ids.ts';
import { FRAME } from '../../src/protocol/frames.ts';
import { Server } from '../../src/server/server.ts';
import { RawClient } from '../server/raw-client.ts';

/** What who may use some queues only could do to all others, over TCP. */
const OPS = 'ops-secret-0123456789';
const EVIL = 'evil-secret-0123456789';
const MAILER = 'mailer-secret-0123456789';
const LINES = `operate ops ${OPS}\noperate evil ${EVIL} mail.*\noperate mailer ${MAILER} mail.* ads`;

let server: Server;
let clients: Client[];
let raws: RawClient[];

beforeEach(async () => {
  clients = [];
  raws = [];
  const keyring = new Keyring(Credentials.parse(LINES, 'file'));
  server = await Server.start({ directory: null, port: 0, keyring });
});

afterEach(async () => {
  for (const raw of raws) raw.close();
  await Promise.all(clients.map((client) => client.close({ timeoutMs: 0 })));
  await server.stop({ timeoutMs: 0 });
});

async function connectAs(token: string): Promise<Client> {
  const client = await connect(server.url, { token });
  clients.push(client);
  return client;
}

async function rawAs(token: string, producer = new SystemRandom().hex(16)): Promise<RawClient> {
  const raw = await RawClient.open(server.port);
  raws.push(raw);
  await raw.greet({ token, producer });
  return raw;
}

/** The token of a task's lease, which whoever can count can guess. */
function leaseTokenOf(id: string): number {
  const { core } = server.host.engine;
  return core.assignments.of(core.index.get(parseTaskId(id))).token;
}

function subscribe(raw: RawClient, queues: readonly string[], resume: readonly unknown[] = []): void {
  raw.writer.json(FRAME.SUBSCRIBE, 2, { worker: 'w', queues, concurrency: 5, prefetch: 5, resume });
}

async function nextOf(raw: RawClient, type: number): Promise<Record<string, unknown>> {
  for (let frame = await raw.next(); frame !== undefined; frame = await raw.next()) {
    if (frame.type === type) return frame.body.length === 0 ? {} : JSON.parse(frame.body.toString());
  }
  throw new Error('the connection was ended');
}

describe('a worker', () => {
  test('is not ended by who names its lease, and keeps its tasks', async () => {
    const ops = await connectAs(OPS);
    const theirs = await rawAs(MAILER);
    subscribe(theirs, ['mail.a', 'ads']);
    const [mine, others] = [await ops.enqueue('x', 1, { queue: 'mail.a' }), await ops.enqueue('x', 1, { queue: 'ads' })];
    await expect.poll(async () => (await others.info()).state).toBe('active');
    const evil = await rawAs(EVIL);
    subscribe(evil, ['mail.a'], [[mine.id, String(leaseTokenOf(mine.id)), 1]]);
    expect(await nextOf(evil, FRAME.REPLY)).toEqual({ kept: [], lost: [mine.id] });
    theirs.writer.empty(FRAME.PING, 9);
    await nextOf(theirs, FRAME.PONG);
    expect((await others.info()).state).toBe('active');
  });

  test('that is back before its old connection is seen to end takes its tasks over', async () => {
    const ops = await connectAs(OPS);
    const producer = new SystemRandom().hex(16);
    const before = await rawAs(MAILER, producer);
    subscribe(before, ['mail.a']);
    const { id } = await ops.enqueue('x', 1, { queue: 'mail.a' });
    await expect.poll(async () => (await ops.tasks.get(id)).state).toBe('active');
    const after = await rawAs(MAILER, producer);
    subscribe(after, ['mail.a'], [[id, String(leaseTokenOf(id)), 1]]);
    expect(await nextOf(after, FRAME.REPLY)).toMatchObject({ kept: [[id, expect.any(String)]], lost: [] });
    await before.closed;
  });
});
