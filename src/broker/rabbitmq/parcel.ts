import type { MillraceError } from '../../errors.ts';
import { MESSAGE_TYPE } from './message.ts';
import type { Need } from './topology.ts';

/** Messages that go the same way, and are one thing to whoever sends them. */
export interface Parcel {
  exchange: string;
  routingKey: string;
  /** When it is due, steady time; 0: at once. */
  readonly dueMs: number;
  /** The way from now on, for what had to wait before it could be sent: its delay counts already. */
  readonly reroute: (() => { readonly exchange: string; readonly routingKey: string }) | undefined;
  /** Undefined: confirmed. */
  readonly bodies: (Buffer | undefined)[];
  /** Of the messages, one for each body. */
  readonly ids: readonly string[];
  readonly type: string;
  /** A queue's name; of one that may move, whatever that is when it is sent. */
  readonly replyTo: string | { readonly name: string } | undefined;
  readonly correlationId: string | undefined;
  readonly headers: Record<string, unknown> | undefined;
  /** What has to be there before it is sent. */
  readonly needs: readonly Need[];
  /**
   * `refuse`: a nack is the caller's error. `insist`: what was taken from the broker must get back to it, so it is sent
   * until it is confirmed, or can never be. `drop`: nobody minds, and nobody knows where it goes: it is not sent again
   * after the broker closed a channel or a connection over which it was sent.
   */
  readonly care: 'refuse' | 'insist' | 'drop';
  /** Called once, when all are confirmed, or with why not. */
  readonly settled: (error: MillraceError | undefined) => void;
}

type Optional = { readonly [Name in keyof Omit<Parcel, 'bodies' | 'ids' | 'settled'>]?: Parcel[Name] | undefined };

export type ParcelOptions = Optional & { readonly routingKey: string };

export function parcel(
  options: ParcelOptions,
  bodies: Buffer[],
  ids: readonly string[],
  settled: Parcel['settled'],
): Parcel {
  return {
    exchange: options.exchange ?? '',
    routingKey: options.routingKey,
    dueMs: options.dueMs ?? 0,
    reroute: options.reroute,
    bodies,
    ids,
    type: options.type ?? MESSAGE_TYPE,
    replyTo: options.replyTo,
    correlationId: options.correlationId,
    headers: options.headers,
    needs: options.needs ?? [],
    care: options.care ?? 'refuse',
    settled,
  };
}

/** What takes a parcel's messages: a queue, or an exchange, whose routing keys may be any number. */
export function takerOf({ exchange, routingKey }: Parcel): string {
  return exchange === '' ? routingKey : exchange;
}
