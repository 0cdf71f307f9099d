import type { Random } from '../../src/io/random.ts';

/**
 * All chance of a simulation. A stream is named, and its draws depend on the seed and its name only: leaving one fault
 * out does not change what the others do.
 */
export class SimRandom implements Random {
  readonly #name: string;
  #a: number;
  #b: number;
  #c: number;
  #counter = 1;

  constructor(name: string | number) {
    this.#name = String(name);
    let hash = 0x811c9dc5;
    const next = (): number => {
      for (let i = 0; i < this.#name.length; i++) hash = Math.imul(hash ^ this.#name.charCodeAt(i), 0x01000193);
      hash = Math.imul(hash ^ (hash >>> 15), 0x2c1b3c6d) ^ 0x9e3779b9;
      return (hash ^ (hash >>> 13)) >>> 0;
    };
    this.#a = next();
    this.#b = next();
    this.#c = next();
    for (let i = 0; i < 12; i++) this.u32();
  }

  fork(name: string): SimRandom {
    return new SimRandom(`${this.#name}/${name}`);
  }

  /** sfc32. */
  u32(): number {
    const sum = (this.#a + this.#b + this.#counter) | 0;
    this.#counter = (this.#counter + 1) | 0;
    this.#a = this.#b ^ (this.#b >>> 9);
    this.#b = (this.#c + (this.#c << 3)) | 0;
    this.#c = ((this.#c << 21) | (this.#c >>> 11)) + sum;
    return sum >>> 0;
  }

  float(): number {
    return this.u32() / 2 ** 32;
  }

  hex(byteCount: number): string {
    let text = '';
    while (text.length < byteCount * 2) text += this.u32().toString(16).padStart(8, '0');
    return text.slice(0, byteCount * 2);
  }

  chance(share: number): boolean {
    return this.float() < share;
  }

  /** A whole number, both ends included. */
  int(min: number, max: number): number {
    return min + Math.floor(this.float() * (max - min + 1));
  }

  between(min: number, max: number): number {
    return min + this.float() * (max - min);
  }

  /** Mostly short, sometimes several times the mean. */
  exponential(mean: number): number {
    return -Math.log(1 - this.float()) * mean;
  }

  /** Magnitudes are drawn evenly: as often 1 to 10 as 10 to 100. */
  magnitude(min: number, max: number): number {
    return min * (max / min) ** this.float();
  }

  pick<T>(list: readonly T[]): T {
    return list[Math.floor(this.float() * list.length)] as T;
  }

  weighted<T extends string>(weights: Readonly<Record<T, number>>): T {
    const entries = Object.entries(weights) as [T, number][];
    let left = this.float() * entries.reduce((sum, [, weight]) => sum + weight, 0);
    for (const [value, weight] of entries) {
      left -= weight;
      if (left < 0) return value;
    }
    return (entries[0] as [T, number])[0];
  }
}
