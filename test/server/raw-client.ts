import { connect, type Socket } from 'node:net';
import { FRAME, FrameReader } from '../../src/protocol/frames.ts';
import { FrameWriter } from '../../src/protocol/writer.ts';

export interface ReceivedFrame {
  type: number;
  requestId: number;
  body: Buffer;
}

/** A connection that says exactly what a test wants, well-formed or not. */
export class RawClient {
  readonly socket: Socket;
  readonly writer: FrameWriter;
  /** Resolves when the other side has closed. */
  readonly closed: Promise<void>;
  #received: ReceivedFrame[] = [];
  #waiting: (() => void)[] = [];
  #isClosed = false;

  static async open(port: number): Promise<RawClient> {
    const socket = connect({ port, host: '127.0.0.1', noDelay: true });
    await new Promise<void>((resolve, reject) => socket.once('connect', resolve).once('error', reject));
    return new RawClient(socket);
  }

  private constructor(socket: Socket) {
    this.socket = socket;
    this.writer = new FrameWriter({ write: (bytes, written) => socket.write(bytes, written) }, (flush) =>
      queueMicrotask(flush),
    );
    const reader = new FrameReader((type, requestId, buffer, start, end) => {
      this.#received.push({ type, requestId, body: Buffer.from(buffer.subarray(start, end)) });
      this.#wake();
    });
    socket.on('data', (chunk: Buffer) => {
      reader.push(chunk);
    });
    socket.on('error', () => {
      // A reset is one way of being closed.
    });
    this.closed = new Promise((resolve) => {
      socket.on('close', () => {
        this.#isClosed = true;
        this.#wake();
        resolve();
      });
    });
  }

  #wake(): void {
    for (const wake of this.#waiting.splice(0)) wake();
  }

  /** The next frame, or undefined when the connection ends before one comes. */
  async next(): Promise<ReceivedFrame | undefined> {
    for (;;) {
      const frame = this.#received.shift();
      if (frame !== undefined) return frame;
      if (this.#isClosed) return undefined;
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    }
  }

  /** The next frame's JSON; fails the test when it is of another type. */
  async json(type: number): Promise<Record<string, unknown>> {
    const frame = await this.next();
    if (frame?.type !== type)
      throw new Error(`wanted frame type ${type}, got ${JSON.stringify(frame)} ${frame?.body.toString()}`);
    return JSON.parse(frame.body.toString()) as Record<string, unknown>;
  }

  /** Resolves with WELCOME. */
  async greet(hello: Record<string, unknown> = {}): Promise<Record<string, unknown>> {
    this.writer.json(FRAME.HELLO, 1, {
      protocol: 1,
      client: 'raw',
      host: 'test',
      pid: process.pid,
      producer: '0'.repeat(32),
      ...hello,
    });
    return this.json(FRAME.WELCOME);
  }

  close(): void {
    this.socket.destroy();
  }
}
