import { isUtf8 } from 'node:buffer';
import type { SubmittedTask } from '../broker/contract.ts';
import { MillraceError } from '../errors.ts';
import { LIMITS } from '../limits.ts';
import { type Line, NdjsonLines } from './ndjson-lines.ts';
import { toProblem } from './problem.ts';

/** Enqueues what a line says, which is also given as it was written. Those of one turn travel together. */
export type EnqueueLine = (value: unknown, text: string) => Promise<SubmittedTask>;

interface Entry {
  readonly bytes: number;
  /** Undefined until it is known what became of the line. */
  answer: string | undefined;
}

/**
 * Tasks that come as lines, and a line for each in answer, in their order.
 *
 *   body ──lines──▶ enqueued, at most LIMITS.ndjsonLinesMax and ndjsonBytesMax ──durable──▶ answered ──read──▶ gone
 *
 * What was not read counts: whoever does not read the answers is not read from.
 */
export class NdjsonStream {
  readonly answers: ReadableStream<Uint8Array>;
  /** Resolves when the last answer was taken, or nobody takes any. */
  readonly ended: Promise<void>;
  #end: () => void = () => {};
  readonly #enqueue: EnqueueLine;
  readonly #body: ReadableStreamDefaultReader<Uint8Array>;
  readonly #lines = new NdjsonLines(LIMITS.ndjsonLineBytesMax);
  /** In the order of the lines; those before `#sent` have gone. */
  #entries: Entry[] = [];
  #bytes = 0;
  #lineNumber = 0;
  /** Nothing more is read. */
  #isOver = false;
  #failure: unknown;
  /** The first line is answered, or no more will be. */
  #progressed: (() => void) | undefined;
  /** More may be read, or need not be. */
  #room: (() => void) | undefined;

  constructor(body: ReadableStream<Uint8Array>, enqueue: EnqueueLine) {
    this.#enqueue = enqueue;
    this.#body = body.getReader();
    this.ended = new Promise((resolve) => {
      this.#end = resolve;
    });
    this.answers = new ReadableStream<Uint8Array>(
      {
        start: () => void this.#read(),
        pull: (controller) => this.#pull(controller),
        cancel: () => {
          this.stop();
          this.#end();
        },
      },
      { highWaterMark: 0 },
    );
  }

  /** Reads nothing more; what was read is answered, and why there is no more when a reason is given. */
  stop(reason?: MillraceError): void {
    if (reason !== undefined && !this.#isOver) this.#refuseNext(reason);
    this.#isOver = true;
    // A connection that broke first is as good as one that is given up.
    void this.#body.cancel().catch(() => {});
    this.#wake();
  }

  async #read(): Promise<void> {
    try {
      while (!this.#isOver) {
        const { done, value } = await this.#body.read();
        if (this.#isOver) break;
        const lines = done ? this.#lines.rest() : this.#lines.push(value);
        for (const line of lines) this.#take(line);
        if (done) break;
        await this.#hasRoom();
      }
    } catch (error) {
      this.#failure = error;
    }
    this.#isOver = true;
    this.#wake();
  }

  async #pull(controller: ReadableStreamDefaultController<Uint8Array>): Promise<void> {
    for (;;) {
      const text = this.#answered();
      if (text !== '') {
        controller.enqueue(Buffer.from(text));
        return;
      }
      if (this.#isOver && this.#entries.length === 0) {
        if (this.#failure === undefined) controller.close();
        else controller.error(this.#failure);
        this.#end();
        return;
      }
      await new Promise<void>((resolve) => {
        this.#progressed = resolve;
      });
    }
  }

  /** Takes out what is answered, up to the first line that is not. */
  #answered(): string {
    let count = 0;
    let text = '';
    for (const { answer, bytes } of this.#entries) {
      if (answer === undefined) break;
      text += answer;
      this.#bytes -= bytes;
      count++;
    }
    this.#entries.splice(0, count);
    if (this.#isRoom) this.#room?.();
    return text;
  }

  get #isRoom(): boolean {
    return this.#entries.length < LIMITS.ndjsonLinesMax && this.#bytes < LIMITS.ndjsonBytesMax;
  }

  async #hasRoom(): Promise<void> {
    if (this.#isRoom || this.#isOver) return;
    await new Promise<void>((resolve) => {
      this.#room = resolve;
    });
  }

  #take(line: Line): void {
    const lineNumber = ++this.#lineNumber;
    if ('bytes' in line && isBlank(line.bytes)) return;
    const entry: Entry = { bytes: 'bytes' in line ? line.bytes.length : 0, answer: undefined };
    this.#entries.push(entry);
    this.#bytes += entry.bytes;
    this.#enqueueLine(line).then(
      ({ id, isNew }) => this.#answer(entry, JSON.stringify({ id, isNew })),
      (error: unknown) => this.#answer(entry, JSON.stringify({ line: lineNumber, ...toProblem(error) })),
    );
  }

  /** Not itself asynchronous up to where it enqueues: all lines of a chunk are enqueued in one turn. */
  async #enqueueLine(line: Line): Promise<SubmittedTask> {
    if ('tooLong' in line) {
      const bound = LIMITS.ndjsonLineBytesMax;
      const message = `the line has ${line.tooLong} bytes; at most ${bound} are allowed: store large data elsewhere and enqueue where it is`;
      throw new MillraceError('PAYLOAD_TOO_LARGE', message, { details: { bytes: line.tooLong, bound } });
    }
    if (!isUtf8(line.bytes)) throw new MillraceError('INVALID_ARGUMENT', 'the line is not UTF-8');
    const text = line.bytes.toString();
    return await this.#enqueue(parse(text), text);
  }

  /** Stands for the line that is not read any more. */
  #refuseNext(reason: MillraceError): void {
    const entry: Entry = { bytes: 0, answer: undefined };
    this.#entries.push(entry);
    this.#answer(entry, JSON.stringify({ line: this.#lineNumber + 1, ...toProblem(reason) }));
  }

  #answer(entry: Entry, text: string): void {
    entry.answer = `${text}\n`;
    if (this.#entries[0] === entry) this.#progressed?.();
  }

  #wake(): void {
    this.#progressed?.();
    this.#room?.();
  }
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new MillraceError('INVALID_ARGUMENT', `the line is not JSON: ${(cause as Error).message}`, { cause });
  }
}

/** Also what is left of an empty line that ends with CR LF. */
function isBlank(bytes: Buffer): boolean {
  return bytes.every((byte) => byte === 0x20 || byte === 0x09 || byte === 0x0d);
}
