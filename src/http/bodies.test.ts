import { createServer, type RequestListener, type Server } from 'node:http';
import { type AddressInfo, connect, type Socket } from 'node:net';
import { getRequestListener } from '@hono/node-server';
import { Hono } from 'hono';
import { beforeEach, expect, test } from 'vitest';
import { Arrivals } from '../../test/conformance/events.ts';
import { EVERYTHING } from '../access/grant.ts';
import { limitBodies } from './bodies.ts';
import type { HttpEnv } from './context.ts';

const HEAD = 'POST / HTTP/1.1\r\nhost: x\r\n';

let server: Server;
let port: number;
let errors: Arrivals<Error>;

beforeEach(async () => {
  errors = new Arrivals();
  const app = new Hono<HttpEnv>();
  app.onError((error, c) => {
    errors.add(error);
    return c.text('', 500);
  });
  app.use((c, next) => {
    c.set('grant', EVERYTHING);
    return next();
  });
  app.use(limitBodies({ timeoutMs: 100 }));
  app.post('/', async (c) => c.text(await c.req.text()));
  server = createServer(getRequestListener(app.fetch) as RequestListener);
  await new Promise<void>((listening) => server.listen(0, '127.0.0.1', listening));
  ({ port } = server.address() as AddressInfo);
  return () => new Promise((closed) => server.close(closed));
});

async function send(text: string): Promise<Socket> {
  const asked = new Promise((resolve) => server.once('request', resolve));
  const socket = connect(port, '127.0.0.1');
  socket.write(text);
  await asked;
  return socket;
}

test('a body that does not end in its time is cut off, and others go on', async () => {
  const socket = await send(`${HEAD}content-length: 10\r\n\r\n12345`);
  await new Promise((closed) => socket.once('close', closed));
  const answer = await fetch(`http://127.0.0.1:${port}/`, { method: 'POST', body: 'whole' });
  expect(await answer.text()).toBe('whole');
});

test('who goes away in the middle of a body is no defect', async () => {
  const socket = await send(`${HEAD}transfer-encoding: chunked\r\n\r\n5\r\n12345\r\n`);
  socket.destroy();
  expect(await errors.count(1)).toMatchObject([{ code: 'CLOSED' }]);
});
