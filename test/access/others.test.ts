import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { Credentials } from '../../src/access/credentials.ts';
import { Keyring } from '../../src/access/keyring.ts';
import { parseTaskId } from '../../src/ids.ts';
import { type Client, connect } from '../../src/index.ts';
import { SystemRandom } from '../../src/io/random.ts';
import { LIMITS } from '../../src/limits.ts';
import { FRAME } from '../../src/protocol/frames.ts';
import { Server } from '../../src/server/server.ts';
import { RawClient } from '../server/raw-client.ts';
import { MemoryDisk, memoryDirectory } from '../twins/memory-disk.ts';

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
  server = await Server.start({ directory: null, port: 0, keyring, connectionsMax: 100 });
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
    const [mine, others] = [
      await ops.enqueue('x', 1, { queue: 'mail.a' }),
      await ops.enqueue('x', 1, { queue: 'ads' }),
    ];
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

describe('who may use some queues only fills half of what there is', () => {
  const full = (what: string) => ({ code: 'QUEUE_FULL', message: expect.stringContaining(what) });
  const queuesShare = LIMITS.queuesMax / 2;

  function enqueueEach(client: Client, queues: readonly string[]): Promise<unknown> {
    return client.flow((flow) => {
      for (const queue of queues) flow.add('x', null, { queue });
    });
  }

  const names = (count: number, from = 0): string[] => Array.from({ length: count }, (_, i) => `mail.${from + i}`);

  test('queues, however he makes them', async () => {
    const [ops, evil] = [await connectAs(OPS), await connectAs(EVIL)];
    await enqueueEach(evil, names(queuesShare - 1));
    await expect(enqueueEach(evil, names(2, queuesShare))).rejects.toMatchObject(full('queues'));
    await evil.schedule('s', { task: 'x', queue: 'mail.scheduled', everyMs: 3_600_000 });
    const refused = [
      () => enqueueEach(evil, ['mail.more']),
      () => evil.work({ x: () => 1 }, { queues: ['mail.more'] }),
      () => evil.queue('mail.more').pause(),
      () => evil.queue('mail.more').limit({ concurrency: 1 }),
      () => evil.schedule('t', { task: 'x', queue: 'mail.more', everyMs: 3_600_000 }),
    ];
    for (const act of refused) await expect(act()).rejects.toMatchObject(full('queues'));
    await enqueueEach(evil, ['mail.1']);
    await enqueueEach(ops, ['mail.more', ...Array.from({ length: 100 }, (_, i) => `ads.${i}`)]);
  });

  test('combinations of names and options', async () => {
    const [ops, evil] = [await connectAs(OPS), await connectAs(EVIL)];
    const share = LIMITS.kindsMax / 2;
    await Promise.all(Array.from({ length: share }, (_, i) => evil.enqueue(`n${i}`, null, { queue: 'mail.a' })));
    await expect(evil.enqueue('one more', null, { queue: 'mail.a' })).rejects.toMatchObject(full('combinations'));
    await evil.enqueue('n1', null, { queue: 'mail.a' });
    await ops.enqueue('one more', null, { queue: 'ads' });
  }, 60_000);

  test('connections', async () => {
    for (let count = 0; count < 50; count++) await rawAs(EVIL);
    const refused = await RawClient.open(server.port);
    refused.writer.json(FRAME.HELLO, 1, { protocol: 1, producer: '0'.repeat(32), token: EVIL });
    expect(await refused.json(FRAME.ERROR)).toMatchObject({ code: 'CONNECTION_LIMIT', details: { bound: 50 } });
    await connectAs(OPS);
    raws[0]?.close();
    await connectAs(EVIL);
  });

  test('streams of events', async () => {
    const [ops, reader] = [await connectAs(OPS), await rawAs(EVIL)];
    const connections = LIMITS.watchesMax / 2 / LIMITS.watchesPerConnectionMax;
    for (let count = 0; count < connections; count++) {
      const raw = await rawAs(EVIL);
      for (let id = 1; id <= LIMITS.watchesPerConnectionMax; id++)
        raw.writer.json(FRAME.WATCH, id, { queue: 'mail.a' });
      for (let id = 1; id <= LIMITS.watchesPerConnectionMax; id++) await raw.json(FRAME.REPLY);
    }
    reader.writer.json(FRAME.WATCH, 1, { queue: 'mail.a' });
    expect(await reader.json(FRAME.ERROR)).toMatchObject({ code: 'BUFFER_FULL' });
    await (await ops.events({ queue: 'mail.a' })).return?.();
  });

  test('waits for results', async () => {
    const evil = await connectAs(EVIL);
    const { ids } = await evil.enqueueMany('x', new Array(50_000).fill(1), { queue: 'mail.a' });
    const more = await evil.enqueueMany('x', new Array(50_000).fill(1), { queue: 'mail.a' });
    const all = [...ids, ...more.ids].map(parseTaskId);
    const wait = (raw: RawClient, waited: readonly number[]): void => {
      raw.writer.begin(FRAME.WAIT, 5);
      for (const id of waited) raw.writer.u64(id);
      raw.writer.end();
      raw.writer.empty(FRAME.PING, 9);
    };
    for (let count = 0; count < LIMITS.resultWaitersPerCredentialMax / all.length; count++) {
      const raw = await rawAs(EVIL);
      wait(raw, all);
      await nextOf(raw, FRAME.PONG);
    }
    await expect(evil.task(ids.at(0)).result()).rejects.toMatchObject({ code: 'BUFFER_FULL' });
  }, 60_000);

  test('schedules', async () => {
    const [ops, evil] = [await connectAs(OPS), await connectAs(EVIL)];
    const payload = 'x'.repeat(LIMITS.schedulePayloadBytesMax - 2);
    const schedule = (client: Client, name: string, queue: string): Promise<unknown> =>
      client.schedule(name, { task: 'x', queue, everyMs: 3_600_000, payload });
    const some = Math.floor(LIMITS.schedulesBytesMax / 2 / LIMITS.schedulePayloadBytesMax) - 1;
    for (let count = 0; count < some; count++) await schedule(evil, `evil-${count}`, 'mail.a');
    const failure = Promise.all([schedule(evil, 'last', 'mail.a'), schedule(evil, 'one more', 'mail.a')]);
    await expect(failure).rejects.toMatchObject(full('bytes of schedules'));
    await schedule(evil, 'evil-0', 'mail.b');
    await schedule(ops, 'ops', 'ads');
  });
});

