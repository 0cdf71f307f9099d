import { RemoteBroker } from '../../src/broker/tcp/remote-broker.ts';
import { Client } from '../../src/client/client.ts';
import type { MillraceError } from '../../src/errors.ts';
import type { Link, LinkHandler } from '../../src/io/net.ts';
import { LIMITS } from '../../src/limits.ts';
import { FRAME, FrameReader, readJson } from '../../src/protocol/frames.ts';
import { Host } from '../../src/server/host.ts';
import { ManualClock } from '../twins/manual-clock.ts';
import { frameBytes, hello, welcome } from './frames.ts';
import { Broken, type Faults, inTime, ours, turns } from './harness.ts';

/** Of which no callback throws unseen. */
export class GuardedClock extends ManualClock {
  readonly #faults: Faults;

  constructor(faults: Faults) {
    super();
    this.#faults = faults;
  }

  override setTimer(delayMs: number, callback: () => void): ReturnType<ManualClock['setTimer']> {
    return super.setTimer(delayMs, this.#faults.guard(callback));
  }

  override defer(callback: () => void): void {
    super.defer(this.#faults.guard(callback));
  }

  override deferPastInput(callback: () => void): void {
    super.deferPastInput(this.#faults.guard(callback));
  }
}

/** One end of a link, whose other end is whatever a test says. */
export class FuzzedLink implements Link {
  readonly remote = 'fuzz';
  readonly address = 'fuzz';
  readonly bufferedBytes = 0;
  handler: LinkHandler = { data: () => {}, drain: () => {}, close: () => {} };
  isOver = false;
  #isPaused = false;
  #written: Buffer[] = [];
  readonly #faults: Faults;

  constructor(faults: Faults) {
    this.#faults = faults;
  }

  write(bytes: Uint8Array, written?: () => void): void {
    this.#written.push(Buffer.from(bytes));
    written?.();
  }

  pause(): void {
    this.#isPaused = true;
  }

  resume(): void {
    this.#isPaused = false;
  }

  end(): void {
    this.isOver = true;
  }

  destroy(reason?: Error): void {
    if (this.isOver) return;
    this.isOver = true;
    process.nextTick(this.#faults.guard(() => this.handler.close(reason)));
  }

  /** Until it is ended, or not read any more. */
  feed(chunks: readonly Buffer[]): void {
    for (const chunk of chunks) {
      if (this.isOver || this.#isPaused) return;
      // As from a socket, whose buffers are used again.
      const lent = Buffer.from(chunk);
      this.handler.data(lent);
      lent.fill(0xee);
    }
  }

  /** The other side closes. */
  drop(): void {
    if (this.isOver) return;
    this.isOver = true;
    this.handler.close(undefined);
  }

  /** What was written since it was last asked. */
  take(): Buffer {
    const bytes = Buffer.concat(this.#written);
    this.#written = [];
    return bytes;
  }
}

const PING = frameBytes({ type: FRAME.PING, requestId: 77, body: Buffer.alloc(0) });
/** What a connection may be answered beside so much for each of its bytes: a status, or the ids that its frames name. */
const ANSWER_BYTES_MAX = 8 * 1024 * 1024;

/** A server in memory, and somebody on it who does nothing wrong and must not notice anything. */
export class FuzzedServer {
  readonly host: Host;
  readonly clock: GuardedClock;
  readonly #faults: Faults;
  readonly #bystander: FuzzedLink;

  static async start(faults: Faults): Promise<FuzzedServer> {
    const clock = new GuardedClock(faults);
    return new FuzzedServer(await Host.start({ directory: null, clock, connectionsMax: 65_536 }), clock, faults);
  }

  private constructor(host: Host, clock: GuardedClock, faults: Faults) {
    this.host = host;
    this.clock = clock;
    this.#faults = faults;
    this.#bystander = this.connect();
    this.#bystander.feed([frameBytes({ type: FRAME.HELLO, requestId: 1, body: hello() })]);
  }

  connect(): FuzzedLink {
    const link = new FuzzedLink(this.#faults);
    this.host.accept(link);
    return link;
  }

  /** Each list of chunks comes over a connection of its own, all in one turn. Throws Broken. */
  async feed(streams: readonly (readonly Buffer[])[]): Promise<void> {
    const links = streams.map(() => this.connect());
    await inTime(async () => {
      for (const [index, link] of links.entries()) link.feed(streams[index] ?? []);
      await turns();
      this.clock.advance(20);
      await turns(2);
    });
    for (const [index, link] of links.entries()) {
      const bytes = (streams[index] ?? []).reduce((sum, { length }) => sum + length, 0);
      checkAnswers(link.take(), bytes);
      link.drop();
    }
    await this.#check();
  }

  async #check(): Promise<void> {
    this.#bystander.take();
    this.#bystander.feed([PING]);
    await turns(2);
    this.#faults.check();
    const answers: number[] = [];
    new FrameReader((type) => answers.push(type)).push(this.#bystander.take());
    if (!answers.includes(FRAME.PONG)) throw new Broken('a connection that did nothing wrong is not answered any more');
    if (this.host.failure !== undefined) throw new Broken(`the server has failed: ${this.host.failure.message}`);
    JSON.stringify(this.host.status());
  }

  async stop(): Promise<void> {
    const stopped = this.host.stop({ timeoutMs: 0 });
    this.clock.advance(1);
    await stopped;
    this.#faults.check();
  }
}

/** Whole frames, errors with codes that exist, and no more than what was asked for can be the cause of. */
function checkAnswers(answers: Buffer, askedBytes: number): void {
  if (answers.length > ANSWER_BYTES_MAX + 16 * askedBytes) {
    throw new Broken(`${askedBytes} bytes were answered with ${answers.length}`);
  }
  if (answers.toString('latin1', 0, 9) === 'HTTP/1.1 ') return;
  const reader = new FrameReader((type, _requestId, buffer, start, end) => {
    if (type === FRAME.ERROR) checkRefusal(readJson(buffer, start, end));
  });
  reader.push(answers);
  if (reader.insideFrame) throw new Broken('an answer ends inside a frame');
}

/** BUFFER_FULL and others are for one request; all are codes that exist. */
function checkRefusal({ code, message }: Record<string, unknown>): void {
  if (typeof code !== 'string' || typeof message !== 'string') throw new Broken('an ERROR without code and message');
  if (message.length > LIMITS.errorBytesMax) throw new Broken(`an ERROR with ${message.length} characters`);
}

/** What a server says to one client: before it is known to be one, then, and after the client has come back. */
export interface HostileServer {
  readonly greeting: Buffer;
  readonly first: readonly Buffer[];
  readonly second: readonly Buffer[];
}

/** A client that asks for everything that there is, of a server that says what a test wants. */
export class FuzzedClient {
  readonly #clock: GuardedClock;
  readonly #faults: Faults;
  #links: FuzzedLink[] = [];
  #open = 0;
  #failure: Error | undefined;

  constructor(faults: Faults) {
    this.#faults = faults;
    this.#clock = new GuardedClock(faults);
  }

  /** Throws Broken. */
  async meet({ greeting, first, second }: HostileServer): Promise<void> {
    await inTime(async () => {
      const client = await this.#connect(greeting);
      if (client !== undefined) {
        await this.#ask(client);
        await this.#hear(first);
        await this.#comeBack();
        await this.#hear(second);
        await this.#close(client);
      }
      await turns(2);
    });
    this.#faults.check();
    if (this.#failure !== undefined) throw this.#failure;
    if (this.#open > 0) throw new Broken(`${this.#open} calls are still open after the client was closed`);
  }

  /** Undefined: what came was no greeting. */
  async #connect(greeting: Buffer): Promise<Client | undefined> {
    const reconnect = { initialDelayMs: 100, factor: 2, maxDelayMs: 1000, jitter: 0, giveUpAfterMs: 60_000 };
    const connecting = RemoteBroker.connect({
      ...{ url: 'tcp://fuzz:5555', clock: this.#clock, reconnect, lifelines: true },
      ...{ connectTimeoutMs: 50, enqueueTimeoutMs: 5000, callTimeoutMs: 5000 },
      random: { float: () => 0, hex: (count) => '0'.repeat(2 * count) },
      identity: { client: 'fuzz', host: 'here', pid: 1, version: '1', producer: '0'.repeat(32) },
      dial: async () => {
        const link = new FuzzedLink(this.#faults);
        this.#links.push(link);
        return link;
      },
    });
    let broker: RemoteBroker | undefined;
    this.#track(
      connecting.then((connected) => {
        broker = connected;
      }),
    );
    await turns(1);
    this.#say([greeting]);
    await turns(1);
    if (broker !== undefined) return new Client(broker, { clock: this.#clock, workerName: 'fuzz' });
    // The first connection is given up when its time is over.
    this.#clock.advance(LIMITS.handshakeTimeoutMs + 1);
    await turns(1);
    return undefined;
  }

  async #ask(client: Client): Promise<void> {
    const asked: Promise<unknown>[] = [
      client.enqueue('n', { a: 1 }),
      client.enqueueMany('n', [1, 2, 3]).then(({ ids }) => [...ids]),
      client.enqueue('n', 1, { uniqueKey: 'k' }),
      client.flow((flow) => {
        const one = flow.add('n', 1);
        flow.add('n', 2, { dependsOn: one });
      }),
      client.task('1-0').result({ timeoutMs: 1000 }),
      client.task('1-1').result({ timeoutMs: 1000 }),
      client.task('1-0').info(),
      client.task('1-0').cancel(),
      client.task('1-0').retry(),
      client.tasks.list(),
      client.tasks.retryMany({ state: 'dead' }),
      client.tasks.deadGroups(),
      client.status(),
      client.queue('q').status(),
      client.queue('q').purge(),
      client.queue('q').limit({ concurrency: 1 }),
      client.schedules.list(),
      client.schedules.runNow('s'),
      client.schedules.remove('s'),
      client.events().then(async (events) => {
        // Whatever it says, there is an end to it.
        for (let count = 0; count < 100 && !(await events.next()).done; count++);
        await events.return();
      }),
      client.work(
        {
          n: () => ({ done: true }),
          batch: async (_input, context) => {
            context.progress(0.5, 'half');
            context.log(JSON.stringify(context.headers));
            await context.parents();
            throw new Error('as it happens');
          },
        },
        { queues: ['q'], concurrency: 2 },
      ),
    ];
    for (const each of asked) this.#track(each);
    await turns(2);
    // Its own connections greet, and its subscription is taken, as a rule.
    const takes = { type: FRAME.REPLY, requestId: 2, body: Buffer.from('{}') };
    this.#say([frameBytes({ type: FRAME.WELCOME, requestId: 1, body: welcome() }), frameBytes(takes)], 1);
    await turns(2);
  }

  #hear(stream: readonly Buffer[]): Promise<void> {
    this.#say(stream);
    return turns(2);
  }

  /** All links are cut; the next ones are welcomed. */
  async #comeBack(): Promise<void> {
    const cut = this.#links;
    this.#links = [];
    for (const link of cut) link.drop();
    await turns(1);
    this.#clock.advance(1000);
    await turns(2);
    this.#say([frameBytes({ type: FRAME.WELCOME, requestId: 1, body: welcome() })]);
    await turns(1);
  }

  async #close(client: Client): Promise<void> {
    let isClosed = false;
    this.#track(
      client.close({ timeoutMs: 0 }).then(() => {
        isClosed = true;
      }),
    );
    for (let seconds = 0; seconds < 30 && !isClosed; seconds++) {
      await turns(1);
      this.#clock.advance(1000);
    }
    await turns(2);
    if (!isClosed) throw new Broken('the client does not close');
  }

  #say(chunks: readonly Buffer[], from = 0): void {
    for (const link of this.#links.slice(from)) this.#faults.guard(() => link.feed(chunks))();
  }

  /** Nobody may wait for it for ever, and it may reject with nothing but errors of ours. */
  #track(promise: Promise<unknown>): void {
    this.#open++;
    promise.then(
      () => {
        this.#open--;
      },
      (error: MillraceError) => {
        this.#open--;
        try {
          ours(error);
        } catch (broken) {
          this.#failure ??= broken as Error;
        }
      },
    );
  }
}
