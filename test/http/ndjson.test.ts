import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { HttpPlace, httpBackends } from './place.ts';

function streamOf(chunks: Iterable<string>): ReadableStream<Uint8Array> {
  const iterator = chunks[Symbol.iterator]();
  return new ReadableStream({
    pull(controller) {
      const { done, value } = iterator.next();
      if (done === true) controller.close();
      else controller.enqueue(Buffer.from(value));
    },
  });
}

async function send(url: string, body: ReadableStream<Uint8Array> | string): Promise<unknown[]> {
  const response = await fetch(`${url}/v1/tasks`, {
    method: 'POST',
    headers: { 'content-type': 'application/x-ndjson; charset=utf-8' },
    body,
    duplex: 'half',
  } as RequestInit);
  expect(response.status).toBe(200);
  expect(response.headers.get('content-type')).toBe('application/x-ndjson');
  const text = await response.text();
  return text
    .split('\n')
    .slice(0, -1)
    .map((line) => JSON.parse(line));
}

/** A stream that stays open after its first line. */
async function openStream(url: string, first: string) {
  let controller!: ReadableStreamDefaultController<Uint8Array>;
  const body = new ReadableStream<Uint8Array>({
    start: (given) => {
      controller = given;
    },
  });
  const say = (line: string): void => controller.enqueue(Buffer.from(line));
  say(first);
  const response = await fetch(`${url}/v1/tasks`, {
    method: 'POST',
    headers: { 'content-type': 'application/x-ndjson' },
    body,
    duplex: 'half',
  } as RequestInit);
  const reader = (response.body as ReadableStream<Uint8Array>).getReader();
  return { say, close: () => controller.close(), reader };
}

for (const backend of await httpBackends()) {
  describe(`lines of tasks over ${backend.name}`, () => {
    let place: HttpPlace;

    beforeAll(async () => {
      place = await backend.open();
    });
    afterAll(() => place.close());

    test('are enqueued with what they say, and what is wrong with one is told in its place', async () => {
      const answers = await send(
        place.url,
        [
          '{"name": "a", "queue": "lines", "payload": [1]}',
          '{"queue": "lines"}',
          '{"name": "b", "queue": "lines", "payloadBase64": "AP8B", "maxAttempts": 7}',
          '{"name": "c", "queue": "lines", "priority": 10}',
          '{"name": "d", "queue": "lines", "payload": 1, "payloadBase64": ""}',
          'no JSON',
          '',
        ].join('\n'),
      );
      expect(answers).toMatchObject([
        { isNew: true },
        { line: 2, code: 'INVALID_ARGUMENT', status: 400, detail: expect.stringContaining('name') },
        { isNew: true },
        { line: 4, code: 'INVALID_ARGUMENT', detail: expect.stringContaining('priority is 10') },
        { line: 5, code: 'INVALID_ARGUMENT' },
        { line: 6, code: 'INVALID_ARGUMENT' },
      ]);
      const first = await place.leaseOne({ queues: ['lines'] });
      const second = await place.leaseOne({ queues: ['lines'] });
      expect([first, second]).toMatchObject([
        { id: (answers[0] as { id: string }).id, name: 'a', payload: [1] },
        { name: 'b', payloadBase64: 'AP8B', maxAttempts: 7 },
      ]);
    });
  });
}

describe('lines of tasks', () => {
  let place: HttpPlace;

  beforeAll(async () => {
    place = await HttpPlace.open();
  });
  afterAll(() => place.close());

  test('with a unique key tell whether they are new', async () => {
    const line = '{"name": "once", "queue": "unique", "uniqueKey": "k"}\n';
    const [first, second] = (await send(place.url, line + line)) as { id: string }[];
    expect(first).toEqual({ id: expect.any(String), isNew: true });
    expect(second).toEqual({ id: first?.id, isNew: false });
  });

  test('beyond the length of their queue are refused one by one, in their place', async () => {
    await place.client.queue('short').limit({ length: 2 });
    const line = (queue: string): string => `{"name": "a", "queue": "${queue}"}\n`;
    const answers = await send(place.url, line('short') + line('short') + line('short') + line('free'));
    expect(answers).toMatchObject([
      { isNew: true },
      { isNew: true },
      { line: 3, status: 429, code: 'QUEUE_FULL', retryable: true, details: { queue: 'short', length: 2 } },
      { isNew: true },
    ]);
  });

  test('100,000 of them are enqueued in their order', { timeout: 60_000 }, async () => {
    const count = 100_000;
    function* chunks(): Generator<string> {
      for (let from = 0; from < count; from += 100) {
        let chunk = '';
        for (let index = from; index < from + 100; index++) chunk += `{"name":"n","queue":"many","payload":${index}}\n`;
        yield chunk;
      }
    }
    const answers = (await send(place.url, streamOf(chunks()))) as { id: string }[];
    expect(answers.length).toBe(count);
    expect(new Set(answers.map(({ id }) => id)).size).toBe(count);
    expect((await place.client.tasks.get((answers[99_999] as { id: string }).id)).payload?.data).toBe('99999');
    expect((await place.client.status()).queues.find(({ name }) => name === 'many')).toMatchObject({ ready: count });
  });

  test('those that were sent are answered while the next ones are not there yet', async () => {
    const line = '{"name":"slow","queue":"slow"}\n';
    const { say, close, reader } = await openStream(place.url, line);
    const read = async (): Promise<unknown> => JSON.parse(Buffer.from((await reader.read()).value ?? []).toString());
    expect(await read()).toMatchObject({ isNew: true });
    say(line);
    expect(await read()).toMatchObject({ isNew: true });
    close();
    expect((await reader.read()).done).toBe(true);
  });

  test('an open stream does not hold up a server that stops', async () => {
    const own = await HttpPlace.open();
    const { close, reader } = await openStream(own.url, '{"name":"last"}\n');
    await reader.read();
    const stopped = own.server.stop({ timeoutMs: 60_000 });
    expect((await reader.read()).done).toBe(true);
    close();
    await stopped;
    await own.close();
  });
});