test('who works for some queues reports the supervisors of these', async () => {
  const evil = await rawAs(EVIL);
  const report = (queues: readonly string[]) => {
    const common = { id: 'supervisor1', name: 's', host: 'h', pid: 1, min: 1, max: 8, current: 1, retiring: 0 };
    evil.writer.json(FRAME.CALL, 3, { method: 'scaling.report', params: { ...common, queues, decisions: [] } });
  };
  report(['mail.a']);
  await evil.json(FRAME.REPLY);
  for (const queues of [['mail.a', 'ads'], []]) {
    report(queues);
    expect(await evil.json(FRAME.ERROR)).toMatchObject({ code: 'FORBIDDEN' });
  }
});

describe('who operates some queues only', () => {
  test('does not fill the journal by saying again what holds', async () => {
    const evil = await connectAs(EVIL);
    const queue = evil.queue('mail.a');
    const all = async (): Promise<unknown> => {
      await queue.pause();
      await queue.limit({ concurrency: 5, rate: { count: 5, periodMs: 1000 } });
      return queue.retention({ completedCountMax: 5 });
    };
    await all();
    const { appendedBytes } = server.host.engine.journal.stats();
    for (let count = 0; count < 10; count++) await all();
    expect(server.host.engine.journal.stats().appendedBytes).toBe(appendedBytes);
  });

  test('does not take what a full disk has left for outcomes', async () => {
    const disk = new MemoryDisk({ capacityBytes: 3 * 1024 * 1024 });
    const keyring = new Keyring(Credentials.parse(LINES, 'file'));
    const small = await Server.start({
      directory: memoryDirectory('small'),
      port: 0,
      keyring,
      disk,
      segmentBytes: 1024 * 1024,
    });
    try {
      const evil = await connect(small.url, { token: EVIL });
      const fill = async (): Promise<unknown> => {
        for (;;) await evil.enqueue('x', 'x'.repeat(100_000), { queue: 'mail.a' });
      };
      await expect(fill()).rejects.toMatchObject({ code: 'DISK_FULL' });
      await expect(evil.queue('mail.a').pause()).rejects.toMatchObject({ code: 'DISK_FULL' });
      await evil.queue('mail.a').purge();
      await evil.close();
    } finally {
      await small.stop({ timeoutMs: 0 });
    }
  });
});
