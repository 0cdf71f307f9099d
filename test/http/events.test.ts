import { afterEach, describe, expect, test } from 'vitest';
import { HttpPlace, httpBackends } from './place.ts';

// biome-ignore lint/suspicious/noExplicitAny: each test knows what it asked for.
type Event = { id: string; type: string; data: any };

/** Reads a stream of server-sent events. */
class EventReader {
  lastId: string | undefined;
  readonly #reader: ReadableStreamDefaultReader<Uint8Array>;
  readonly #leaving: AbortController;
  #text = '';

  static async open(place: HttpPlace, query = '', lastEventId?: string): Promise<EventReader> {
    const leaving = new AbortController();
    const response = await fetch(`${place.url}/v1/events${query}`, {
      headers: lastEventId === undefined ? {} : { 'last-event-id': lastEventId },
      signal: leaving.signal,
    });
    expect(response.status).toBe(200);
    expect(response.headers.get('content-type')).toBe('text/event-stream');
    return new EventReader((response.body as ReadableStream<Uint8Array>).getReader(), leaving);
  }

  private constructor(reader: ReadableStreamDefaultReader<Uint8Array>, leaving: AbortController) {
    this.#reader = reader;
    this.#leaving = leaving;
  }

  /** Undefined at the end. */
  async next(): Promise<Event | undefined> {
    for (;;) {
      const end = this.#text.indexOf('\n\n');
      if (end === -1) {
        const { done, value } = await this.#reader.read();
        if (done) return undefined;
        this.#text += Buffer.from(value).toString();
        continue;
      }
      const fields = new Map(
        this.#text
          .slice(0, end)
          .split('\n')
          .map((line) => line.split(/: (.*)/s, 2) as [string, string]),
      );
      this.#text = this.#text.slice(end + 2);
      this.lastId = fields.get('id') ?? this.lastId;
      const data = fields.get('data');
      if (data === undefined) continue;
      return { id: this.lastId as string, type: fields.get('event') as string, data: JSON.parse(data) };
    }
  }

  async take(count: number): Promise<Event[]> {
    const events: Event[] = [];
    while (events.length < count) {
      const event = await this.next();
      if (event === undefined) throw new Error(`the stream ended after ${events.length} events`);
      events.push(event);
    }
    return events;
  }

  leave(): void {
    this.#leaving.abort();
  }
}

for (const backend of await httpBackends()) {
  describe(`events over ${backend.name}`, () => {
    test.runIf(backend.hasStore)('tell what becomes of a task', async () => {
      const place = await backend.open();
      try {
        const reader = await EventReader.open(place, '?queue=watched');
        await place.client.enqueue('unheard', null, { queue: 'other' });
        const { id } = await place.client.enqueue('heard', null, { queue: 'watched' });
        const { lease } = await place.leaseOne({ queues: ['watched'] });
        await place.post(`/v1/leases/${lease}/complete`);
        const events = await reader.take(3);
        expect(events.map(({ type }) => type)).toEqual(['enqueued', 'started', 'completed']);
        for (const { type, data } of events) {
          expect(data).toMatchObject({ type, id, queue: 'watched', name: 'heard', atMs: expect.any(Number) });
        }
        reader.leave();
      } finally {
        await place.close();
      }
    });

    test.skipIf(backend.hasStore)('are refused with a problem where there are none', async () => {
      const place = await backend.open();
      try {
        const response = await fetch(`${place.url}/v1/events`);
        expect(response.status).toBe(501);
        expect(await response.json()).toMatchObject({ code: 'UNSUPPORTED' });
      } finally {
        await place.close();
      }
    });
  });
}

describe('events', () => {
  let place: HttpPlace;
  afterEach(() => place.close());

  test('who was cut off gets what happened meanwhile, once', async () => {
    place = await HttpPlace.open();
    const first = await EventReader.open(place);
    await place.client.enqueueMany('one', [1, 2, 3]);
    await first.take(2);
    first.leave();
    await place.client.enqueue('two', null);
    const second = await EventReader.open(place, '', first.lastId);
    const told = await second.take(2);
    expect(told.map(({ data }) => data.name)).toEqual(['one', 'two']);
    second.leave();
  });

  test('who comes back to another server is told that nobody knows what was missed', async () => {
    const before = await HttpPlace.open();
    const first = await EventReader.open(before);
    await before.client.enqueue('lost', null);
    await first.take(1);
    await before.close();
    place = await HttpPlace.open();
    const second = await EventReader.open(place, '', first.lastId);
    expect(await second.take(1)).toMatchObject([{ type: 'dropped', data: { type: 'dropped', count: null } }]);
    second.leave();
  });

  test('a stream of one task tells of no other', async () => {
    place = await HttpPlace.open();
    const batch = await place.client.enqueueMany('many', [1, 2, 3], { delayMs: 60_000 });
    const { id } = batch.at(1);
    const reader = await EventReader.open(place, `?task=${id}`);
    for (const task of batch) await task.cancel();
    expect(await reader.take(1)).toMatchObject([{ type: 'cancelled', data: { id } }]);
    reader.leave();
  });

  test('streams end with the server, and do not hold it up', async () => {
    place = await HttpPlace.open();
    const reader = await EventReader.open(place);
    const stopped = place.server.stop({ timeoutMs: 60_000 });
    expect(await reader.next()).toBeUndefined();
    await stopped;
  });

  test('of a queue and of a task at the same time are refused', async () => {
    place = await HttpPlace.open();
    const response = await fetch(`${place.url}/v1/events?queue=a&task=1-0`);
    expect(response.status).toBe(400);
    expect(await response.json()).toMatchObject({ code: 'INVALID_ARGUMENT' });
  });
});
