import { MillraceError } from '../../errors.ts';
import { type Clock, setPatientTimer } from '../../io/clock.ts';
import { LIMITS } from '../../limits.ts';
import type { ConfirmChannel, Options } from './amqplib.ts';
import { blamedBy, blameOf, type Fault, isChannelClosed, isOfAMessage, unwritable } from './channel-fault.ts';
import { CONTENT_TYPE } from './message.ts';
import { type Parcel, takerOf } from './parcel.ts';

/**
 * Publishes with confirms, over one channel at a time. A message moves
 *
 *   waiting ──window has room──▶ sent ──ack──▶ confirmed
 *      ▲                          │ │──nack──▶ refused (the queue is full), or again after a pause
 *      ├──── channel lost ────────┘ └──returned, then ack──▶ its queue is declared anew and it is sent again, twice at most
 *
 * What is sent twice has the same id. Confirmed messages give their bytes up one by one; a parcel settles with its last.
 * A channel that the broker closes because of a message takes the innocent with it: when the broker does not say which
 * one it was, what was under way is sent again one by one, and the one with which a channel ends again is settled.
 */
export interface PublisherHooks {
  /**
   * The broker has not answered for LIMITS.amqpConfirmMs: a queue whose leader was lost in that moment may have lost the
   * message, and says nothing. Another channel sends it again.
   */
  stalled(): void;
  /** This channel's messages are refused where another's may not be. Called once a message, perhaps while it closes. */
  refused(): void;
  /** Declares anew what the parcel needs: a queue or an exchange is gone. Rejects when that cannot be done. */
  restore(parcel: Parcel): Promise<void>;
}

/** A parcel with how far it has come. */
class Sending {
  readonly parcel: Parcel;
  /** The first body that this channel has not been given. */
  next = 0;
  unconfirmed: number;
  error: MillraceError | undefined;
  /** Indexes of messages that no queue took. */
  returned: Set<number> | undefined;
  returns = 0;
  /** Messages that the broker refused for good. */
  refused = 0;
  /** Channels that were lost with a message of it under way. */
  losses = 0;
  /** Goes without what another program put into its properties: that cannot be written again. */
  bare = false;
  /** The channel on which the broker refused a message of it that may do better on another. */
  refusedOn: ConfirmChannel | undefined;

  constructor(parcel: Parcel) {
    this.parcel = parcel;
    this.unconfirmed = parcel.bodies.length;
  }
}

/** A queue's refusals open another channel no more often: what is unconfirmed goes out again each time. */
const REOPEN_MS_MIN = 5000;
const REOPEN_MS_MAX = 60_000;
/** Networks may break: with more channels than that, it is the parcel. */
const DROP_LOSSES_MAX = 3;

/** amqplib takes undefined for what is absent. */
type PublishOptions = { -readonly [Name in keyof Options.Publish]: Options.Publish[Name] | undefined };

const NONE: ReadonlySet<Parcel> = new Set();
const RETURNS_MAX = 2;
const RESEND_MS = 500;

export class Publisher {
  /** Parcels nobody waited for that came to nothing. */
  dropped = 0;
  /** The broker says that it takes no messages now. */
  blocked = false;
  readonly #clock: Clock;
  readonly #hooks: PublisherHooks;
  #channel: ConfirmChannel | undefined;
  /** In the order in which they were given, until they are settled. */
  readonly #sendings = new Set<Sending>();
  /** Those with messages that this channel has not been given; settled ones among them are skipped. */
  #waiting: Sending[] = [];
  #waitingHead = 0;
  /** What delivery tag `#firstTag + i` stands for; undefined: answered. */
  #sent: (Sending | undefined)[] = [];
  #sentIndex: number[] = [];
  #firstTag = 1;
  #sentHead = 0;
  #inFlight = 0;
  #inFlightBytes = 0;
  #returnScan = 0;
  /** Queues and exchanges that have taken a message from this channel, and the one that did so last. */
  readonly #takers = new Set<string>();
  #lastTaker: string | undefined;
  /** Queues and exchanges whose refusal opened another channel: when, steady time, and how long none is opened from then on. */
  readonly #reopened = new Map<string, { readonly atMs: number; readonly pauseMs: number }>();
  /** The channel that is given up for another. */
  #leaving: ConfirmChannel | undefined;
  /** One of them is to blame for the end of a channel: until it is known which, messages go one by one. */
  readonly #suspects = new Set<Sending>();
  /** False while the channel's buffer is full. */
  #flowing = false;
  #pumping = false;
  #idle: (() => void)[] = [];
  #closed: MillraceError | undefined;
  /** Reused: amqplib copies what it needs. */
  readonly #options: PublishOptions = { persistent: true, mandatory: true, contentType: CONTENT_TYPE };

