/** Which batches a producer has had confirmed or not yet, so that a repeated one gets the ids it already has. */
export interface ProducerState {
  producer: string;
  lastSeenMs: number;
  /** Triples of batch number, first id, task count; ascending. */
  batches: number[];
}

const TRIPLE = 3;

export class Producers {
  readonly #states = new Map<string, ProducerState>();
  readonly #producersMax: number;
  readonly #batchesMax: number;
  readonly #idleMs: number;

  constructor(limits: { producersMax: number; batchesMax: number; idleMs: number }) {
    this.#producersMax = limits.producersMax;
    this.#batchesMax = limits.batchesMax;
    this.#idleMs = limits.idleMs;
  }

  /** The batch's first id, -1 when it is new, or -2 when it is older than what is remembered. */
  find(producer: string, batch: number): number {
    const state = this.#states.get(producer);
    if (state === undefined) return -1;
    const { batches } = state;
    if (batches.length === 0 || batch > batches[batches.length - TRIPLE]) return -1;
    for (let at = 0; at < batches.length; at += TRIPLE) {
      if (batches[at] === batch) return batches[at + 1];
    }
    return -2;
  }

  /** Batches below `lowestUnconfirmed` will never be asked for again. */
  remember(
    producer: string,
    batch: number,
    lowestUnconfirmed: number,
    firstId: number,
    count: number,
    nowMs: number,
  ): void {
    let state = this.#states.get(producer);
    if (state === undefined) {
      // Before it is added: after a restart with an earlier clock the newcomer would look like the idlest.
      if (this.#states.size >= this.#producersMax) this.#dropIdlest();
      state = { producer, lastSeenMs: nowMs, batches: [] };
      this.#states.set(producer, state);
    }
    state.lastSeenMs = nowMs;
    const { batches } = state;
    let stale = 0;
    while (stale < batches.length && batches[stale] < lowestUnconfirmed) stale += TRIPLE;
    if (batches.length - stale >= this.#batchesMax * TRIPLE) stale += TRIPLE;
    // Shifting a short array is cheap; the window bounds it.
    if (stale > 0) batches.splice(0, stale);
    batches.push(batch, firstId, count);
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
    let idlest: ProducerState | undefined;
    for (const state of this.#states.values()) {
      if (idlest === undefined || state.lastSeenMs < idlest.lastSeenMs) idlest = state;
    }
    if (idlest !== undefined) this.#states.delete(idlest.producer);
  }
}
