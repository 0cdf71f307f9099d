import { EventEmitter } from 'node:events';
import { setImmediate as turn } from 'node:timers/promises';
import { beforeEach, expect, test } from 'vitest';
import { ManualClock } from '../../../test/twins/manual-clock.ts';
import { type ErrorCode, MillraceError } from '../../errors.ts';
import type { ChannelModel } from './amqplib.ts';
import type { Link } from './link.ts';
import { Outbound } from './outbound.ts';
import { parcel } from './parcel.ts';
import type { Need, Topology } from './topology.ts';

class Channel extends EventEmitter {
  readonly sent: string[] = [];

  publish(_exchange: string, _routingKey: string, _body: Buffer, { messageId }: { messageId: string }): boolean {
    this.sent.push(messageId);
    return true;
  }
}

class Model extends EventEmitter {
  readonly channel = new Channel();

  async createConfirmChannel(): Promise<Channel> {
    return this.channel;
  }
}

const REPLY: Need = { kind: 'reply', name: 'reply', expiresMs: 1000, move: () => {} };

let clock: ManualClock;
let model: Model;
let outbound: Outbound;
let answers: Map<string, string>;
/** What the broker says to a declaration, by name. */
let refused: Map<string, ErrorCode>;

const link = {
  ready: true,
  blockedReason: undefined,
  get model() {
    return model;
  },
  answer: (_: unknown, call: Promise<unknown>) => call,
};

beforeEach(async () => {
  clock = new ManualClock();
  answers = new Map();
  refused = new Map();
  const topology = {
    has: () => true,
    forget: () => {},
    ensure: async (needs: readonly Need[]) => {
      for (const need of needs) {
        const code = refused.get(need.kind === 'delay' ? need.queue : need.name);
        if (code !== undefined) throw new MillraceError(code, 'no');
      }
    },
  };
  outbound = new Outbound(clock, link as unknown as Link, topology as unknown as Topology, () => [REPLY]);
  await open();
  later('a');
  later('b');
  const settled = (error?: MillraceError): unknown => answers.set('now', error?.code ?? 'confirmed');
  outbound.send(parcel({ routingKey: 'a' }, [Buffer.from('now')], ['now'], settled));
  expect(model.channel.sent).toEqual(['a', 'b', 'now']);
});

async function open(): Promise<void> {
  model = new Model();
  await outbound.open(model as unknown as ChannelModel);
  await turn();
}

/** Sends a message that is to go around the ladder to that queue. */
function later(queue: string): void {
  const needs: Need[] = [
    { kind: 'queue', name: queue },
    { kind: 'delay', level: 0, queue },
  ];
  const options = { exchange: 'delay', routingKey: queue, care: 'insist', needs } as const;
  const settled = (error?: MillraceError): unknown => answers.set(queue, error?.code ?? 'confirmed');
  outbound.send(parcel(options, [Buffer.from(queue)], [queue], settled));
}

test('over a new connection everything goes out whose queues can be declared, and the rest is told why not', async () => {
  outbound.lost();
  refused.set('b', 'CONFLICT');
  await open();
  expect(model.channel.sent.toSorted()).toEqual(['a', 'now']);
  expect(answers).toEqual(new Map([['b', 'CONFLICT']]));
});

test('what the broker cannot declare for now waits for it, alone and once, also over further connections', async () => {
  outbound.lost();
  refused.set('b', 'TIMEOUT');
  await open();
  expect(model.channel.sent.toSorted()).toEqual(['a', 'now']);
  outbound.lost();
  await open();
  clock.advance(1000);
  await turn();
  expect(model.channel.sent.toSorted()).toEqual(['a', 'now']);
  refused.clear();
  clock.advance(1000);
  await turn();
  expect(model.channel.sent.toSorted()).toEqual(['a', 'b', 'now']);
  clock.advance(1000);
  await turn();
  expect(model.channel.sent).toHaveLength(3);
  expect(answers.size).toBe(0);
});

test('a reply queue that the user may not declare any more keeps nothing from being published', async () => {
  outbound.lost();
  refused.set('reply', 'UNSUPPORTED');
  await open();
  expect(model.channel.sent.toSorted()).toEqual(['a', 'b', 'now']);
});
