/** One line, without its end; or how long one is that was too long to be kept. */
export type Line = { readonly bytes: Buffer } | { readonly tooLong: number };

const NEWLINE = 0x0a;

/** Cuts lines out of a stream of bytes. Of a line that is too long nothing is kept. */
export class NdjsonLines {
  readonly #bytesMax: number;
  #parts: Uint8Array[] = [];
  #length = 0;

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
  }

  /** The lines that end in this chunk. They may share its memory. */
  push(chunk: Uint8Array): Line[] {
    const lines: Line[] = [];
    let from = 0;
    for (let at = chunk.indexOf(NEWLINE); at !== -1; at = chunk.indexOf(NEWLINE, from)) {
      lines.push(this.#end(chunk.subarray(from, at)));
      from = at + 1;
    }
    this.#keep(chunk.subarray(from));
    return lines;
  }

  /** What came after the last line's end. */
  rest(): Line[] {
    return this.#length === 0 ? [] : [this.#end(new Uint8Array())];
  }

  #keep(part: Uint8Array): void {
    this.#length += part.length;
    if (this.#length > this.#bytesMax) this.#parts = [];
    else if (part.length > 0) this.#parts.push(part);
  }

  #end(part: Uint8Array): Line {
    this.#keep(part);
    const length = this.#length;
    const parts = this.#parts;
    this.#length = 0;
    this.#parts = [];
    if (length > this.#bytesMax) return { tooLong: length };
    const [first] = parts;
    return { bytes: first !== undefined && parts.length === 1 ? asBuffer(first) : Buffer.concat(parts) };
  }
}

function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
}
