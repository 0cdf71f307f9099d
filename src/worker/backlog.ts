import type { DeliveryRun } from '../broker/contract.ts';

/** Some of a run's tasks, from `from` to before `to`. */
interface Entry {
  readonly run: DeliveryRun;
  from: number;
  readonly to: number;
  /** Runs that were delivered earlier have lower ones. */
  readonly order: number;
}

/** Deliveries that were not started yet, in order. */
export class Backlog {
  readonly #entries: Entry[] = [];
  #head = 0;
  #delivered = 0;
  /** Tasks that were not started; revoked ones may be among them. */
  size = 0;
  /** Tasks that were revoked before they started. */
  readonly #revoked = new Map<DeliveryRun, Set<number>>();

  /** The run whose task is next; undefined when there is none. */
  get run(): DeliveryRun | undefined {
    return this.#entries[this.#head]?.run;
  }

  /** Index of the next task in `run`. */
  get index(): number {
    return (this.#entries[this.#head] as Entry).from;
  }

  /** Which of the deliveries `run` was. */
  get order(): number {
    return (this.#entries[this.#head] as Entry).order;
  }

  push(run: DeliveryRun): void {
    this.#entries.push({ run, from: 0, to: run.length, order: this.#delivered++ });
    this.size += run.length;
  }

  /** Tasks that were taken and did not start after all stand where they stood; `order` as it was. */
  putBack(run: DeliveryRun, from: number, to: number, order: number): void {
    let at = this.#head;
    for (let entry = this.#entries[at]; entry !== undefined; entry = this.#entries[++at]) {
      if (entry.order > order || (entry.order === order && entry.from > from)) break;
    }
    this.#entries.splice(at, 0, { run, from, to, order });
    this.size += to - from;
  }

  /** How many of the next tasks, at most `max`, can be taken together. */
  available(max: number): number {
    const entry = this.#entries[this.#head];
    if (entry === undefined) return 0;
    const count = Math.min(max, entry.to - entry.from);
    const revoked = this.#revoked.get(entry.run);
    if (revoked === undefined) return count;
    for (let offset = 0; offset < count; offset++) if (revoked.has(entry.from + offset)) return offset;
    return count;
  }

  take(count: number): void {
    this.#advance(this.#entries[this.#head] as Entry, count);
    this.#skip();
  }

  /** False when the task is not waiting here. */
  revoke(run: DeliveryRun, index: number): boolean {
    if (!this.#holds(run, index)) return false;
    const revoked = this.#revoked.get(run);
    if (revoked === undefined) this.#revoked.set(run, new Set([index]));
    else revoked.add(index);
    this.#skip();
    return true;
  }

  /** Takes everything out. */
  drain(each: (run: DeliveryRun, index: number) => void): void {
    for (let run = this.run; run !== undefined; run = this.run) {
      const { index } = this;
      this.take(1);
      each(run, index);
    }
  }

  #holds(run: DeliveryRun, index: number): boolean {
    for (let at = this.#head; at < this.#entries.length; at++) {
      const entry = this.#entries[at] as Entry;
      if (entry.run === run && index >= entry.from && index < entry.to) return true;
    }
    return false;
  }

  #advance(entry: Entry, count: number): void {
    entry.from += count;
    this.size -= count;
  }

  /** Moves on to the next task that was not revoked. */
  #skip(): void {
    for (let entry = this.#entries[this.#head]; entry !== undefined; entry = this.#entries[this.#head]) {
      if (this.#revoked.size > 0) {
        const revoked = this.#revoked.get(entry.run);
        while (entry.from < entry.to && revoked?.delete(entry.from) === true) this.#advance(entry, 1);
        if (revoked?.size === 0) this.#revoked.delete(entry.run);
      }
      if (entry.from < entry.to) return;
      this.#head++;
      if (this.#head < 64 && this.#head < this.#entries.length) continue;
      this.#entries.splice(0, this.#head);
      this.#head = 0;
    }
  }
}
