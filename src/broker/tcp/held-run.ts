import { WireRun } from '../../protocol/delivery.ts';

/**
 * A task of a run is HELD until the worker settles it, SETTLED until the server answers, and then GONE; one that was lost
 * with a connection is GONE at once.
 */
const HELD = 0;
const SETTLED = 1;
const GONE = 2;

/** A run of deliveries with what became of each. */
export class HeldRun extends WireRun {
  /** Runs that were delivered earlier have lower ones. */
  order = 0;
  /** Tasks that are not GONE. */
  remaining = this.length;
  readonly #states = new Uint8Array(this.length);
  /** Tokens that a reconnect gave in place of the first ones. */
  #tokens: Map<number, number> | undefined;

  token(index: number): number {
    return this.#tokens?.get(index) ?? this.firstToken + index;
  }

  /** A reconnect: the task is still this worker's, under another token. */
  keep(index: number, token: number): void {
    this.#tokens ??= new Map();
    this.#tokens.set(index, token);
  }

  /** A reconnect: the task is no longer this worker's. */
  lose(index: number): void {
    this.#tokens ??= new Map();
    this.drop(index);
  }

  /** Whether no reconnect touched the run: every task is here and consecutive ones have consecutive tokens. */
  get whole(): boolean {
    return this.#tokens === undefined;
  }

  isHeld(index: number): boolean {
    return this.#states[index] === HELD;
  }

  isSettled(index: number): boolean {
    return this.#states[index] === SETTLED;
  }

  isGone(index: number): boolean {
    return this.#states[index] === GONE;
  }

  /** The worker is done with it. False when it was already, or the task was lost. */
  settle(index: number): boolean {
    if (this.#states[index] !== HELD) return false;
    this.#states[index] = SETTLED;
    return true;
  }

  drop(index: number): void {
    if (this.#states[index] === GONE) return;
    this.#states[index] = GONE;
    this.remaining--;
  }

  /** The index of a task of this run; -1 when it is none of its tasks, or gone. */
  indexOf(id: number): number {
    const index = id - this.firstId;
    return index >= 0 && index < this.length && !this.isGone(index) ? index : -1;
  }
}
