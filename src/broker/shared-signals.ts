/** Waits that end when a signal is aborted. One listener for all waits of a signal: Node warns of a leak at eleven. */
export class SharedSignals<Wait> {
  readonly #aborted: (wait: Wait, reason: unknown) => void;
  readonly #signals = new Map<AbortSignal, { waits: Set<Wait>; onAbort: () => void }>();

  /** `aborted` is called for each wait of a signal, and says `forget` for it. */
  constructor(aborted: (wait: Wait, reason: unknown) => void) {
    this.#aborted = aborted;
  }

  listen(signal: AbortSignal, wait: Wait): void {
    const known = this.#signals.get(signal);
    if (known !== undefined) {
      known.waits.add(wait);
      return;
    }
    const waits = new Set([wait]);
    const onAbort = (): void => {
      for (const each of waits) this.#aborted(each, signal.reason);
    };
    this.#signals.set(signal, { waits, onAbort });
    signal.addEventListener('abort', onAbort, { once: true });
  }

  /** The wait is over. */
  forget(signal: AbortSignal, wait: Wait): void {
    const known = this.#signals.get(signal);
    if (known?.waits.delete(wait) !== true || known.waits.size > 0) return;
    this.#signals.delete(signal);
    signal.removeEventListener('abort', known.onAbort);
  }
}
