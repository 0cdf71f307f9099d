/**
 * Which deliveries of one channel are finished, so that as many as possible are acknowledged with one frame: up to the
 * last before the first unfinished one together, the others one by one. An acknowledgement never covers an unfinished one.
 */
const OPEN = 0;
const FINISHED = 1;
const ANSWERED = 2;

export class Acknowledgements {
  /** Of delivery tag `#base + i`. */
  #states: number[] = [];
  #base = 1;
  /** Finished and not acknowledged yet, in no order. */
  #finished: number[] = [];

  /** Tags come one after the other. */
  delivered(tag: number): void {
    while (this.#base + this.#states.length <= tag) this.#states.push(OPEN);
  }

  finished(tag: number): void {
    if (this.#states[tag - this.#base] !== OPEN) return;
    this.#states[tag - this.#base] = FINISHED;
    this.#finished.push(tag);
  }

  /** It was answered in another way (basic.nack). */
  answered(tag: number): void {
    if (tag >= this.#base) this.#states[tag - this.#base] = ANSWERED;
  }

  get empty(): boolean {
    return this.#finished.length === 0;
  }

  /** Acknowledges all that is finished. */
  flush(ack: (tag: number, multiple: boolean) => void): void {
    const states = this.#states;
    let end = 0;
    let last = -1;
    while (end < states.length && states[end] !== OPEN) {
      if (states[end] === FINISHED) last = end;
      end++;
    }
    if (last !== -1) ack(this.#base + last, true);
    states.splice(0, end);
    this.#base += end;
    for (const tag of this.#finished) {
      if (tag < this.#base) continue;
      ack(tag, false);
      states[tag - this.#base] = ANSWERED;
    }
    this.#finished = [];
  }
}
