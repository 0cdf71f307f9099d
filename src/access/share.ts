import type { Grant } from './grant.ts';

/**
 * Of what the server has for all, who may use some queues only gets half at most, over all his connections and requests: so he
 * cannot take or fill everything, and the rest is for others.
 */
export function shareOf(limit: number): number {
  return Math.ceil(limit / 2);
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
