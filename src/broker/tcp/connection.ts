import { type ErrorCode, errorFromJSON, MillraceError, shown, shownValue } from '../../errors.ts';
import { type Clock, setPatientTimer, type Timer } from '../../io/clock.ts';
import type { Link } from '../../io/net.ts';
import type { Random } from '../../io/random.ts';
import { LIMITS } from '../../limits.ts';
import { FRAME, FrameReader, frameName, PROTOCOL_VERSION, readJson } from '../../protocol/frames.ts';
import { FrameWriter } from '../../protocol/writer.ts';

/**
 * One supervised connection to a server.
 *
 *   idle ──start()──▶ connecting ──WELCOME──▶ ready
 *                      ▲      │                 │ link closed
 *            delay over│      │ failed          ▼
 *                      └── waiting ◀────────────┘
 *   any ──close(), the time to give up, or what another try cannot change──▶ closed
 *
 * The connection moves itself between connecting, ready and waiting; only its owner starts and closes it. What was in
 * flight when a link closed is unknown: `ready` tells the owner to send again what was not answered. A server that is
 * stopping (GOAWAY) leaves the connection ready but `draining`: answers still come, new work waits for the next `ready`.
 * A slow server is never cut off. A dead one is noticed by TCP keepalive, or, when that cannot work because bytes are on
 * their way, by its silence.
 */
type State = 'idle' | 'connecting' | 'ready' | 'waiting' | 'closed';

export interface ReconnectOptions {
  readonly initialDelayMs: number;
  readonly factor: number;
  readonly maxDelayMs: number;
  /** The share of a delay, 0 to 1, that is drawn at random. */
  readonly jitter: number;
  /** After this long without a connection it ends with DISCONNECTED. Infinity: never. */
  readonly giveUpAfterMs: number;
}

/** Who connects: the same for all connections of a client. */
export interface Identity {
  readonly client: string;
  readonly host: string;
  readonly pid: number;
  /** Of this library. */
  readonly version: string;
  /** 32 hex digits; one for the life of a client. */
  readonly producer: string;
}

/** How a connection reaches its server and what it needs of the world. */
export interface Dialing {
  /** For messages. */
  readonly url: string;
  /** `signal`: nobody wants the link any more. */
  readonly dial: (signal: AbortSignal) => Promise<Link>;
  /** Whether workers need a second connection to notice that a host is cut off. */
  readonly lifelines: boolean;
  readonly clock: Clock;
  readonly random: Random;
  readonly reconnect: ReconnectOptions;
  /** How long the first connection may take, attempts and pauses together. */
  readonly connectTimeoutMs: number;
  readonly identity: Identity;
  /** Proves to the server who connects. */
  readonly token?: string | undefined;
  /** Why there will never be a server again, once that is so: the connection ends with it. */
  readonly serverFailure?: () => MillraceError | undefined;
}

/** What a connection calls on its owner. */
export interface ConnectionOwner {
  /** Connected, for the first time or again: send whatever is due. */
  ready(): void;
  /** A frame that is not the connection's own business. The body is lent for the call. */
  frame(type: number, requestId: number, buffer: Buffer, start: number, end: number): void;
  /** The server has read what was behind: nothing is unsent any more. */
  drained?(): void;
  /** The link is gone; `ready` or `ended` follows. */
  lost(): void;
  /** There will be no connection any more. Called once, unless `close` was. */
  ended(error: MillraceError): void;
}

/** A connection that held this long was no accident: the next loss starts again with the shortest delay. */
const STABLE_MS = 5000;
const PING_INTERVAL_MS = 15_000;
/** So many intervals without a byte from a server that is asked for one: nobody is there. */
const SILENT_INTERVALS_MAX = 3;

/** It is sent back in a HELLO, beside who we are. */
const LIFELINE_KEY_CHARACTERS_MAX = 200;

/** Refusals that stay the same however often one tries. */
const FATAL: ReadonlySet<ErrorCode> = new Set(['PROTOCOL', 'PROTOCOL_VERSION', 'INVALID_ARGUMENT', 'UNAUTHENTICATED']);

export function isFatal(error: MillraceError): boolean {
  return FATAL.has(error.code);
}

export class Connection {
  readonly #dialing: Dialing;
  readonly #owner: ConnectionOwner;
  #state: State = 'idle';
  #link: Link | undefined;
  #writer: FrameWriter | undefined;
  /** The last one, which may have led to a link. */
  #attempt: AbortController | undefined;
  #timer: Timer | undefined;
  #pinger: Timer | undefined;
  #requestId = 0;
  #attempts = 0;
  #downSinceMs = 0;
  #readySinceMs = 0;
  #lastError: Error | undefined;
  #everReady = false;
  #draining = false;
  #heardSincePing = false;
  #pingSentMs = 0;
  #silentIntervals = 0;
  /** Names this connection to its lifeline. */
  lifelineKey = '';
  /** Time between the last PING and its answer; NaN before the first. */
  roundTripMs = Number.NaN;

