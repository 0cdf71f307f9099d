import type { Duplex } from 'node:stream';
import { MillraceError } from '../../errors.ts';
import { type Clock, setPatientTimer, settlesWithin, type Timer } from '../../io/clock.ts';
import type { Random } from '../../io/random.ts';
import { readTls, type TlsOptions, tlsReason } from '../../io/tls.ts';
import { LIMITS } from '../../limits.ts';
import { type ReconnectOptions, reconnectDelay } from '../tcp/connection.ts';
import type { Address } from './address.ts';
import { type ChannelModel, loadAmqplib } from './amqplib.ts';

/**
 * One supervised connection to a broker.
 *
 *   idle ──start()──▶ connecting ──opened──▶ ready
 *                      ▲      │                │ closed, or heartbeats missed
 *            delay over│      │ failed         ▼
 *                      └── waiting ◀───────────┘
 *   any ──close(), the time to give up, or a refusal of the first connection──▶ closed
 *
 * A link does not know what runs over it: its owner opens channels when it is `ready`, all of which are gone when it is
 * `lost`. A broker that refuses the user or the virtual host ends the first attempt at once; later it may be on its way up,
 * so that is waited for like anything else.
 */
type State = 'idle' | 'connecting' | 'ready' | 'waiting' | 'closed';

/** What links need of the world, the same for all of a client. */
export interface Dialing {
  readonly address: Address;
  /** With `amqps:`. */
  readonly tls: TlsOptions;
  readonly clock: Clock;
  readonly random: Random;
  readonly reconnect: ReconnectOptions;
  readonly connectTimeoutMs: number;
  /** Shown in the broker's list of connections. */
  readonly clientName: string;
}

export interface LinkOwner {
  ready(model: ChannelModel): void;
  /** `ready` or `ended` follows. */
  lost(reason: string): void;
  /** The broker takes no messages for now (memory or disk are short), and why; undefined: it does again. */
  blocked(reason: string | undefined): void;
  /** There will be no connection any more. Called once, unless `close` was. */
  ended(error: MillraceError): void;
}

/** A connection that held this long was no accident: the next loss starts again with the shortest delay. */
const STABLE_MS = 5000;
const KEEP_ALIVE_MS = 2000;

export class Link {
  readonly #dialing: Dialing;
  readonly #owner: LinkOwner;
  #state: State = 'idle';
  #model: ChannelModel | undefined;
  #timer: Timer | undefined;
  #attempts = 0;
  #attempt = 0;
  #downSinceMs = 0;
  #readySinceMs = 0;
  #everReady = false;
  #lastReason = 'it was not tried';
  /** Why the broker takes nothing now. */
  blockedReason: string | undefined;

  constructor(dialing: Dialing, owner: LinkOwner) {
    this.#dialing = dialing;
    this.#owner = owner;
  }

  get ready(): boolean {
    return this.#state === 'ready';
  }

  get closed(): boolean {
    return this.#state === 'closed';
  }

  /** How long whoever wants something of the broker for the first time waits for it. */
  get connectTimeoutMs(): number {
    return this.#dialing.connectTimeoutMs;
  }

  /** Only while ready. */
  get model(): ChannelModel | undefined {
    return this.#model;
  }

  /** Why there is no connection, for messages. */
  get lastReason(): string {
    return this.#lastReason;
  }

  start(): void {
    this.#downSinceMs = this.#dialing.clock.steadyMs();
    void this.#connect();
  }

  /** Gives the connection up and tries anew, after the usual delay. */
  reconnect(reason: string): void {
    const model = this.#model;
    this.#failed(reason);
    if (model !== undefined) destroy(model);
  }

