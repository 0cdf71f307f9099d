import { StringDecoder } from 'node:string_decoder';

/** A `\r` at the end may be the first half of a line's end. */
const LINE_END = /\r\n|\n|\r(?!$)/;

/**
 * The lines of what somebody else's program prints. One that is longer than `charactersMax` is cut there, and says so, as soon as
 * it has grown so long; the rest of it is dropped.
 */
export class OutputLines {
  readonly #charactersMax: number;
  readonly #onLine: (line: string) => void;
  readonly #decoder = new StringDecoder('utf8');
  /** Of a line that has not ended. */
  #begun = '';
  /** The line that has not ended was cut. */
  #isCut = false;

  constructor(charactersMax: number, onLine: (line: string) => void) {
    this.#charactersMax = charactersMax;
    this.#onLine = onLine;
  }

  push(chunk: Buffer): void {
    const lines = (this.#begun + this.#decoder.write(chunk)).split(LINE_END);
    this.#begun = lines.pop() ?? '';
    for (const line of lines) this.#endLine(line);
    const halfEnd = this.#begun.endsWith('\r') ? '\r' : '';
    if (this.#begun.length - halfEnd.length <= this.#charactersMax) return;
    if (!this.#isCut) this.#onLine(this.#cut(this.#begun));
    this.#isCut = true;
    this.#begun = halfEnd;
  }

  /** What has not ended is the last line. */
  end(): void {
    const last = this.#begun + this.#decoder.end();
    if (last !== '') this.#endLine(last.replace(/\r$/, ''));
  }

  #endLine(line: string): void {
    if (!this.#isCut) this.#onLine(line.length > this.#charactersMax ? this.#cut(line) : line);
    this.#isCut = false;
  }

  #cut(line: string): string {
    return `${line.slice(0, this.#charactersMax)}… (a line of more than ${this.#charactersMax} characters: the rest is left out)`;
  }
}
