import type * as amqplib from 'amqplib';
import { MillraceError } from '../../errors.ts';

export type { Channel, ChannelModel, ConfirmChannel, ConsumeMessage, Options } from 'amqplib';

/** Loaded when it is first needed: who does not use RabbitMQ need not install it. Rejects with UNSUPPORTED. */
export async function loadAmqplib(): Promise<typeof amqplib> {
  try {
    return await import('amqplib');
  } catch (cause) {
    throw new MillraceError('UNSUPPORTED', 'amqp: URLs need the package amqplib: npm install amqplib', { cause });
  }
}
