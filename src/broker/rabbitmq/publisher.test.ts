import { EventEmitter } from 'node:events';
import { beforeEach, describe, expect, test } from 'vitest';
import { settle } from '../../../test/support/scripted-server.ts';
import { ManualClock } from '../../../test/twins/manual-clock.ts';
import { MillraceError } from '../../errors.ts';
import { LIMITS } from '../../limits.ts';
import type { ConfirmChannel } from './amqplib.ts';
import { type Parcel, type ParcelOptions, parcel } from './parcel.ts';
import { Publisher } from './publisher.ts';

/** What the broker is given, and says. */
class Channel extends EventEmitter {
  readonly sent: { exchange: string; routingKey: string; id: string }[] = [];

  publish(exchange: string, routingKey: string, _body: Buffer, { messageId }: { messageId: string }): boolean {
    this.sent.push({ exchange, routingKey, id: messageId });
    return true;
  }

  ack(deliveryTag: number): void {
    this.emit('ack', { deliveryTag, multiple: false });
  }

  nack(deliveryTag: number): void {
    this.emit('nack', { deliveryTag, multiple: false });
  }
}

const LATE = new MillraceError('TIMEOUT', 'too late');

let clock: ManualClock;
let publisher: Publisher;
let channel: Channel;
let reopened: number;
let answers: Map<string, string>;

beforeEach(() => {
  clock = new ManualClock();
  reopened = 0;
  const reopen = (): void => {
    reopened++;
  };
  publisher = new Publisher(clock, { stalled: reopen, refused: reopen, restore: async () => {} });
  answers = new Map();
  attach();
});

function attach(): void {
  channel = new Channel();
  publisher.attach(channel as unknown as ConfirmChannel);
}

async function pass(ms: number): Promise<void> {
  clock.advance(ms);
  await settle();
}

function send(id: string, options: ParcelOptions = { routingKey: 'queue' }): Parcel {
  const made = parcel(options, [Buffer.from(id)], [id], (error) => answers.set(id, error?.code ?? 'confirmed'));
  publisher.send(made);
  return made;
}

describe('what is withdrawn', () => {
  test('is settled once, and not sent over the next channel', () => {
    const withdrawn = send('a');
    send('b');
    publisher.withdraw(new Set([withdrawn]), LATE);
    expect(answers).toEqual(new Map([['a', 'TIMEOUT']]));
    channel.ack(1);
    expect(answers.get('a')).toBe('TIMEOUT');
    publisher.detach();
    attach();
    expect(channel.sent.map(({ id }) => id)).toEqual(['b']);
    channel.ack(1);
    expect(answers.get('b')).toBe('confirmed');
  });

  test('is let go of while the broker takes nothing', async () => {
    publisher.detach();
    const waiting = new Set([send('a'), send('c')]);
    send('b');
    publisher.withdraw(waiting, LATE);
    attach();
    expect(channel.sent.map(({ id }) => id)).toEqual(['b']);
    channel.ack(1);
    await publisher.drained();
  });

  test('makes room for what waits', () => {
    const first = send('first');
    for (let n = 1; n < LIMITS.amqpUnconfirmedMessagesMax; n++) send(`m${n}`);
    send('waits');
    expect(channel.sent.at(-1)?.id).not.toBe('waits');
    publisher.withdraw(new Set([first]), LATE);
    expect(channel.sent.at(-1)?.id).toBe('waits');
  });

  test('is not why a channel that confirms is taken for one that hangs', async () => {
    const silent = send('silent');
    await pass(LIMITS.amqpConfirmMs);
    publisher.withdraw(new Set([silent]), LATE);
    send('new');
    await pass(LIMITS.amqpConfirmMs);
    expect(reopened).toBe(0);
  });
});

test('a channel hangs when nothing is confirmed in time, and not when the confirm is there: the loop may have been busy', async () => {
  send('a');
  await pass(LIMITS.amqpConfirmMs);
  process.nextTick(() => channel.ack(1));
  await pass(LIMITS.amqpConfirmMs);
  expect({ reopened, answers }).toEqual({ reopened: 0, answers: new Map([['a', 'confirmed']]) });
  send('b');
  await pass(LIMITS.amqpConfirmMs);
  expect(reopened).toBe(0);
  await pass(LIMITS.amqpConfirmMs);
  expect(reopened).toBe(1);
});

describe('a refusal', () => {
  const delayed = (bits: string): ParcelOptions => ({ exchange: 'ladder', routingKey: `${bits}.queue` });

  test('of an exchange that has taken a message with another routing key is one', () => {
    send('a', delayed('0.1'));
    channel.ack(1);
    send('b', delayed('1.0'));
    channel.nack(2);
    expect(answers.get('b')).toBe('QUEUE_FULL');
    expect(reopened).toBe(0);
  });

  test('is tried over another channel again after seconds, and ever more seldom up to a minute, until something is taken', () => {
    const refuse = (id: string): void => {
      send(id);
      channel.nack(channel.sent.length);
      if (answers.has(id)) return;
      publisher.detach();
      attach();
      channel.nack(1);
      expect(answers.get(id)).toBe('QUEUE_FULL');
    };
    // Its queue has no leader yet, and none yet when the next channel meets it.
    refuse('a');
    expect(reopened).toBe(1);
    for (const [index, seconds] of [5, 10, 20, 40, 60, 60].entries()) {
      clock.advance(seconds * 1000 - 1);
      refuse(`early ${index}`);
      expect(reopened).toBe(index + 1);
      clock.advance(1);
      refuse(`late ${index}`);
      expect(reopened).toBe(index + 2);
    }
    send('taken');
    channel.ack(channel.sent.length);
    publisher.detach();
    attach();
    refuse('after');
    expect(reopened).toBe(8);
    clock.advance(5000);
    refuse('again');
    expect(reopened).toBe(9);
  });

  test('opens another channel for an exchange once, whatever the routing keys', () => {
    send('a', delayed('0.1'));
    channel.nack(1);
    expect(reopened).toBe(1);
    publisher.detach();
    attach();
    channel.nack(1);
    expect(answers.get('a')).toBe('QUEUE_FULL');
    send('b', delayed('1.0'));
    channel.nack(2);
    expect(answers.get('b')).toBe('QUEUE_FULL');
    expect(reopened).toBe(1);
  });
});
