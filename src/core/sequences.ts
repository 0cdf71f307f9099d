import { invariant } from '../errors.ts';
import { SEQUENCE_COUNT } from '../ids.ts';

/** Numbers for ids, and for lease tokens: (epoch, counter), each counted from 0 in each epoch. */
export class Sequences {
  epoch = 0;
  #nextId = 0;
  #nextToken = 0;

  /** Ids and tokens from here on belong to `epoch`, which the journal must already hold. */
  begin(epoch: number): void {
    invariant(epoch > this.epoch, 'epochs only grow');
    this.epoch = epoch;
    this.#nextId = 0;
    this.#nextToken = 0;
  }

  /** Ids or tokens left in this epoch, the fewer of the two. */
  get left(): number {
    return SEQUENCE_COUNT - Math.max(this.#nextId, this.#nextToken);
  }

  /** The first of `count` consecutive new ids. */
  reserveIds(count: number): number {
    const first = this.epoch * SEQUENCE_COUNT + this.#nextId;
    this.#nextId += count;
    invariant(this.#nextId <= SEQUENCE_COUNT, 'an epoch has no id left');
    return first;
  }

  /** The low half of the next token. */
  get nextToken(): number {
    return this.#nextToken;
  }

  /** So many tokens were given out. */
  useTokens(count: number): void {
    this.#nextToken += count;
  }

  /** The token with this low half. */
  token(low: number): number {
    return this.epoch * SEQUENCE_COUNT + low;
  }
}