  constructor(clock: Clock, hooks: PublisherHooks) {
    this.#clock = clock;
    this.#hooks = hooks;
  }

  send(parcel: Parcel): void {
    if (this.#closed !== undefined) {
      parcel.settled(this.#closed);
      return;
    }
    const sending = new Sending(parcel);
    this.#sendings.add(sending);
    this.#waiting.push(sending);
    this.#pump();
  }

  /** A new channel in confirm mode: everything unconfirmed goes out again, in order, but for what is held until its release. */
  attach(channel: ConfirmChannel, held: ReadonlySet<Parcel> = NONE): void {
    this.#reset();
    if (held.size > 0) this.#waiting = this.#waiting.filter(({ parcel }) => !held.has(parcel));
    this.blocked = false;
    this.#channel = channel;
    this.#flowing = true;
    this.#watch(channel, 0);
    channel.on('ack', ({ deliveryTag, multiple }) => this.#answered(channel, deliveryTag, multiple, true));
    channel.on('nack', ({ deliveryTag, multiple }) => this.#answered(channel, deliveryTag, multiple, false));
    channel.on('return', ({ properties }) => this.#returned(channel, properties.messageId));
    channel.on('drain', () => {
      if (this.#channel !== channel) return;
      this.#flowing = true;
      this.#pump();
    });
    this.#pump();
  }

  /** Parcels that were held go out over this channel, if it is still there. */
  release(channel: ConfirmChannel, parcels: ReadonlySet<Parcel>): void {
    if (this.#channel !== channel) return;
    for (const sending of this.#sendings) if (parcels.has(sending.parcel)) this.#waiting.push(sending);
    this.#pump();
  }

  /** The channel is gone; `fault` when the broker closed it. */
  detach(fault?: Fault): void {
    const messages = this.#inFlight;
    const underWay = new Set(this.#sent.filter((sending) => sending !== undefined));
    this.#channel = undefined;
    this.#reset();
    for (const sending of underWay) sending.losses++;
    if (fault !== undefined) this.#blame(fault, underWay, messages);
    for (const sending of underWay) {
      if (sending.parcel.care === 'drop' && sending.losses > DROP_LOSSES_MAX) this.#fail(sending, undeliverable());
    }
  }

  /** What is not confirmed and does not go straight to a queue. */
  routed(): Parcel[] {
    return [...this.#sendings].filter(({ parcel }) => parcel.exchange !== '').map(({ parcel }) => parcel);
  }

  /** Resolves when nothing is unconfirmed. */
  drained(): Promise<void> {
    if (this.#sendings.size === 0) return Promise.resolve();
    return new Promise((resolve) => this.#idle.push(resolve));
  }

  /** Settles those of the parcels that have no answer yet with `error`, and sends them no more. */
  withdraw(parcels: ReadonlySet<Parcel>, error: MillraceError): void {
    const withdrawn = [...this.#sendings].filter((sending) => parcels.has(sending.parcel));
    if (withdrawn.length === 0) return;
    for (const sending of withdrawn) this.#fail(sending, error);
    // While the window is full nothing else lets go of them.
    this.#waiting = this.#waiting.filter((sending, at) => at >= this.#waitingHead && this.#sendings.has(sending));
    this.#waitingHead = 0;
    // Else the oldest without an answer would be one that nobody waits for, and the channel taken for one that hangs.
    this.#advance();
    this.#pump();
  }

  /** Settles everything that waits, and everything later, with `error`. */
  close(error: MillraceError): void {
    if (this.#closed !== undefined) return;
    this.#closed = error;
    this.detach();
    for (const sending of this.#sendings) {
      sending.error ??= error;
      this.#settle(sending);
    }
  }

  /** `head`: the delivery tag that was the oldest without an answer when this was looked at last. */
  #watch(channel: ConfirmChannel, head: number): void {
    setPatientTimer(this.#clock, LIMITS.amqpConfirmMs, () => {
      if (this.#channel !== channel) return;
      const oldest = this.#inFlight === 0 ? 0 : this.#firstTag + this.#sentHead;
      if (oldest !== 0 && oldest === head && !this.blocked) this.#hooks.stalled();
      else this.#watch(channel, oldest);
    }).unref();
  }

  #reset(): void {
    this.#sent = [];
    this.#sentIndex = [];
    this.#sentHead = 0;
    this.#firstTag = 1;
    this.#returnScan = 0;
    this.#takers.clear();
    this.#lastTaker = undefined;
    this.#inFlight = 0;
    this.#inFlightBytes = 0;
    this.#flowing = false;
    this.#waiting = [...this.#sendings];
    this.#waitingHead = 0;
    for (const sending of this.#waiting) {
      sending.next = 0;
      sending.returned = undefined;
    }
  }

  /** `messages`: how many had no answer when the channel ended. */
  #blame(fault: Fault, underWay: ReadonlySet<Sending>, messages: number): void {
    let known = !isOfAMessage(fault);
    const isToBlame = blamedBy(fault);
    if (!known && isToBlame !== undefined) {
      for (const sending of this.#sendings) {
        if (!isToBlame(sending.parcel)) continue;
        known = true;
        this.#fail(sending, blameOf(fault));
      }
    }
    if (known && fault.scope === 'channel') return;
    const one = messages === 1 && !known;
    if (!known && !one) this.#suspects.clear();
    for (const sending of underWay) {
      if (one) this.#fail(sending, blameOf(fault));
      else if (sending.parcel.care === 'drop') this.#fail(sending, undeliverable());
      else if (!known) this.#suspects.add(sending);
    }
  }

  #pump(): void {
    if (this.#pumping) return;
    this.#pumping = true;
    while (this.#flowing && this.#waitingHead < this.#waiting.length) {
      const sending = this.#waiting[this.#waitingHead] as Sending;
      if (!this.#transmit(sending)) break;
      this.#waitingHead++;
      if (this.#waitingHead < 1024 && this.#waitingHead < this.#waiting.length) continue;
      this.#waiting.splice(0, this.#waitingHead);
      this.#waitingHead = 0;
    }
    this.#pumping = false;
  }

  /** False when the window, or the channel's buffer, is full before its end. */
  #transmit(sending: Sending): boolean {
    const { bodies } = sending.parcel;
    const options = this.#optionsFor(sending);
    for (let index = sending.next; index < bodies.length; index++) {
      const body = bodies[index];
      if (body === undefined) continue;
      if (!this.#flowing || !this.#hasRoom(body.length)) {
        sending.next = index;
        return false;
      }
      this.#publish(sending, index, body, options);
      // The channel failed while it was written to.
      if (this.#channel === undefined) return false;
      // It could not be written, and is settled.
      if (sending.next === bodies.length) return true;
    }
    sending.next = bodies.length;
    return true;
  }

  #publish(sending: Sending, index: number, body: Buffer, options: PublishOptions): void {
    const { exchange, routingKey } = sending.parcel;
    options.messageId = messageIdOf(sending, index);
    this.#sent.push(sending);
    this.#sentIndex.push(index);
    this.#inFlight++;
    this.#inFlightBytes += body.length;
    try {
      this.#flowing = (this.#channel as ConfirmChannel).publish(exchange, routingKey, body, options as Options.Publish);
    } catch (error) {
      // Closed in this turn: its owner attaches the next, and everything goes out again.
      if (isChannelClosed(error)) this.detach();
      else this.#unwritable(sending, index, error);
    }
  }

  /** The last that was given to the channel is not on its way: amqplib writes a message only when it could encode all of it. */
  #unwritable(sending: Sending, index: number, error: unknown): void {
    const body = sending.parcel.bodies[index] as Buffer;
    this.#sent.pop();
    this.#sentIndex.pop();
    this.#inFlight--;
    this.#inFlightBytes -= body.length;
    if (sending.bare || sending.parcel.care !== 'insist') {
      this.#fail(sending, unwritable(error));
      return;
    }
    sending.bare = true;
    this.#publish(sending, index, body, this.#optionsFor(sending));
  }

  #hasRoom(bytes: number): boolean {
    if (this.#inFlight >= LIMITS.amqpUnconfirmedMessagesMax) return false;
    if (this.#suspects.size > 0) return this.#inFlight === 0;
    return this.#inFlight === 0 || this.#inFlightBytes + bytes <= LIMITS.amqpUnconfirmedBytesMax;
  }

  #optionsFor({ parcel, bare }: Sending): PublishOptions {
    const options = this.#options;
    options.type = bare ? shortText(parcel.type) : parcel.type;
    const { replyTo } = parcel;
    options.replyTo = typeof replyTo === 'object' ? replyTo.name : bare ? shortText(replyTo) : replyTo;
    options.correlationId = bare ? shortText(parcel.correlationId) : parcel.correlationId;
    options.headers = bare ? headersOfOurs(parcel.headers) : parcel.headers;
    return options;
  }

  #answered(channel: ConfirmChannel, tag: number, multiple: boolean, taken: boolean): void {
    if (this.#channel !== channel) return;
    const last = tag - this.#firstTag;
    const first = multiple ? this.#sentHead : last;
    for (let at = first; at <= last; at++) {
      const sending = this.#sent[at];
      if (sending === undefined) continue;
      this.#sent[at] = undefined;
      this.#answer(sending, this.#sentIndex[at] as number, taken);
    }
    this.#advance();
    this.#pump();
  }

  /** What was answered, or is not waited for any more, leaves from the front. */
  #advance(): void {
    while (this.#sentHead < this.#sent.length && this.#sent[this.#sentHead] === undefined) this.#sentHead++;
    if (this.#sentHead < LIMITS.amqpUnconfirmedMessagesMax && this.#sentHead < this.#sent.length) return;
    this.#sent.splice(0, this.#sentHead);
    this.#sentIndex.splice(0, this.#sentHead);
    this.#firstTag += this.#sentHead;
    this.#returnScan = 0;
    this.#sentHead = 0;
  }

  #answer(sending: Sending, index: number, taken: boolean): void {
    const { bodies, care } = sending.parcel;
    const body = bodies[index] as Buffer;
    this.#inFlight--;
    this.#inFlightBytes -= body.length;
    if (taken && sending.returned?.delete(index) === true) {
      this.#unroutable(sending);
      return;
    }
    if (taken && care !== 'drop') this.#took(sending.parcel);
    // Messages go one by one: all of it that came before has its answer.
    if (this.#suspects.size > 0 && sending.next >= bodies.length) this.#suspects.delete(sending);
    if (!taken && this.#mayDoBetter(sending)) return;
    if (!taken && care === 'insist') {
      this.#again(sending, RESEND_MS);
      return;
    }
    if (!taken) sending.refused++;
    bodies[index] = undefined;
    if (--sending.unconfirmed === 0) this.#settle(sending);
  }

  #took(parcel: Parcel): void {
    const taker = takerOf(parcel);
    if (taker === this.#lastTaker) return;
    this.#takers.add(taker);
    this.#lastTaker = taker;
    this.#reopened.delete(taker);
  }

  /**
   * A channel that first meets a quorum queue while that has no leader is refused there for as long as it lives: the broker
   * tries no second time to announce it. So what a queue refuses that has taken nothing from this channel is sent once more
   * from another, which may meet it too soon as well: then after a pause that doubles. A queue that is full refuses too, and
   * everything unconfirmed goes out again over another channel: so never for a parcel that nobody minds, and seldom for a
   * queue that goes on refusing.
   */
  #mayDoBetter(sending: Sending): boolean {
    const channel = this.#channel;
    const { care } = sending.parcel;
    const taker = takerOf(sending.parcel);
    if (channel === undefined || care === 'drop' || this.#takers.has(taker)) return false;
    if (sending.refusedOn === channel) return true;
    if (sending.refusedOn !== undefined && care !== 'insist') return false;
    if (this.#leaving !== channel && !this.#mayLeave(taker)) return false;
    sending.refusedOn = channel;
    if (this.#leaving === channel) return true;
    this.#leaving = channel;
    this.#hooks.refused();
    return true;
  }

  #mayLeave(taker: string): boolean {
    const nowMs = this.#clock.steadyMs();
    for (const [each, { atMs }] of this.#reopened) if (nowMs - atMs > 2 * REOPEN_MS_MAX) this.#reopened.delete(each);
    const last = this.#reopened.get(taker);
    if (last !== undefined && nowMs - last.atMs < last.pauseMs) return false;
    const pauseMs = last === undefined ? REOPEN_MS_MIN : Math.min(last.pauseMs * 2, REOPEN_MS_MAX);
    this.#reopened.set(taker, { atMs: nowMs, pauseMs });
    return true;
  }

  /** The broker says so before it confirms. */
  #returned(channel: ConfirmChannel, messageId: unknown): void {
    if (this.#channel !== channel) return;
    // They come in the order in which they were sent: the next is right behind the last.
    for (let step = 0; step < this.#sent.length; step++) {
      const at = (this.#returnScan + step) % this.#sent.length;
      const sending = this.#sent[at];
      const index = this.#sentIndex[at] as number;
      if (sending === undefined || messageIdOf(sending, index) !== messageId || sending.returned?.has(index)) continue;
      sending.returned ??= new Set();
      sending.returned.add(index);
      this.#returnScan = at + 1;
      return;
    }
  }

  /** No queue took a message of the parcel: somebody deleted it. */
  #unroutable(sending: Sending): void {
    const { parcel } = sending;
    if (parcel.care === 'drop') {
      this.#fail(sending, unroutable(parcel.routingKey));
      return;
    }
    // One declaration for all that came back at the same time.
    if ((sending.returned?.size ?? 0) > 0) return;
    if (parcel.care === 'refuse' && ++sending.returns > RETURNS_MAX) {
      this.#fail(sending, unroutable(parcel.routingKey));
      return;
    }
    this.#hooks.restore(parcel).then(
      () => this.#again(sending, sending.returns === 1 ? 0 : RESEND_MS),
      (error: unknown) => {
        if (parcel.care === 'insist') this.#again(sending, RESEND_MS);
        else this.#fail(sending, error instanceof MillraceError ? error : unroutable(parcel.routingKey));
      },
    );
  }

  #again(sending: Sending, delayMs: number): void {
    // A suspect that goes alone is alone.
    const pauseMs = this.#suspects.size > 0 ? Math.max(delayMs, RESEND_MS) : delayMs;
    if (pauseMs > 0) {
      this.#clock.setTimer(pauseMs, () => this.#again(sending, 0)).unref();
      return;
    }
    if (this.#sendings.has(sending)) this.#resend(sending);
  }

  /** Sends what was sent, and is neither confirmed nor on its way. The few that this happens to do not wait for the window. */
  #resend(sending: Sending): void {
    const underWay = new Set<number>();
    for (let at = this.#sentHead; at < this.#sent.length; at++) {
      if (this.#sent[at] === sending) underWay.add(this.#sentIndex[at] as number);
    }
    const { bodies } = sending.parcel;
    if (this.#channel === undefined) return;
    const options = this.#optionsFor(sending);
    for (let index = 0; index < sending.next; index++) {
      const body = bodies[index];
      if (body === undefined || underWay.has(index) || sending.returned?.has(index)) continue;
      this.#publish(sending, index, body, options);
      if (this.#channel === undefined || !this.#sendings.has(sending)) return;
    }
    this.#pump();
  }

  #fail(sending: Sending, error: MillraceError): void {
    sending.error ??= error;
    this.#settle(sending);
  }

  #settle(sending: Sending): void {
    if (!this.#sendings.delete(sending)) return;
    this.#suspects.delete(sending);
    if (sending.refused > 0) sending.error ??= refusal(sending);
    if (sending.error !== undefined && sending.parcel.care === 'drop') this.dropped++;
    // A message of it may still be on its way: its answer finds no parcel.
    if (sending.unconfirmed > 0) this.#forget(sending);
    sending.parcel.settled(sending.error);
    if (this.#sendings.size > 0) return;
    for (const resolve of this.#idle.splice(0)) resolve();
  }

  #forget(sending: Sending): void {
    for (let at = this.#sentHead; at < this.#sent.length; at++) {
      if (this.#sent[at] !== sending) continue;
      this.#sent[at] = undefined;
      this.#inFlight--;
      this.#inFlightBytes -= sending.parcel.bodies[this.#sentIndex[at] as number]?.length ?? 0;
    }
    sending.next = sending.parcel.bodies.length;
  }
}

const TEXT_BYTES_MAX = 255;

function shortText(text: string | undefined): string | undefined {
  return text === undefined || Buffer.byteLength(text) > TEXT_BYTES_MAX ? undefined : text;
}

function messageIdOf({ parcel, bare }: Sending, index: number): string | undefined {
  return bare ? shortText(parcel.ids[index]) : parcel.ids[index];
}

function headersOfOurs(headers: Parcel['headers']): Parcel['headers'] {
  if (headers === undefined) return undefined;
  return Object.fromEntries(Object.entries(headers).filter(([name]) => name.startsWith('millrace-')));
}

function refusal({ parcel, refused }: Sending): MillraceError {
  const queue = parcel.routingKey;
  const total = parcel.bodies.length;
  const confirmed = total - refused;
  const what = total === 1 ? 'a message' : `${refused} of ${total} messages`;
  const rest = total === 1 ? 'it was not enqueued' : `${confirmed} were confirmed and are enqueued`;
  const message = `the broker refused ${what} for ${queue} (basic.nack): the queue is at its length limit, or has no quorum; ${rest}`;
  return new MillraceError('QUEUE_FULL', message, { details: { queue, refused, confirmed } });
}

function undeliverable(): MillraceError {
  return new MillraceError('DISCONNECTED', 'the connection was lost with it under way, and it is not sent again');
}

function unroutable(queue: string): MillraceError {
  const message = `the broker returned a message for ${queue}: the queue was deleted and could not be declared again`;
  return new MillraceError('NOT_FOUND', message, { details: { queue } });
}
