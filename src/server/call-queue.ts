import { InvariantError, MillraceError } from '../errors.ts';
import { LIMITS } from '../limits.ts';
import { bodyBytesMax, FRAME } from '../protocol/frames.ts';
import { type Call, call } from './calls.ts';

interface Waiting {
  requestId: number;
  message: Record<string, unknown>;
  bytes: number;
}

export interface CallSink {
  /** How many more bytes the link may be given. */
  room(): number;
  /** Begins soon, when others have had their turn. */
  turn(begin: () => void): void;
  run(request: Call): unknown;
  /**
   * Calls `written` when the answer is in the link. `urgent`: without waiting for the disk, which whoever asks how things
   * stand wants to hear of.
   */
  reply(requestId: number, body: string, written: () => void, urgent: boolean): void;
  refuse(requestId: number, error: MillraceError): void;
  /** A call that waited has begun. */
  begun(): void;
}

/** The calls of one connection: begun in order, a few at a time, and while there is room for their answers. */
export class CallQueue {
  readonly #sink: CallSink;
  readonly #waiting: Waiting[] = [];
  #running = 0;
  #waitingBytes = 0;
  /** Answers that wait for the disk. */
  #replyBytes = 0;
  #closed = false;

  constructor(sink: CallSink) {
    this.#sink = sink;
  }

  /** What calls that have not begun take. */
  get waitingBytes(): number {
    return this.#waitingBytes;
  }

  /** `bytes` are those of its frame. Throws BUFFER_FULL. */
  add(requestId: number, message: Record<string, unknown>, bytes: number): void {
    const count = this.#waiting.length + this.#running;
    if (count >= LIMITS.callsInFlightPerConnectionMax) {
      const bound = LIMITS.callsInFlightPerConnectionMax;
      const message = `${count} calls have no answer yet; at most ${bound} may: await some of them first`;
      throw new MillraceError('BUFFER_FULL', message, { details: { bound } });
    }
    this.#waiting.push({ requestId, message, bytes });
    this.#waitingBytes += bytes;
    this.go();
  }

  /** There may be room again. */
  go(): void {
    while (this.#running < LIMITS.callsAtOnceMax && this.#hasRoom) {
      const waiting = this.#waiting.shift();
      if (waiting === undefined) return;
      this.#waitingBytes -= waiting.bytes;
      this.#start(waiting);
      this.#sink.begun();
    }
  }

  close(): void {
    this.#closed = true;
    this.#waiting.length = 0;
    this.#waitingBytes = 0;
  }

  get #hasRoom(): boolean {
    return this.#sink.room() > this.#replyBytes;
  }

  #start(waiting: Waiting): void {
    this.#running++;
    this.#sink.turn(() => this.#run(waiting));
  }

  #run({ requestId, message, bytes }: Waiting): void {
    if (this.#closed) return;
    const urgent = message.method === 'status';
    Promise.resolve()
      .then(() => this.#sink.run(call(message, bytes)))
      .then((value) => JSON.stringify(value ?? {}))
      .then(
        (body) => this.#ended(() => this.#reply(requestId, body, urgent)),
        (error: unknown) => {
          if (!(error instanceof MillraceError)) throw new InvariantError('a call failed', { cause: error });
          this.#ended(() => this.#sink.refuse(requestId, error));
        },
      );
  }

  #ended(answer: () => void): void {
    this.#running--;
    if (this.#closed) return;
    answer();
    this.go();
  }

  #reply(requestId: number, body: string, urgent: boolean): void {
    const bytes = Buffer.byteLength(body);
    const bound = bodyBytesMax(FRAME.REPLY);
    if (bytes > bound) {
      const message = `the answer has ${bytes} bytes; at most ${bound} are sent: ask for fewer at a time`;
      this.#sink.refuse(requestId, new MillraceError('PAYLOAD_TOO_LARGE', message, { details: { bytes, bound } }));
      return;
    }
    this.#replyBytes += bytes;
    const written = (): void => {
      this.#replyBytes -= bytes;
    };
    this.#sink.reply(requestId, body, written, urgent);
  }
}
