import { createConnection, createServer, type Server, type Socket } from 'node:net';

/** One proxied connection: its two halves. */
interface Pipe {
  readonly near: Socket;
  readonly far: Socket;
}

/** `up`: from the client to the server. */
type Direction = 'up' | 'down';

/** How bytes pass from now on, also on connections that are open. */
type Manner =
  | { readonly kind: 'pass' }
  | { readonly kind: 'hold' }
  | { readonly kind: 'delay'; readonly ms: number }
  | { readonly kind: 'drip'; readonly chunkBytes: number };

/**
 * A TCP connection's trouble, on purpose: clients connect to `port`, and it passes their bytes to a server.
 *
 * `cut` resets both halves; `abandon` resets only the client's and leaves the server with a connection on which nothing
 * comes any more, as when a host loses its network; `hold` lets nothing pass, one way or both, until `pass`; `strand` does
 * so for ever on the connections that are open, and lets new ones pass.
 */
export class TcpProxy {
  readonly port: number;
  /** How many connections met `refuse`. */
  refused = 0;
  readonly #server: Server;
  readonly #targetPort: number;
  readonly #pipes = new Set<Pipe>();
  readonly #abandoned = new Set<Socket>();
  #manners: Record<Direction, Manner> = { up: { kind: 'pass' }, down: { kind: 'pass' } };
  readonly #stranded = new WeakSet<Socket>();
  #refusing = false;
  #held: (() => void)[] = [];

  static async start(targetPort: number): Promise<TcpProxy> {
    const server = createServer({ noDelay: true, pauseOnConnect: true });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    return new TcpProxy(server, targetPort);
  }

  private constructor(server: Server, targetPort: number) {
    this.#server = server;
    this.#targetPort = targetPort;
    this.port = (server.address() as { port: number }).port;
    server.on('connection', (near) => this.#accept(near));
  }

  get url(): string {
    return `tcp://127.0.0.1:${this.port}`;
  }

  /** Resets every open connection at both ends. */
  cut(): void {
    for (const { near, far } of [...this.#pipes]) {
      near.resetAndDestroy();
      far.resetAndDestroy();
    }
    this.#pipes.clear();
  }

  /** Resets every open connection at the client's end only. */
  abandon(): void {
    for (const { near, far } of [...this.#pipes]) {
      this.#abandoned.add(far);
      // It would pass the end on.
      near.removeAllListeners('close');
      near.resetAndDestroy();
    }
    this.#pipes.clear();
  }

  /** The server's ends of abandoned connections learn that nobody is there. */
  bury(): void {
    for (const far of this.#abandoned) far.resetAndDestroy();
    this.#abandoned.clear();
  }

  /** New connections are reset until `pass`. */
  refuse(): void {
    this.#refusing = true;
  }

  hold(direction?: Direction): void {
    this.#behave({ kind: 'hold' }, direction);
  }

  strand(): void {
    for (const { near, far } of this.#pipes) this.#stranded.add(near).add(far);
  }

  delay(ms: number, direction?: Direction): void {
    this.#behave({ kind: 'delay', ms }, direction);
  }

  drip(chunkBytes: number, direction?: Direction): void {
    this.#behave({ kind: 'drip', chunkBytes }, direction);
  }

  pass(): void {
    this.#refusing = false;
    this.#behave({ kind: 'pass' }, undefined);
    for (const release of this.#held.splice(0)) release();
  }

  async stop(): Promise<void> {
    this.cut();
    this.bury();
    for (const release of this.#held.splice(0)) release();
    await new Promise<void>((resolve) => this.#server.close(() => resolve()));
  }

  #behave(manner: Manner, direction: Direction | undefined): void {
    if (direction === undefined) this.#manners = { up: manner, down: manner };
    else this.#manners = { ...this.#manners, [direction]: manner };
  }

  #accept(near: Socket): void {
    if (this.#refusing) {
      this.refused++;
      near.resetAndDestroy();
      return;
    }
    const far = createConnection({ port: this.#targetPort, host: '127.0.0.1', noDelay: true });
    const pipe = { near, far };
    this.#pipes.add(pipe);
    this.#join(near, far, 'up');
    this.#join(far, near, 'down');
    far.on('error', () => near.resetAndDestroy());
    near.on('error', () => {});
    near.resume();
  }

  #join(from: Socket, to: Socket, direction: Direction): void {
    // One chunk after the other, whatever happens to each on its way.
    let last = Promise.resolve();
    from.on('data', (chunk: Buffer) => {
      from.pause();
      last = last
        .then(() => this.#carry(chunk, to, direction))
        .then(() => {
          if (!from.destroyed) from.resume();
        });
    });
    from.on('close', () => {
      for (const pipe of this.#pipes) if (pipe.near === from || pipe.far === from) this.#pipes.delete(pipe);
      void last.then(() => to.end());
    });
  }

  async #carry(chunk: Buffer, to: Socket, direction: Direction): Promise<void> {
    if (this.#stranded.has(to)) await new Promise(() => {});
    const manner = this.#manners[direction];
    switch (manner.kind) {
      case 'pass':
        await write(to, chunk);
        return;
      case 'hold':
        await new Promise<void>((resolve) => this.#held.push(resolve));
        await this.#carry(chunk, to, direction);
        return;
      case 'delay':
        await new Promise((resolve) => setTimeout(resolve, manner.ms));
        await write(to, chunk);
        return;
      case 'drip':
        for (let at = 0; at < chunk.length; at += manner.chunkBytes) {
          await write(to, chunk.subarray(at, at + manner.chunkBytes));
          // The kernel would join what is written in one turn.
          await new Promise((resolve) => setImmediate(resolve));
        }
        return;
      default:
        manner satisfies never;
    }
  }
}

function write(socket: Socket, bytes: Buffer): Promise<void> {
  return new Promise((resolve) => {
    if (socket.destroyed) resolve();
    else socket.write(bytes, () => resolve());
  });
}
