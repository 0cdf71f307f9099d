import type { Grant } from './grant.ts';

/**
 * Of what the server has for all, who may use some queues only gets half at most, over all his connections and requests: so he
 * cannot take or fill everything, and the rest is for others.
 */
export function shareOf(limit: number): number {
  return Math.ceil(limit / 2);
}

/** Something that somebody makes the server hold. */
interface Held {
  readonly grant: Grant;
}

/**
 * What has to go until the others fit: that with the most first, and before it, of who may use some queues only, what is beyond
 * his share. `sum` is what all hold.
 */
export function beyondBound<Each extends Held>(
  all: Iterable<Each>,
  bytesMax: number,
  bytesOf: (each: Each) => number,
): { sum: number; largest: Each[] } {
  let sum = 0;
  const ofGrant = new Map<string, number>();
  for (const each of all) {
    const bytes = bytesOf(each);
    sum += bytes;
    const { name, ofAllQueues } = each.grant;
    if (name !== undefined && !ofAllQueues) ofGrant.set(name, (ofGrant.get(name) ?? 0) + bytes);
  }
  const largest: Each[] = [];
  if (sum <= bytesMax) return { sum, largest };
  const beyond = ({ grant: { name = '' } }: Each): number => Math.max(0, (ofGrant.get(name) ?? 0) - shareOf(bytesMax));
  let rest = sum;
  for (const each of [...all].sort((a, b) => beyond(b) - beyond(a) || bytesOf(b) - bytesOf(a))) {
    if (rest <= bytesMax) break;
    largest.push(each);
    rest -= bytesOf(each);
  }
  return { sum, largest };
}

/** Something of which there is only so much at the same time, and who has how much of it. */
export class Pool {
  readonly #limit: number;
  /** Of grants for some queues, by their names. */
  readonly #ofGrant = new Map<string, number>();
  #taken = 0;

  constructor(limit: number) {
    this.#limit = limit;
  }

  get taken(): number {
    return this.#taken;
  }

  /** Undefined when there is room for `amount` more; else how much is taken, by whom, and the bound. */
  shortage(grant: Grant, amount = 1): { taken: number; bound: number; by: string } | undefined {
    if (this.#taken + amount > this.#limit) return { taken: this.#taken, bound: this.#limit, by: '' };
    const { name, ofAllQueues } = grant;
    if (ofAllQueues || name === undefined) return undefined;
    const taken = this.#ofGrant.get(name) ?? 0;
    const bound = shareOf(this.#limit);
    return taken + amount <= bound ? undefined : { taken, bound, by: ' with these credentials' };
  }

  /** Whether there was room or not; `give` it back. */
  take(grant: Grant, amount = 1): void {
    this.#taken += amount;
    this.#count(grant, amount);
  }

  give(grant: Grant, amount = 1): void {
    this.#taken -= amount;
    this.#count(grant, -amount);
  }

  #count({ name, ofAllQueues }: Grant, amount: number): void {
    if (ofAllQueues || name === undefined) return;
    const taken = (this.#ofGrant.get(name) ?? 0) + amount;
    if (taken === 0) this.#ofGrant.delete(name);
    else this.#ofGrant.set(name, taken);
  }
}
