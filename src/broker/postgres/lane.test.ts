import { createServer, type Socket } from 'node:net';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { SystemClock } from '../../io/clock.ts';
import { SystemRandom } from '../../io/random.ts';
import { type Driver, Lane } from './lane.ts';
import { resolveSettings } from './settings.ts';

const sockets: Socket[] = [];
const server = createServer((socket) => {
  sockets.push(socket);
  socket.on('error', () => {});
});
let lane: Lane;

beforeEach(async () => {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as { port: number };
  const { default: driver } = await import('postgres');
  const settings = await resolveSettings({
    url: `postgres://me@127.0.0.1:${port}/d`,
    ...{ clock: new SystemClock(), random: new SystemRandom(), connectTimeoutMs: 10_000 },
  });
  lane = new Lane({ driver: driver as unknown as Driver, settings, clock: new SystemClock(), session: {} });
});

afterEach(async () => {
  for (const socket of sockets.splice(0)) socket.destroy();
  await new Promise((resolve) => server.close(resolve));
});

const ask = (): Promise<unknown> => lane.run((session) => session.query('SELECT 1', []), 10_000);

test('what is called after it was closed opens no connection', async () => {
  await lane.close(0);
  await expect(ask()).rejects.toThrow();
  expect(sockets).toEqual([]);
  expect(lane.open).toBe(false);
});

test('what was called right before it was closed leaves no connection', async () => {
  const asked = ask().catch(() => 'rejected');
  await lane.close(0);
  expect(await asked).toBe('rejected');
  await expect.poll(() => sockets.every((socket) => socket.destroyed || socket.readyState !== 'open')).toBe(true);
  expect(lane.open).toBe(false);
});
