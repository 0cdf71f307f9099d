import { rm } from 'node:fs/promises';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { type Client, connect } from '../../src/index.ts';
import { FRAME } from '../../src/protocol/frames.ts';
import { temporaryDirectory } from '../conformance/backends.ts';
import { until } from '../conformance/events.ts';
import { Program } from '../conformance/program.ts';
import { RunningCommand } from '../support/command.ts';
import { RawClient } from './raw-client.ts';

let directory: string;
let server: RunningCommand | undefined;
const clients: Client[] = [];
const raw: RawClient[] = [];

beforeEach(async () => {
  directory = await temporaryDirectory();
});

afterEach(async () => {
  for (const client of raw.splice(0)) client.close();
  await Promise.all(clients.splice(0).map((client) => client.close({ timeoutMs: 0 })));
  await server?.kill();
  server = undefined;
  await rm(directory, { recursive: true });
});

/** WELCOME, the code that it was refused with, or that it was closed without a word. */
async function greet(port: number): Promise<string> {
  const client = await RawClient.open(port);
  raw.push(client);
  client.writer.json(FRAME.HELLO, 1, { protocol: 1, client: 'raw', host: 'h', pid: 1, producer: '0'.repeat(32) });
  const frame = await client.next();
  if (frame === undefined) return 'closed';
  return frame.type === FRAME.WELCOME ? 'WELCOME' : String(JSON.parse(frame.body.toString()).code);
}

test.skipIf(process.platform !== 'linux')(
  'a server that may open few files refuses more connections than fit, and serves those that it has',
  async () => {
    server = new RunningCommand(['server', '--data', 'data', '--port', '0'], { directory, openFilesMax: 200 });
    const [, url, digits] = await server.said(/listens on (tcp:\S+:(\d+))/);
    const port = Number(digits);
    await server.said(/at most 136 connections, not 1024: this process may have 200 files open/);

    const client = await connect(url as string);
    clients.push(client);
    await client.work({ double: (input) => Number(input) * 2 });
    let flooded = false;
    let rounds = 0;
    const traffic = (async () => {
      for (; !flooded || rounds < 50; rounds++) {
        const tasks = await client.enqueueMany('double', [rounds, rounds + 1]);
        expect(await tasks.results()).toEqual([rounds * 2, rounds * 2 + 2]);
        expect((await client.status()).memory.rssBytes).toBeGreaterThan(0);
      }
    })();

    const outcomes = await Promise.all(Array.from({ length: 500 }, () => greet(port)));
    flooded = true;
    await traffic;
    const { connections } = (await client.status()).server;
    expect(connections).toBe(136);
    const welcomed = outcomes.filter((outcome) => outcome === 'WELCOME').length;
    expect(welcomed).toBeGreaterThan(130);
    expect(outcomes.filter((outcome) => outcome === 'CONNECTION_LIMIT')).toHaveLength(500 - welcomed);

    for (const extra of raw.splice(0)) extra.close();
    await until(
      () => greet(port),
      (outcome) => outcome === 'WELCOME',
    );
    const late = await connect(url as string);
    clients.push(late);
    expect(await (await late.enqueue('double', 21)).result()).toBe(42);
    await server.said(/\d+ connections refused \(CONNECTION_LIMIT\): .* has 136 connections/);
    server.signal('SIGTERM');
    expect((await server.exited).code).toBe(0);
  },
);

test.skipIf(process.platform === 'win32')(
  'an embedded queue in a process that can open nothing more waits until it can, and loses nothing',
  async () => {
    const program = Program.start('no-files-left', [directory], { openFilesMax: 100 });
    expect(await program.ended).toBe(0);
    expect(program.lines.all).toEqual(['EMFILE', 'status', '120']);
  },
);
