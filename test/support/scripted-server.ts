import { expect } from 'vitest';
import { RemoteBroker, type RemoteOptions } from '../../src/broker/tcp/remote-broker.ts';
import type { Link } from '../../src/io/net.ts';
import { createLinkPair } from '../../src/io/pair-link.ts';
import type { Random } from '../../src/io/random.ts';
import { FRAME, FrameReader, frameName } from '../../src/protocol/frames.ts';
import { FrameWriter } from '../../src/protocol/writer.ts';
import { ManualClock } from '../twins/manual-clock.ts';
import type { Frame } from './frames.ts';

export const PRODUCER = '0123456789abcdef0123456789abcdef';
const constantRandom: Random = { float: () => 0, hex: () => PRODUCER };

/** A server that does what a test tells it, frame by frame, over in-process links. */
export class ScriptedServer {
  readonly clock = new ManualClock();
  /** While true, connections are refused. */
  refusing = false;
  dialCount = 0;
  readonly #arrived = new Inbox<ScriptedConnection>();

  options(changes: Partial<RemoteOptions> = {}): RemoteOptions {
    return {
      url: 'tcp://scripted:5555',
      clock: this.clock,
      random: constantRandom,
      reconnect: {
        initialDelayMs: 100,
        factor: 2,
        maxDelayMs: 1000,
        jitter: 0,
        giveUpAfterMs: Number.POSITIVE_INFINITY,
      },
      connectTimeoutMs: 1000,
      enqueueTimeoutMs: 30_000,
      callTimeoutMs: 15_000,
      identity: { client: 'test', host: 'here', pid: 1, version: '1.2.3', producer: PRODUCER },
      lifelines: false,
      dial: () => this.#dial(),
      ...changes,
    };
  }

  /** The next connection, before its HELLO. */
  connection(): Promise<ScriptedConnection> {
    return this.#arrived.take();
  }

  /** The next connection, after HELLO and WELCOME. */
  async welcome(): Promise<ScriptedConnection> {
    const connection = await this.connection();
    const hello = await connection.expect(FRAME.HELLO);
    connection.json(FRAME.WELCOME, hello.requestId, { protocol: 1, server: 'scripted', session: '1', epoch: 1 });
    return connection;
  }

  /** Lets the pause before the next attempt pass. */
  async reconnect(): Promise<ScriptedConnection> {
    await settle();
    this.clock.advance(1000);
    return this.welcome();
  }

  async #dial(): Promise<Link> {
    this.dialCount++;
    if (this.refusing) throw Object.assign(new Error('connect ECONNREFUSED'), { code: 'ECONNREFUSED' });
    const [near, far] = createLinkPair(this.clock);
    this.#arrived.put(new ScriptedConnection(far, (flush) => this.clock.defer(flush)));
    return near;
  }
}

/** A broker that is connected to a server of its own. */
export async function connected(): Promise<{
  server: ScriptedServer;
  broker: RemoteBroker;
  connection: ScriptedConnection;
}> {
  const server = new ScriptedServer();
  const connecting = RemoteBroker.connect(server.options());
  const connection = await server.welcome();
  return { server, broker: await connecting, connection };
}

export class ScriptedConnection {
  readonly writer: FrameWriter;
  closed = false;
  readonly #link: Link;
  readonly #frames = new Inbox<Frame>();

  constructor(link: Link, schedule: (flush: () => void) => void) {
    this.#link = link;
    this.writer = new FrameWriter(link, schedule);
    const reader = new FrameReader((type, requestId, buffer, start, end) => {
      this.#frames.put({ type, requestId, body: Buffer.from(buffer.subarray(start, end)) });
    });
    link.handler = {
      data: (bytes) => reader.push(bytes),
      drain: () => {},
      close: () => {
        this.closed = true;
      },
    };
  }

  /** The next frame, which must be of this type. */
  async expect(type: number): Promise<Frame> {
    const frame = await this.#frames.take();
    expect(frameName(frame.type)).toBe(frameName(type));
    return frame;
  }

  async expectJson(type: number): Promise<{ requestId: number; value: Record<string, unknown> }> {
    const { requestId, body } = await this.expect(type);
    return { requestId, value: JSON.parse(body.toString()) as Record<string, unknown> };
  }

  /** Frames that came and were not expected yet. */
  get waiting(): string[] {
    return this.#frames.peek().map((frame) => frameName(frame.type));
  }

  json(type: number, requestId: number, value: unknown): void {
    this.writer.json(type, requestId, value);
  }

  frame(type: number, requestId: number, fill: (writer: FrameWriter) => void): void {
    this.writer.begin(type, requestId);
    fill(this.writer);
    this.writer.end();
  }

  /** Reads nothing until `resume`. */
  pause(): void {
    this.#link.pause();
  }

  resume(): void {
    this.#link.resume();
  }

  raw(bytes: string): void {
    this.#link.write(Buffer.from(bytes));
  }

  drop(): void {
    this.writer.flush();
    this.#link.destroy();
  }
}

class Inbox<T> {
  readonly #items: T[] = [];
  readonly #takers: ((item: T) => void)[] = [];

  put(item: T): void {
    const taker = this.#takers.shift();
    if (taker === undefined) this.#items.push(item);
    else taker(item);
  }

  take(): Promise<T> {
    const item = this.#items.shift();
    return item === undefined ? new Promise((resolve) => this.#takers.push(resolve)) : Promise.resolve(item);
  }

  peek(): readonly T[] {
    return this.#items;
  }
}

/** Lets everything that is on its way inside the process arrive. */
export async function settle(): Promise<void> {
  for (let turn = 0; turn < 5; turn++) await new Promise((resolve) => setImmediate(resolve));
}

/** Reads how a promise stands, without waiting for it: `pending`, `resolved`, or the code it was rejected with. */
export function watch(promise: Promise<unknown>): () => Promise<string> {
  let state = 'pending';
  promise.then(
    () => {
      state = 'resolved';
    },
    (error: unknown) => {
      state = (error as { code?: string }).code ?? String(error);
    },
  );
  return async () => {
    await settle();
    return state;
  };
}
