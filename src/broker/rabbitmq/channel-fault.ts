import { MillraceError } from '../../errors.ts';
import type { Parcel } from './parcel.ts';
import { refusalOf } from './topology.ts';

/**
 * Why the broker closed the channel that publishes, or its connection, in its own words. A network that broke, a broker
 * that stops and a channel that we close are no faults: what was under way is sent again.
 */
export interface Fault {
  readonly scope: 'channel' | 'connection';
  /** AMQP's reply code. */
  readonly code: number;
  readonly message: string;
}

const CONNECTION_FORCED = 320;

/** Undefined for errors that are not the broker's. */
export function faultOf(scope: Fault['scope'], error: unknown): Fault | undefined {
  const { code, message } = error as { code?: unknown; message?: unknown };
  if (typeof code !== 'number' || code === CONNECTION_FORCED) return undefined;
  return { scope, code, message: String(message) };
}

/** Whether the broker closed it because of one of our messages, so that sending all of them again would end the same. */
export function isOfAMessage({ scope, code }: Fault): boolean {
  // An exchange that is gone (404) is declared again before anything is sent.
  return scope === 'channel' && code !== 404;
}

const REFUSED_EXCHANGE = /access to exchange '([^']*)'/;
const TOO_LARGE = /larger than configured max size (\d+)/;

/** Which parcels the broker's words are about; undefined when they do not say. */
export function blamedBy({ code, message }: Fault): ((parcel: Parcel) => boolean) | undefined {
  const exchange = REFUSED_EXCHANGE.exec(message)?.[1];
  if (code === 403 && exchange !== undefined) {
    const refused = exchange === 'amq.default' ? '' : exchange;
    return (parcel) => parcel.exchange === refused;
  }
  const bytesMax = Number(TOO_LARGE.exec(message)?.[1] ?? Number.NaN);
  if (Number.isNaN(bytesMax)) return undefined;
  return ({ bodies }) => bodies.some((body) => body !== undefined && body.length > bytesMax);
}

/** What becomes of a parcel that is to blame. */
export function blameOf(fault: Fault): MillraceError {
  const { code, message } = fault;
  if (code === 403) return refusalOf(fault);
  const details = { replyCode: code };
  if (TOO_LARGE.test(message)) {
    const text = `the broker takes no message as large as this one: ${message}. Raise max_message_size in rabbitmq.conf, or store large data elsewhere and send where it is`;
    return new MillraceError('PAYLOAD_TOO_LARGE', text, { details });
  }
  const text = `the broker closed the channel because of this message, which is not sent again: ${message}`;
  return new MillraceError('INVALID_ARGUMENT', text, { details });
}

/** Whether amqplib throws because its channel is closed, and not because of what it was given. */
export function isChannelClosed(error: unknown): boolean {
  return error instanceof Error && error.name === 'IllegalOperationError';
}

/** For what amqplib cannot write. */
export function unwritable(error: unknown): MillraceError {
  const reason = error instanceof Error ? error.message : String(error);
  const message = `the message cannot be written as AMQP: ${reason}. Names and ids may have 255 bytes, and all headers together 64 KiB`;
  return new MillraceError(error instanceof RangeError ? 'PAYLOAD_TOO_LARGE' : 'INVALID_ARGUMENT', message, {
    cause: error,
  });
}