  constructor(dialing: Dialing, owner: ConnectionOwner) {
    this.#dialing = dialing;
    this.#owner = owner;
  }

  get ready(): boolean {
    return this.#state === 'ready';
  }

  /** Whether new work may be sent: ready, and the server is not stopping. */
  get open(): boolean {
    return this.#state === 'ready' && !this.#draining;
  }

  /** Only while ready. What is written travels at the end of the turn. */
  get writer(): FrameWriter {
    return this.#writer as FrameWriter;
  }

  get unsentBytes(): number {
    return this.#link?.bufferedBytes ?? 0;
  }

  /** Sends whole frames that the caller keeps; `written` is called once, also when the link closes. Only while ready. */
  send(frames: Uint8Array, written: () => void): void {
    this.#writer?.flush();
    (this.#link as Link).write(frames, written);
  }

  nextRequestId(): number {
    this.#requestId = this.#requestId === 0xffffffff ? 1 : this.#requestId + 1;
    return this.#requestId;
  }

  start(): void {
    this.#downSinceMs = this.#dialing.clock.steadyMs();
    this.#connect();
  }

  /** Gives this link up and tries anew, after the usual delay. */
  reconnect(reason: MillraceError): void {
    this.#failed(reason);
  }

  /** Sends what is written, then closes; the owner is not called any more. */
  close(): void {
    if (this.#state === 'closed') return;
    this.#stop();
    this.#writer?.flush();
    this.#link?.end();
  }

  #stop(): void {
    this.#state = 'closed';
    this.#attempt?.abort();
    this.#timer?.cancel();
    this.#pinger?.cancel();
  }

  #connect(): void {
    const { clock, dial } = this.#dialing;
    const attempt = new AbortController();
    const isCurrent = (): boolean => this.#attempt === attempt && this.#state === 'connecting';
    this.#attempt = attempt;
    this.#state = 'connecting';
    this.#timer = setPatientTimer(clock, LIMITS.handshakeTimeoutMs, () => {
      this.#failed(new MillraceError('TIMEOUT', `no answer within ${LIMITS.handshakeTimeoutMs} ms`));
    });
    dial(attempt.signal).then(
      (link) => {
        if (isCurrent()) this.#greet(link);
        else link.destroy();
      },
      (error: unknown) => {
        if (isCurrent()) this.#notReached(asError(error));
      },
    );
  }

  /** What is set up wrongly is told at once; later, somebody may be mending it. */
  #notReached(error: Error): void {
    if (!this.#everReady && error instanceof MillraceError && isFatal(error)) this.#end(error);
    else this.#failed(error);
  }

  #greet(link: Link): void {
    const writer = new FrameWriter(link, (flush) => this.#dialing.clock.defer(flush));
    const reader = new FrameReader((type, requestId, buffer, start, end) => {
      if (this.#link === link && this.#state !== 'closed') this.#frame(type, requestId, buffer, start, end);
    });
    this.#link = link;
    this.#writer = writer;
    link.handler = {
      data: (bytes) => {
        try {
          reader.push(bytes);
        } catch (error) {
          if (!(error instanceof MillraceError)) throw error;
          reader.stop();
          this.#refused(error);
        }
      },
      drain: () => {
        if (this.#link === link && this.#state === 'ready') this.#owner.drained?.();
      },
      close: (reason) => {
        writer.close();
        if (this.#link === link) this.#failed(reason ?? new Error(this.#closedBy()));
      },
    };
    const { identity, token } = this.#dialing;
    writer.json(FRAME.HELLO, this.nextRequestId(), { protocol: PROTOCOL_VERSION, ...identity, token });
    writer.flush();
  }

  /** What speaks TLS may close what does not, without a word. */
  #closedBy(): string {
    const hint = this.#state === 'connecting' && this.#dialing.url.startsWith('tcp:');
    return `the server closed the connection${hint ? ' at once; if it speaks TLS, use tls://' : ''}`;
  }

  #frame(type: number, requestId: number, buffer: Buffer, start: number, end: number): void {
    this.#heardSincePing = true;
    if (type === FRAME.ERROR && (requestId === 0 || this.#state === 'connecting')) {
      this.#refused(errorFromJSON(readJson(buffer, start, end)));
    } else if (this.#state === 'connecting') {
      this.#welcome(type, buffer, start, end);
    } else if (type === FRAME.PING) {
      this.writer.empty(FRAME.PONG, requestId);
    } else if (type === FRAME.PONG) {
      this.roundTripMs = this.#dialing.clock.steadyMs() - this.#pingSentMs;
    } else if (type === FRAME.GOAWAY) {
      this.#draining = true;
    } else {
      this.#owner.frame(type, requestId, buffer, start, end);
    }
  }

  #welcome(type: number, buffer: Buffer, start: number, end: number): void {
    if (type !== FRAME.WELCOME) throw new MillraceError('PROTOCOL', `${frameName(type)} came in place of WELCOME`);
    const { protocol, lifelineKey = '' } = readJson(buffer, start, end);
    if (protocol !== PROTOCOL_VERSION) {
      const message = `the server speaks protocol ${shown(protocol)}, this client ${PROTOCOL_VERSION}: use the same release`;
      const details = { server: shownValue(protocol), client: PROTOCOL_VERSION };
      throw new MillraceError('PROTOCOL_VERSION', message, { details });
    }
    if (typeof lifelineKey !== 'string' || lifelineKey.length > LIFELINE_KEY_CHARACTERS_MAX) {
      throw new MillraceError('PROTOCOL', `WELCOME has the lifelineKey ${shown(lifelineKey)}`);
    }
    this.#timer?.cancel();
    this.#state = 'ready';
    this.lifelineKey = lifelineKey;
    this.#everReady = true;
    this.#draining = false;
    this.#lastError = undefined;
    this.#readySinceMs = this.#dialing.clock.steadyMs();
    this.#silentIntervals = 0;
    this.#pingWhenIdle();
    this.#owner.ready();
  }

  /** Measures the way to the server when nothing else does, and gives up a server from which nothing comes any more. */
  #pingWhenIdle(): void {
    const { clock } = this.#dialing;
    this.#pinger = setPatientTimer(clock, PING_INTERVAL_MS, () => this.#ping());
    this.#pinger.unref();
  }

  #ping(): void {
    this.#silentIntervals = this.#heardSincePing ? 0 : this.#silentIntervals + 1;
    if (this.#silentIntervals > SILENT_INTERVALS_MAX) {
      const ms = SILENT_INTERVALS_MAX * PING_INTERVAL_MS;
      this.#failed(new MillraceError('TIMEOUT', `nothing has come from the server for ${ms} ms`));
      return;
    }
    if (!this.#heardSincePing) {
      this.#pingSentMs = this.#dialing.clock.steadyMs();
      this.writer.empty(FRAME.PING, this.nextRequestId());
    }
    this.#heardSincePing = false;
    this.#pingWhenIdle();
  }

  /** The server, or our reading of it, ended this link for a reason. */
  #refused(error: MillraceError): void {
    if (isFatal(error)) this.#end(error);
    else this.#failed(error);
  }

  /** The attempt or the link is over; the next follows after a delay. */
  #failed(error: Error): void {
    if (this.#state !== 'connecting' && this.#state !== 'ready') return;
    const { clock, reconnect } = this.#dialing;
    const serverFailure = this.#dialing.serverFailure?.();
    if (serverFailure !== undefined) {
      this.#end(serverFailure);
      return;
    }
    const now = clock.steadyMs();
    const wasReady = this.#state === 'ready';
    this.#dropLink(error);
    this.#lastError = error;
    this.#state = 'waiting';
    if (wasReady) {
      this.#downSinceMs = now;
      if (now - this.#readySinceMs >= STABLE_MS) this.#attempts = 0;
    }
    const delayMs = reconnectDelay(reconnect, this.#attempts++, this.#dialing.random.float());
    const giveUpAfterMs = this.#everReady ? reconnect.giveUpAfterMs : this.#dialing.connectTimeoutMs;
    if (now + delayMs - this.#downSinceMs > giveUpAfterMs) {
      this.#end(this.#disconnected(giveUpAfterMs));
      return;
    }
    this.#timer = clock.setTimer(delayMs, () => this.#connect());
    if (wasReady) this.#owner.lost();
  }

  #end(error: MillraceError): void {
    const wasReady = this.#state === 'ready';
    this.#stop();
    this.#dropLink(error);
    if (wasReady) this.#owner.lost();
    this.#owner.ended(error);
  }

  #dropLink(reason: Error): void {
    this.#attempt?.abort();
    this.#timer?.cancel();
    this.#pinger?.cancel();
    const link = this.#link;
    this.#link = undefined;
    this.#writer?.close();
    this.#writer = undefined;
    link?.destroy(reason);
  }

  #disconnected(giveUpAfterMs: number): MillraceError {
    const { url } = this.#dialing;
    const last = this.#lastError === undefined ? '' : ` (last: ${describe(this.#lastError)})`;
    const message = `no connection to ${url} for ${giveUpAfterMs} ms and ${this.#attempts} attempts${last}: is a server running there? Start one with \`millrace server\`, or check the URL`;
    return new MillraceError('DISCONNECTED', message, {
      cause: this.#lastError,
      details: { url, attempts: this.#attempts },
    });
  }
}

/** How long to wait before the attempt after `attempts` failed ones; `draw` is uniform in [0, 1). */
export function reconnectDelay(options: ReconnectOptions, attempts: number, draw: number): number {
  const delayMs = Math.min(options.initialDelayMs * options.factor ** attempts, options.maxDelayMs);
  return delayMs * (1 - options.jitter * draw);
}

function describe(error: Error): string {
  const code = (error as NodeJS.ErrnoException).code;
  // Node's error for several refused addresses has a code and no message.
  return error.message === '' ? (code ?? error.name) : error.message;
}

function asError(value: unknown): Error {
  return value instanceof Error ? value : new Error(String(value));
}
