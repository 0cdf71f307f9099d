import { expect, it } from 'vitest';
import { EngineBench } from '../../test/model/engine-bench.ts';
import type { EventSink } from '../engine/events.ts';
import { LIMITS } from '../limits.ts';
import { Watches } from './watches.ts';

interface Told {
  type: string;
  count?: number;
  number?: number;
}

/** A link whose room and disk the test rules; `push` is what the engine would call. */
async function open(): Promise<{
  told: Told[];
  link: { roomBytes: number; durable: number };
  push: (event: Told, sequence: number) => void;
  watches: Watches;
}> {
  const { events } = (await EngineBench.open({ directory: null })).engine;
  let pushed: EventSink | undefined;
  const told: Told[] = [];
  const link = { roomBytes: LIMITS.sendBufferBytesMax, durable: 0 };
  const add = events.add.bind(events);
  events.add = (filter, sink) => {
    pushed = sink;
    add(filter, sink);
  };
  const watches = new Watches(events, {
    roomBytes: () => link.roomBytes,
    durableSequence: () => link.durable,
    send: (_, texts) => told.push(...texts.map((text) => JSON.parse(text) as Told)),
    waiting: () => {},
  });
  watches.add(1, {});
  return { told, link, watches, push: (event, sequence) => pushed?.push(JSON.stringify(event), sequence, 1) };
}

it('tells what is journaled when it is durable, and what comes after it no sooner', async () => {
  const { told, link, watches, push } = await open();
  push({ type: 'enqueued' }, 7);
  push({ type: 'started' }, 0);
  watches.send();
  expect(told).toEqual([]);
  expect(watches.isOwing).toBe(true);
  link.durable = 7;
  watches.send();
  expect(told.map(({ type }) => type)).toEqual(['enqueued', 'started']);
  expect(watches.isOwing).toBe(false);
});

it('keeps so much for a reader that does not read, and then says exactly how much it missed, where it is missing', async () => {
  const { told, link, watches, push } = await open();
  link.roomBytes = 0;
  const count = 100_000;
  for (let number = 0; number < count; number++) push({ type: 'started', number }, 0);
  watches.send();
  expect(told).toEqual([]);
  // Nobody waits for a reader.
  expect(watches.isOwing).toBe(false);
  link.roomBytes = LIMITS.sendBufferBytesMax;
  watches.send();
  const kept = told.length - 1;
  expect(told.slice(0, kept).map(({ number }) => number)).toEqual(Array.from({ length: kept }, (_, i) => i));
  expect(told.at(-1)).toEqual({ type: 'dropped', count: count - kept });
  push({ type: 'started', number: count }, 0);
  watches.send();
  expect(told.at(-1)).toEqual({ type: 'started', number: count });
});
