import { connect, type Socket } from 'node:net';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { LIMITS } from '../../src/limits.ts';
import { ask } from './ask.ts';
import { HttpPlace } from './place.ts';

let place: HttpPlace;
let socket: Socket;

beforeEach(async () => {
  place = await HttpPlace.open();
  socket = connect(Number(new URL(place.url).port), '127.0.0.1');
  socket.on('error', () => {});
});
afterEach(async () => {
  socket.destroy();
  await place.close();
});

function get(path: string): string {
  return `GET ${path} HTTP/1.1\r\nhost: localhost\r\n\r\n`;
}

function post(path: string, body: object): string {
  const text = JSON.stringify(body);
  const head = `POST ${path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n`;
  return `${head}content-length: ${text.length}\r\n\r\n${text}`;
}

/** Resolves with the beginning of the first answer: whatever was sent with its request has arrived too. */
function begun(): Promise<string> {
  return new Promise((resolve) => socket.once('data', (data) => resolve(data.toString())));
}

function closed(): Promise<unknown> {
  return new Promise((resolve) => socket.resume().once('close', resolve));
}

function statusesOf(text: string): number[] {
  return [...text.matchAll(/HTTP\/1.1 (\d+)/g)].map(([, status]) => Number(status));
}

describe('requests that are sent ahead of the answer to an earlier one', () => {
  test('are answered one after the other', async () => {
    let text = '';
    socket.on('data', (data) => {
      text += data;
    });
    socket.write(get('/v1/nothing') + get('/healthz') + get('/v1/nothing') + get('/v1/stats'));
    await expect.poll(() => text).toContain('"throughput"');
    expect(statusesOf(text)).toEqual([404, 200, 404, 200]);
  });

  test('leave no stream of events behind when their connection ends', async () => {
    socket.write(get('/v1/events').repeat(LIMITS.eventStreamsMax));
    await begun();
    socket.destroy();
    const open = async (): Promise<number[]> => {
      const leaving = new AbortController();
      const opening = () => fetch(`${place.url}/v1/events`, { signal: leaving.signal });
      const answers = await Promise.all([opening(), opening()]);
      leaving.abort();
      return answers.map(({ status }) => status);
    };
    await expect.poll(open).toEqual([200, 200]);
  });

  test('take no task when their connection has ended', async () => {
    socket.write(post('/v1/leases', { waitMs: 60_000 }).repeat(10));
    await expect.poll(async () => (await place.client.status()).workers.length).toBeGreaterThan(0);
    socket.destroy();
    await expect.poll(async () => (await place.client.status()).workers.length).toBe(0);
    const { id } = await place.client.enqueue('x');
    expect(await place.leaseOne()).toMatchObject({ id });
  });

  test('are only so many, and the next one is told so and ends the connection', async () => {
    const { id } = await place.client.enqueue('x');
    let text = '';
    socket.on('data', (data) => {
      text += data;
    });
    socket.write(get(`/v1/tasks/${id}/result?waitMs=60000`) + get('/healthz').repeat(LIMITS.httpPipelinedMax + 5));
    // They have arrived when another one, sent later, is answered.
    await ask(`${place.url}/healthz`);
    await place.client.tasks.cancel(id);
    await closed();
    expect(statusesOf(text)).toEqual([...new Array(LIMITS.httpPipelinedMax + 1).fill(200), 503]);
    expect(text.slice(text.lastIndexOf('HTTP/1.1'))).toMatch(/^connection: close\r$.*"code":"CONNECTION_LIMIT"/ims);
  });
});
