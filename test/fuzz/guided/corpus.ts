import { EDGES } from '../mutations.ts';

/** Uniform in [0, 1). */
export type Random = () => number;

/** Inputs that each ran something that none before had run, and what can be made of them. */
export class Corpus {
  readonly inputs: Buffer[] = [];
  readonly #random: Random;
  readonly #words: readonly Buffer[];
  readonly #bytesMax: number;

  /** `words`: what the format is made of, to be put in anywhere. */
  constructor(random: Random, words: readonly (string | Buffer)[], bytesMax: number) {
    this.#random = random;
    this.#words = words.map((word) => Buffer.from(word as string));
    this.#bytesMax = bytesMax;
  }

  add(input: Buffer): void {
    this.inputs.push(Buffer.from(input));
  }

  /** One of them, changed in a few places; the newest are taken more often. */
  next(): Buffer {
    let input: Buffer = Buffer.from(this.#pick());
    const changes = 1 + Math.floor(this.#random() ** 3 * 12);
    for (let change = 0; change < changes; change++) input = this.#change(input);
    return input.subarray(0, this.#bytesMax);
  }

  #pick(): Buffer {
    const { length } = this.inputs;
    const index = this.#random() < 0.3 ? length - 1 - this.#below(Math.min(length, 8)) : this.#below(length);
    return this.inputs[index] ?? Buffer.alloc(0);
  }

  #below(count: number): number {
    return Math.floor(this.#random() * count);
  }

  #one<T>(items: readonly T[]): T {
    return items[this.#below(items.length)] as T;
  }

  #change(bytes: Buffer): Buffer {
    const at = this.#below(bytes.length + 1);
    const count = 1 + Math.floor(this.#random() ** 2 * 32);
    switch (this.#below(9)) {
      case 0:
        if (at < bytes.length) bytes[at] ^= 1 << this.#below(8);
        return bytes;
      case 1:
        if (at < bytes.length) bytes[at] = this.#below(256);
        return bytes;
      case 2:
        if (at + 4 <= bytes.length) bytes.writeUInt32LE(this.#one(EDGES), at);
        return bytes;
      case 3:
        if (at < bytes.length) bytes[at] = (bytes[at] ?? 0) + this.#below(7) - 3;
        return bytes;
      case 4:
        return Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + count)]);
      case 5:
        return this.#insert(bytes, at, bytes.subarray(at, at + count));
      case 6:
        return this.#insert(bytes, at, this.#one(this.#words));
      case 7: {
        const other = this.#pick();
        const from = this.#below(other.length);
        return this.#insert(bytes, at, other.subarray(from, from + count * 4));
      }
      default: {
        const word = this.#one(this.#words);
        word.copy(bytes, at);
        return bytes;
      }
    }
  }

  #insert(bytes: Buffer, at: number, more: Uint8Array): Buffer {
    return Buffer.concat([bytes.subarray(0, at), more, bytes.subarray(at)]);
  }
}
