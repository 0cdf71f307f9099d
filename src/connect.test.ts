import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { connect } from './connect.ts';
import { nodeNet } from './io/node-net.ts';
import { DEFAULTS } from './limits.ts';
import { Server } from './server/server.ts';

describe('connect', () => {
  test.each([
    ['nonsense', /"nonsense" is no URL of a backend; there are memory:/],
    ['http://localhost', /no URL of a backend/],
    ['tcp://', /is not of the form tcp:\/\/HOST:PORT/],
    ['tcp://host:99999', /is not of the form/],
    ['tcp://host/path', /is not of the form/],
    ['file:', /names no directory/],
    ['file:%zz', /"file:%zz" names no directory: .* % as %25/],
    ['file:a%00b', /names no directory/],
    [undefined, /is a text, not undefined; there are memory:/],
    [5, /is a text, not 5/],
    [Symbol('s'), /is a text, not Symbol\(s\)/],
    [new URL('memory:x'), /is a text, not an object/],
  ])('refuses the URL %o', async (url, message) => {
    await expect(connect(url as string)).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
      message: expect.stringMatching(message),
    });
  });

  test('says what there is instead of a backend that is not there', async () => {
    await expect(connect('redis://localhost')).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
      message: expect.stringContaining('tcp://HOST:PORT'),
    });
  });

  test.each([
    [null, /the options of connect must be an object, not null/],
    [{ reconect: {} }, /did you mean "reconnect"/],
    [{ reconnect: { jitter: 2 } }, /reconnect.jitter is 2; allowed are 0 to 1/],
    [{ enqueueTimeoutMs: -1 }, /enqueueTimeoutMs is -1/],
    [{ reconnect: null }, /the options of reconnect must be an object, not null/],
    [{ reconnect: { factor: '2' } }, /reconnect.factor is "2"; allowed are 1 to 100/],
    [{ reconnect: { giveUpAfterMs: null } }, /reconnect.giveUpAfterMs is null/],
    [{ reconnect: { maxDelayMs: 5n } }, /reconnect.maxDelayMs is 5/],
    [{ callTimeoutMs: Number.NaN }, /callTimeoutMs is NaN/],
    [{ name: 5 }, /name must be text, not 5/],
    [{ embedded: { fsnyc: 'never' } }, /did you mean "fsync"/],
    [{ embedded: null }, /the options of embedded must be an object, not null/],
    [{ embedded: { fsync: 'Always' } }, /fsync is "Always"; allowed are always, interval, never/],
    [{ embedded: { fsync: null } }, /fsync is null/],
    [{ embedded: { fsync: 'interval', fsyncIntervalMs: -5 } }, /fsyncIntervalMs is -5; .* 1 to 60000/],
    [{ embedded: { retention: { completedCountMax: 'many' } } }, /retention.completedCountMax is "many"/],
    [{ embedded: { retention: { deadCountMax: -1 } } }, /retention.deadCountMax is -1/],
    [{ embedded: { retention: { completdAgeMs: 5 } } }, /no retention setting "completdAgeMs"/],
    [{ embedded: { retention: null } }, /retention must be an object, not null/],
    [{ embedded: { cacheBytes: -1 } }, /cacheBytes is -1/],
    [{ embedded: { segmentBytes: 1 } }, /segmentBytes is 1; .* from 1048576/],
  ])('refuses %o', async (options, message) => {
    await expect(connect('memory:', options as never)).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
      message: expect.stringMatching(message),
    });
  });

  test('takes what is undefined for its default', async () => {
    const reconnect = { jitter: undefined } as object;
    const embedded = { fsync: undefined, retention: { deadAgeMs: 5, completedCountMax: undefined } } as object;
    const client = await connect('memory:', { name: undefined, reconnect, embedded });
    await client.enqueue('n');
    const { retention } = await client.queue('default').status();
    expect(retention).toEqual({ ...DEFAULTS.retention, deadAgeMs: 5 });
    await client.close();
  });

  test('without a server says how to start one', async () => {
    const listener = await nodeNet.listen(
      { host: '127.0.0.1', port: 0 },
      { accept: () => {}, refuse: () => {}, notAccepted: () => {} },
    );
    await listener.close();
    await expect(connect(`tcp://127.0.0.1:${listener.port}`, { connectTimeoutMs: 50 })).rejects.toMatchObject({
      code: 'DISCONNECTED',
      message: expect.stringContaining('millrace server'),
    });
  });

  test('reaches a server over TCP', async () => {
    const server = await Server.start({ directory: null, port: 0 });
    const client = await connect(server.url);
    await client.work({ double: async (input) => (input as number) * 2 });
    expect(await (await client.enqueueMany('double', [1, 2, 3])).results()).toEqual([2, 4, 6]);
    await client.close();
    await server.stop();
  });
});

describe('memory:', () => {
  test('alone is private, with a name it is shared', async () => {
    const clients = await Promise.all(['memory:', 'memory:', 'memory:x', 'memory:x'].map((url) => connect(url)));
    const [alone, other, here, there] = clients as [
      (typeof clients)[0],
      (typeof clients)[0],
      (typeof clients)[0],
      (typeof clients)[0],
    ];
    await alone.enqueue('n');
    const { id } = await here.enqueue('n');
    expect((await other.tasks.list()).tasks).toEqual([]);
    expect((await there.tasks.list()).tasks).toMatchObject([{ id }]);
    await Promise.all(clients.map((client) => client.close()));
  });
});

describe('file:', () => {
  let directory: string;

  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), 'millrace-connect-'));
  });

  afterEach(() => rm(directory, { recursive: true, force: true }));

  test('keeps tasks from one client to the next', async () => {
    const first = await connect(`file:${directory}`);
    const { id } = await first.enqueue('n', { a: 1 });
    await first.close();
    const second = await connect(`file:${directory}`);
    expect(await second.task(id).info()).toMatchObject({ state: 'ready' });
    await second.close();
  });

  test('is one host for all clients of a process, until the last has closed', async () => {
    const [one, two] = await Promise.all([connect(`file:${directory}`), connect(`file:${directory}/.`)]);
    const { id } = await one.enqueue('n');
    await one.close();
    expect(await two.task(id).info()).toMatchObject({ state: 'ready' });
    const closing = two.close();
    // Opened while the last one is still closing.
    const three = await connect(`file:${directory}`);
    expect(await three.task(id).info()).toMatchObject({ state: 'ready' });
    await closing;
    await three.close();
  });

  test('is refused with other options than it runs with', async () => {
    const client = await connect(`file:${directory}`, { embedded: { fsync: 'never' } });
    await expect(connect(`file:${directory}`, { embedded: { fsync: 'always' } })).rejects.toThrow(
      /other options \(fsync\)/,
    );
    const same = await connect(`file:${directory}`);
    await same.close();
    await client.close();
  });
});
