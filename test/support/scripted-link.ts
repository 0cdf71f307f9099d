import type { Link, LinkHandler } from '../../src/io/net.ts';
import { FrameReader, readJson } from '../../src/protocol/frames.ts';
import type { FrameWriter } from '../../src/protocol/writer.ts';
import { write } from './frame-body.ts';
import type { Frame } from './frames.ts';

/** The server's end of a link whose other end is the test: it says what came, and how much of that is still unread. */
export class ScriptedLink implements Link {
  readonly remote = 'scripted';
  readonly address: string;
  handler: LinkHandler = { data: () => {}, drain: () => {}, close: () => {} };
  bufferedBytes = 0;
  /** Whether what is written stays unread until `drain`. */
  holds = false;
  bufferedBytesMax = 0;
  paused = false;
  ended = false;
  readonly frames: Frame[] = [];
  readonly #reader = new FrameReader((type, requestId, buffer, start, end) => {
    this.frames.push({ type, requestId, body: Buffer.from(buffer.subarray(start, end)) });
  });

  constructor(address = 'scripted') {
    this.address = address;
  }

  write(bytes: Uint8Array, written?: () => void): void {
    this.#reader.push(Buffer.from(bytes));
    if (this.holds) this.bufferedBytes += bytes.length;
    this.bufferedBytesMax = Math.max(this.bufferedBytesMax, this.bufferedBytes);
    written?.();
  }

  /** Everything has been read. */
  drain(): void {
    if (this.bufferedBytes === 0) return;
    this.bufferedBytes = 0;
    this.handler.drain();
  }

  pause(): void {
    this.paused = true;
  }

  resume(): void {
    this.paused = false;
  }

  end(): void {
    this.ended = true;
  }

  destroy(): void {
    this.ended = true;
  }

  /** Hands the server whole frames, or parts of them. */
  say(bytes: Buffer): void {
    this.handler.data(bytes);
  }

  /** In the last frame. */
  get lastError(): Record<string, unknown> {
    const { body } = this.frames.at(-1) as Frame;
    return readJson(body, 0, body.length);
  }

  get lastCode(): unknown {
    return this.lastError.code;
  }
}

/** One frame's bytes. */
export function frame(type: number, requestId: number, fill: (writer: FrameWriter) => void): Buffer {
  return write((writer) => {
    writer.begin(type, requestId);
    fill(writer);
    writer.end();
  });
}
