import { describe, expect, test } from 'vitest';
import type { EventFilter, TaskEvent } from '../broker/contract.ts';
import { LIMITS } from '../limits.ts';
import { EventRing } from './event-ring.ts';
import { EventStream } from './event-stream.ts';

interface Told {
  id: string;
  data: { type: string; id?: string; count?: number | null };
}

class Scene {
  readonly ring = new EventRing();
  readonly epoch = 'e0';

  open(filter: EventFilter = {}, lastEventId?: string): Reading {
    const stream = new EventStream(this, filter, lastEventId);
    this.ring.readers.add(stream);
    return new Reading(stream);
  }

  left(stream: EventStream): void {
    this.ring.readers.delete(stream);
  }

  /** So many events of one task each. */
  happen(count: number, queue = 'q'): void {
    for (let index = 0; index < count; index++) this.ring.add(enqueued(queue), 1);
  }
}

class Reading {
  readonly stream: EventStream;
  readonly #reader: ReadableStreamDefaultReader<Uint8Array>;

  constructor(stream: EventStream) {
    this.stream = stream;
    this.#reader = stream.text.getReader();
  }

  async text(): Promise<string> {
    return Buffer.from((await this.#reader.read()).value ?? []).toString();
  }

  /** Everything that is there; the last that is read. */
  async rest(): Promise<Told[]> {
    let text = await this.text();
    for (;;) {
      const nothing = new Promise<undefined>((resolve) => setImmediate(resolve, undefined));
      const more = await Promise.race([this.text(), nothing]);
      if (more === undefined) break;
      text += more;
    }
    return text
      .split('\n\n')
      .filter((block) => block.startsWith('event: '))
      .map((block) => {
        const [, id, data] = /\nid: (.*)\ndata: (.*)/.exec(block) as RegExpExecArray;
        return { id, data: JSON.parse(data as string) } as Told;
      });
  }
}

function enqueued(queue: string, id = '1-0'): TaskEvent {
  return { type: 'enqueued', id, queue, name: 'n', atMs: 0 };
}

describe('an event stream', () => {
  test('begins with where it is and how soon to come back', async () => {
    const scene = new Scene();
    scene.happen(3);
    expect(await scene.open().text()).toBe('retry: 2000\nid: e0-3\n\n');
  });

  test('tells each of many tasks by its own id', async () => {
    const scene = new Scene();
    const all = scene.open();
    const one = scene.open({ task: '1-z' });
    scene.ring.add(enqueued('q', '1-y'), 3);
    expect(await all.rest()).toMatchObject([
      { id: 'e0-1', data: { id: '1-y' } },
      { id: 'e0-2', data: { id: '1-z' } },
      { id: 'e0-3', data: { id: '1-10' } },
    ]);
    expect(await one.rest()).toMatchObject([{ id: 'e0-2', data: { id: '1-z' } }]);
  });

  test('of a queue tells of no other', async () => {
    const scene = new Scene();
    const reading = scene.open({ queue: 'b' });
    scene.happen(2, 'a');
    scene.happen(1, 'b');
    expect(await reading.rest()).toMatchObject([{ id: 'e0-3', data: { type: 'enqueued' } }]);
  });

  test('of a task whose id is of another backend tells nothing of many', async () => {
    const scene = new Scene();
    const reading = scene.open({ task: 'order/17' });
    scene.ring.add(enqueued('q', '1-y'), 3);
    scene.ring.add(enqueued('q', 'order/17'), 1);
    expect(await reading.rest()).toMatchObject([{ data: { id: 'order/17' } }]);
  });

  test('that lags is told how many of its own events it missed', async () => {
    const scene = new Scene();
    const all = scene.open();
    const some = scene.open({ queue: 'b' });
    scene.happen(5, 'a');
    scene.happen(7, 'b');
    scene.happen(LIMITS.eventRingMax, 'c');
    const told = await all.rest();
    expect(told[0]).toEqual({ id: 'e0-12', data: { type: 'dropped', count: 12 } });
    expect(told.length).toBe(1 + LIMITS.eventRingMax);
    expect(await some.rest()).toEqual([{ id: expect.any(String), data: { type: 'dropped', count: 7 } }]);
  });

  test('passes on what the backend has missed', async () => {
    const scene = new Scene();
    const reading = scene.open({ queue: 'b' });
    scene.ring.add({ type: 'dropped', count: null }, 1);
    expect(await reading.rest()).toMatchObject([{ data: { type: 'dropped', count: null } }]);
  });

  test('says that it lives, and where it is, when it has nothing else to say', async () => {
    const scene = new Scene();
    const reading = scene.open({ queue: 'b' });
    await reading.text();
    scene.happen(4, 'a');
    const text = reading.text();
    reading.stream.beat();
    expect(await text).toBe(': alive\nid: e0-4\n\n');
  });

  test('ends when it is ended', async () => {
    const reading = new Scene().open();
    await reading.text();
    const text = reading.text();
    reading.stream.end();
    expect(await text).toBe('');
  });
});

describe('who comes back', () => {
  test('gets what was missed', async () => {
    const scene = new Scene();
    scene.happen(5);
    expect((await scene.open({}, 'e0-3').rest()).map(({ id }) => id)).toEqual(['e0-4', 'e0-5']);
    expect(await scene.open({}, 'e0-5').rest()).toEqual([]);
  });

  test('too late is told how much is missing, as far as that is known', async () => {
    const scene = new Scene();
    scene.happen(LIMITS.eventRingMax + 10);
    expect((await scene.open({}, 'e0-4').rest())[0]).toEqual({ id: 'e0-10', data: { type: 'dropped', count: 6 } });
    expect((await scene.open({ queue: 'q' }, 'e0-4').rest())[0]?.data).toEqual({ type: 'dropped', count: null });
  });

  test.each(['e1-3', 'e0-', 'e0-x', 'e0-99', 'nonsense', ''])(
    'with %j, which is of another time or none, is told that nobody knows',
    async (id) => {
      const scene = new Scene();
      scene.happen(5);
      expect(await scene.open({}, id).rest()).toEqual([{ id: 'e0-5', data: { type: 'dropped', count: null } }]);
    },
  );
});
