/** Which batches a producer has had confirmed or not yet, so that a repeated one gets the ids it already has. */
export interface ProducerState {
  producer: string;
  lastSeenMs: number;
  /** Batches below this are over: what became of them is forgotten. From here on, what is not in `batches` was never taken. */
  lowest: number;
  /** Triples of batch number, first id, task count; ascending by number, which need not be the order they came in. */
  batches: number[];
  /** By batch number, of the few that have any: pairs of index and id of tasks that were there already. */
  existing?: Record<number, Existing>;
}

export type Existing = readonly (readonly [number, number])[];

const TRIPLE = 3;

export class Producers {
  /** In order of last use: the first is the one to be dropped. */
  readonly #states = new Map<string, ProducerState>();
  readonly #producersMax: number;
  readonly #batchesMax: number;
  readonly #idleMs: number;
  readonly #allBatchesMax: number;
  #beganMs = Number.NEGATIVE_INFINITY;
  /** Batches of all producers, and the tasks in them that were there already. */
  #count = 0;
  #existingCount = 0;
  readonly #existingMax: number;

  /**
   * `batchesMax` of one producer, `allBatchesMax` of all together; `existingMax`: of all together, tasks that were there
   * already, and at least those of the last batch.
   */
  constructor(limits: {
    producersMax: number;
    batchesMax: number;
    allBatchesMax: number;
    existingMax: number;
    idleMs: number;
  }) {
    this.#existingMax = limits.existingMax;
    this.#allBatchesMax = limits.allBatchesMax;
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

  /** Of a batch that `find` finds: which of its tasks were there already. */
  existing(producer: string, batch: number): Existing {
    return this.#states.get(producer)?.existing?.[batch] ?? [];
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
    existing: Existing = [],
  ): void {
    const state = this.#touch(producer, batch);
    state.lastSeenMs = nowMs;
    state.lowest = Math.max(state.lowest, lowestUnconfirmed);
    const { batches } = state;
    batches.splice(placeOf(batches, batch), 0, batch, firstId, count);
    if (existing.length > 0) {
      state.existing = { ...state.existing, [batch]: existing };
      this.#existingCount += existing.length;
    }
    if (batches.length > this.#batchesMax * TRIPLE) state.lowest = Math.max(state.lowest, batches[0] + 1);
    this.#count++;
    this.#forgetBelowLowest(state);
    while (this.#isTooMuch && this.#states.size > 1) this.#dropIdlest();
    while (this.#existingCount > this.#existingMax && batches.length > TRIPLE) {
      state.lowest = batches[0] + 1;
      this.#forgetBelowLowest(state);
    }
  }

  get #isTooMuch(): boolean {
    return this.#count > this.#allBatchesMax || this.#existingCount > this.#existingMax;
  }

  #forgetBelowLowest(state: ProducerState): void {
    const { batches, lowest } = state;
    let over = 0;
    while (over < batches.length && batches[over] < lowest) over += TRIPLE;
    // Shifting a short array is cheap; the window bounds it.
    if (over > 0) batches.splice(0, over);
    this.#count -= over / TRIPLE;
    for (const [batch, existing] of Object.entries(state.existing ?? {})) {
      if (Number(batch) >= lowest) continue;
      delete state.existing?.[Number(batch)];
      this.#existingCount -= existing.length;
    }
  }

  /** The state of a producer, as the one that was used last. */
  #touch(producer: string, batch: number): ProducerState {
    const known = this.#states.get(producer);
    this.#states.delete(producer);
    // One that was taken although it is below was taken after the producer had been forgotten: a replay forgets it here.
    const state =
      known !== undefined && batch >= known.lowest ? known : { producer, lastSeenMs: 0, lowest: 1, batches: [] };
    if (known !== undefined && known !== state) this.#uncount(known);
    if (known === undefined && this.#states.size >= this.#producersMax) this.#dropIdlest();
    this.#states.set(producer, state);
    return state;
  }

  /** The server begins: none of them could have been seen while it was away. */
  begin(nowMs: number): void {
    this.#beganMs = nowMs;
  }

  /** Forgets those that were not seen for too long, while they could be. */
  expire(nowMs: number): void {
    for (const state of this.#states.values()) {
      if (Math.max(state.lastSeenMs, this.#beganMs) + this.#idleMs < nowMs) this.#drop(state);
    }
  }

  /** Batches that are remembered, of all and of one. */
  get batchCount(): number {
    return this.#count;
  }

  batchCountOf(producer: string): number {
    return (this.#states.get(producer)?.batches.length ?? 0) / TRIPLE;
  }

  forget(producer: string): void {
    const state = this.#states.get(producer);
    if (state !== undefined) this.#drop(state);
  }

  export(): ProducerState[] {
    return [...this.#states.values()];
  }

  import(states: readonly ProducerState[]): void {
    for (const state of states) {
      const known = this.#states.get(state.producer);
      if (known !== undefined) this.#drop(known);
      this.#states.set(state.producer, {
        ...state,
        batches: [...state.batches],
        ...(state.existing === undefined ? {} : { existing: { ...state.existing } }),
      });
      this.#count += state.batches.length / TRIPLE;
      this.#existingCount += existingOf(state);
    }
  }

  #dropIdlest(): void {
    for (const state of this.#states.values()) {
      this.#drop(state);
      return;
    }
  }

  #drop(state: ProducerState): void {
    this.#states.delete(state.producer);
    this.#uncount(state);
  }

  #uncount(state: ProducerState): void {
    this.#count -= state.batches.length / TRIPLE;
    this.#existingCount -= existingOf(state);
  }
}

function existingOf({ existing }: ProducerState): number {
  return Object.values(existing ?? {}).reduce((sum, { length }) => sum + length, 0);
}

/** Where `batch` is among the triples, or would be: usually at the end. */
function placeOf(batches: readonly number[], batch: number): number {
  let at = batches.length;
  while (at > 0 && batches[at - TRIPLE] >= batch) at -= TRIPLE;
  return at;
}
