/** Which batches a producer has had confirmed or not yet, so that a repeated one gets the ids it already has. */
export interface ProducerState {
  producer: string;
  lastSeenMs: number;
  /** Batches below this are over: what became of them is forgotten. From here on, what is not in `batches` was never taken. */
  lowest: number;
  /** Triples of batch number, first id, task count; ascending by number, which need not be the order they came in. */
  batches: number[];
}

const TRIPLE = 3;

export class Producers {
  /** In order of last use: the first is the one to be dropped. */
  readonly #states = new Map<string, ProducerState>();
  readonly #producersMax: number;
  readonly #batchesMax: number;
  readonly #idleMs: number;

  constructor(limits: { producersMax: number; batchesMax: number; idleMs: number }) {
    this.#producersMax = limits.producersMax;
    this.#batchesMax = limits.batchesMax;
    this.#idleMs = limits.idleMs;
  }

  /** The batch's first id, -1 when it is new, or -2 when it is below `lowest`. */
  find(producer: string, batch: number): number {
    const state = this.#states.get(producer);
    if (state === undefined) return -1;
    if (batch < state.lowest) return -2;
    const { batches } = state;
    if (batches.length === 0 || batch > batches[batches.length - TRIPLE]) return -1;
    const at = placeOf(batches, batch);
    return batches[at] === batch ? batches[at + 1] : -1;
  }

  /** The lowest number that the producer may still send, 1 when it is not known. */
  lowest(producer: string): number {
    return this.#states.get(producer)?.lowest ?? 1;
  }

  /** Remembers a batch that `find` calls new. Batches below `lowestUnconfirmed` will never be asked for again. */
  remember(
    producer: string,
    batch: number,
    lowestUnconfirmed: number,
    firstId: number,
    count: number,
    nowMs: number,
  ): void {
    const state = this.#touch(producer, batch);
    state.lastSeenMs = nowMs;
    state.lowest = Math.max(state.lowest, lowestUnconfirmed);
    const { batches } = state;
    batches.splice(placeOf(batches, batch), 0, batch, firstId, count);
    if (batches.length > this.#batchesMax * TRIPLE) state.lowest = Math.max(state.lowest, batches[0] + 1);
    // Shifting a short array is cheap; the window bounds it.
    batches.splice(0, placeOf(batches, state.lowest));
  }

  /** The state of a producer, as the one that was used last. */
  #touch(producer: string, batch: number): ProducerState {
    const known = this.#states.get(producer);
    this.#states.delete(producer);
    // One that was taken although it is below was taken after the producer had been forgotten: a replay forgets it here.
    const state =
      known !== undefined && batch >= known.lowest ? known : { producer, lastSeenMs: 0, lowest: 1, batches: [] };
    if (known === undefined && this.#states.size >= this.#producersMax) this.#dropIdlest();
    this.#states.set(producer, state);
    return state;
  }

  expire(nowMs: number): void {
    for (const state of this.#states.values()) {
      if (state.lastSeenMs + this.#idleMs < nowMs) this.#states.delete(state.producer);
    }
  }

  export(): ProducerState[] {
    return [...this.#states.values()];
  }

  import(states: readonly ProducerState[]): void {
    for (const state of states) this.#states.set(state.producer, { ...state, batches: [...state.batches] });
  }

  #dropIdlest(): void {
    for (const producer of this.#states.keys()) {
      this.#states.delete(producer);
      return;
    }
  }
}

/** Where `batch` is among the triples, or would be. */
function placeOf(batches: readonly number[], batch: number): number {
  let at = 0;
  while (at < batches.length && batches[at] < batch) at += TRIPLE;
  return at;
}
