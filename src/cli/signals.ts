export const STOP_SIGNALS = ['SIGTERM', 'SIGINT', 'SIGHUP'] as const;
/** Of whoever takes SIGHUP for something else. */
export const STOP_SIGNALS_BUT_HANGUP = ['SIGTERM', 'SIGINT'] as const;

/** npm and shells pass on a signal that the terminal has sent already: so soon after the first it is the same one. */
const SAME_SIGNAL_MS = 100;

export interface StopSignal {
  /** Resolves with the first one. */
  readonly received: Promise<NodeJS.Signals>;
  /** Signals do again what they do by default. */
  release(): void;
}

/** The first signal asks for a graceful stop; the second means it: the process ends at once with exit code 1. */
export function catchStopSignals(
  onSecond: (signal: NodeJS.Signals) => void,
  signals: readonly NodeJS.Signals[] = STOP_SIGNALS,
): StopSignal {
  let firstAtMs: number | undefined;
  let resolve: (signal: NodeJS.Signals) => void;
  const received = new Promise<NodeJS.Signals>((resolved) => {
    resolve = resolved;
  });
  const listener = (signal: NodeJS.Signals): void => {
    if (firstAtMs === undefined) {
      firstAtMs = performance.now();
      resolve(signal);
    } else if (performance.now() - firstAtMs > SAME_SIGNAL_MS) {
      onSecond(signal);
      // An exit waits for writes that hang in the system; then a third one ends it.
      release();
      process.exit(1);
    }
  };
  const release = (): void => {
    for (const signal of signals) process.off(signal, listener);
  };
  for (const signal of signals) process.on(signal, listener);
  return { received, release };
}