  /**
   * What the broker answers to a call over this connection. One that says nothing for `timeoutMs` is given up, though its
   * heartbeats may go on: after a node was lost, a channel of another can hang for good. Rejects with TIMEOUT then.
   */
  async answer<T>(model: ChannelModel, call: Promise<T>, timeoutMs: number): Promise<T> {
    while (!(await settlesWithin(this.#dialing.clock, timeoutMs, call))) {
      // A broker that takes no messages reads nothing else either.
      if (this.#model === model && this.blockedReason !== undefined) continue;
      const reason = `the broker did not answer within ${timeoutMs} ms`;
      if (this.#model === model) this.reconnect(reason);
      throw new MillraceError('TIMEOUT', reason, { details: { timeoutMs } });
    }
    return call;
  }

  /** Sends what is written, then closes. Always resolves, within LIMITS.amqpCloseTimeoutMs; the owner is not called any more. */
  async close(): Promise<void> {
    if (this.#state === 'closed') return;
    this.#state = 'closed';
    this.#timer?.cancel();
    const model = this.#model;
    this.#model = undefined;
    if (model === undefined) return;
    // A broker that is gone never answers the close.
    await settlesWithin(this.#dialing.clock, LIMITS.amqpCloseTimeoutMs, closeModel(model));
    destroy(model);
  }

  async #connect(): Promise<void> {
    const { clock, connectTimeoutMs } = this.#dialing;
    const attempt = ++this.#attempt;
    const isCurrent = (): boolean => this.#attempt === attempt && this.#state === 'connecting';
    this.#state = 'connecting';
    const spentMs = clock.steadyMs() - this.#downSinceMs;
    const timeoutMs = this.#everReady ? connectTimeoutMs : Math.max(connectTimeoutMs - spentMs, 1);
    this.#timer = setPatientTimer(clock, timeoutMs, () => {
      if (isCurrent()) this.#failed(`no answer within ${Math.round(timeoutMs)} ms`);
    });
    try {
      const model = await this.#dial(timeoutMs);
      // Whatever comes too late is closed; its errors are nobody's any more.
      model.on('error', () => {});
      if (isCurrent()) this.#opened(model);
      else destroy(model);
    } catch (error) {
      if (isCurrent()) this.#refused(error);
    }
  }

  async #dial(timeoutMs: number): Promise<ChannelModel> {
    const { address, tls, clientName } = this.#dialing;
    const { connect } = await loadAmqplib();
    const security = address.protocol === 'amqps' ? await readTls(overriding(address.tls, tls)) : {};
    const { protocol, hostname, port, username, password, vhost, heartbeat } = address;
    return connect(
      { protocol, hostname, port, username, password, vhost: encodeURIComponent(vhost), heartbeat },
      {
        ...security,
        noDelay: true,
        keepAlive: true,
        keepAliveDelay: KEEP_ALIVE_MS,
        timeout: Math.ceil(timeoutMs),
        clientProperties: { connection_name: clientName },
      },
    );
  }

  #opened(model: ChannelModel): void {
    this.#timer?.cancel();
    this.#state = 'ready';
    this.#everReady = true;
    this.#model = model;
    this.blockedReason = undefined;
    this.#readySinceMs = this.#dialing.clock.steadyMs();
    let reason = 'the broker closed the connection';
    model.on('error', (error) => {
      reason = reasonOf(error);
    });
    model.on('close', (error) => {
      if (this.#model === model) this.#failed(error === undefined ? reason : reasonOf(error));
    });
    model.on('blocked', (why) => this.#blocked(model, why === '' ? 'it does not say why' : why));
    model.on('unblocked', () => this.#blocked(model, undefined));
    this.#owner.ready(model);
  }

  #blocked(model: ChannelModel, reason: string | undefined): void {
    if (this.#model !== model) return;
    this.blockedReason = reason;
    this.#owner.blocked(reason);
  }

  #refused(error: unknown): void {
    if (error instanceof MillraceError) {
      this.#end(error);
      return;
    }
    const tls = error instanceof Error ? tlsReason(error) : undefined;
    if (!this.#everReady && tls !== undefined) {
      this.#end(new MillraceError(tls.code, `${this.#dialing.address.shown} ${tls.message}`, { cause: error }));
      return;
    }
    const reason = reasonOf(error);
    if (!this.#everReady && isRefusal(reason)) this.#end(this.#disconnected(reason));
    else this.#failed(reason);
  }

  #failed(reason: string): void {
    if (this.#state === 'closed') return;
    const { clock, random, reconnect, connectTimeoutMs } = this.#dialing;
    const nowMs = clock.steadyMs();
    this.#timer?.cancel();
    this.#lastReason = reason;
    this.#model = undefined;
    if (this.#state === 'ready') {
      this.#downSinceMs = nowMs;
      if (nowMs - this.#readySinceMs > STABLE_MS) this.#attempts = 0;
      this.#state = 'waiting';
      this.#owner.lost(reason);
      if ((this.#state as State) === 'closed') return;
    }
    this.#state = 'waiting';
    const delayMs = reconnectDelay(reconnect, this.#attempts++, random.float());
    const limitMs = this.#everReady ? reconnect.giveUpAfterMs : connectTimeoutMs;
    if (nowMs + delayMs - this.#downSinceMs >= limitMs) {
      this.#end(this.#disconnected(reason));
      return;
    }
    this.#timer = clock.setTimer(delayMs, () => void this.#connect());
  }

  #end(error: MillraceError): void {
    this.#state = 'closed';
    this.#timer?.cancel();
    this.#owner.ended(error);
  }

  #disconnected(reason: string): MillraceError {
    const { address } = this.#dialing;
    const message = `no connection to ${address.shown}: ${reason}${hintOf(reason, address)}`;
    return new MillraceError('DISCONNECTED', message, { details: { url: address.shown, reason } });
  }
}

/** What the option says goes before what the URL says. */
function overriding(url: TlsOptions, option: TlsOptions): TlsOptions {
  return { ...url, ...Object.fromEntries(Object.entries(option).filter(([, value]) => value !== undefined)) };
}

/** Never the password: amqplib's errors do not hold it, and neither do ours. */
function reasonOf(error: unknown): string {
  if (error instanceof AggregateError && error.errors.length > 0) return reasonOf(error.errors[0]);
  if (error instanceof Error && error.message !== '') return error.message;
  return String((error as { code?: unknown } | null)?.code ?? error);
}

const WRONG_USER = /ACCESS[-_]REFUSED/;
/** amqplib does not say why the broker closes a connection that asks for a virtual host. */
const WRONG_VHOST = /NOT[-_]ALLOWED|ConnectionOpenOk; got <ConnectionClose/;

/** What stays the same however often one tries. */
function isRefusal(reason: string): boolean {
  return WRONG_USER.test(reason) || WRONG_VHOST.test(reason) || /SASL mechanism/.test(reason);
}

function hintOf(reason: string, { username, vhost }: Address): string {
  if (WRONG_USER.test(reason)) return ` (check the user ${JSON.stringify(username)} and its password)`;
  if (WRONG_VHOST.test(reason)) {
    return ` (check that the virtual host ${JSON.stringify(vhost)} exists and that ${JSON.stringify(username)} may use it)`;
  }
  return '';
}

async function closeModel(model: ChannelModel): Promise<void> {
  try {
    await model.close();
  } catch {
    // It was closed by the other side meanwhile, which is what was wanted.
  }
}

/** amqplib leaves the socket of a broker that does not answer open; its connection has the stream. */
function destroy(model: ChannelModel): void {
  const { stream } = model.connection as unknown as { stream?: Duplex };
  // Without an error it would not notice, and what waits for an answer would wait for ever.
  stream?.destroy(new Error('the connection was given up'));
}
