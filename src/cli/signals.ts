const STOP_SIGNALS = ['SIGTERM', 'SIGINT', 'SIGHUP'] as const;

export interface StopSignal {
  /** Resolves with the first one. */
  readonly received: Promise<NodeJS.Signals>;
  /** Signals do again what they do by default. */
  release(): void;
}

/** The first signal asks for a graceful stop; the second means it: the process ends at once with exit code 1. */
export function catchStopSignals(onSecond: (signal: NodeJS.Signals) => void): StopSignal {
  let count = 0;
  let resolve: (signal: NodeJS.Signals) => void;
  const received = new Promise<NodeJS.Signals>((resolved) => {
    resolve = resolved;
  });
  const listener = (signal: NodeJS.Signals): void => {
    if (++count === 1) {
      resolve(signal);
    } else {
      onSecond(signal);
      process.exit(1);
    }
  };
  for (const signal of STOP_SIGNALS) process.on(signal, listener);
  return {
    received,
    release: () => {
      for (const signal of STOP_SIGNALS) process.off(signal, listener);
    },
  };
}
