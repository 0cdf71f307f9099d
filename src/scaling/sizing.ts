/** What workers have to do, and how fast they do it. Rates are per second. */
export interface Load {
  readonly arrivalRate: number;
  /** Attempts that end. */
  readonly endRate: number;
  /** Tasks that no handler has taken up. */
  readonly waiting: number;
  /** The workers behind `endRate`, each counted as the share of its handlers that was busy: 2.5 of four, perhaps. */
  readonly busyWorkers: number;
}

/** How busy workers are to be when there are as many as are needed: tasks do not arrive evenly. */
export const TARGET_UTILISATION = 0.8;

/**
 * How many workers keep up with what arrives and work off what waits within `drainMs`. Undefined while nothing ends, so
 * that nobody knows how fast a worker is.
 */
export function workersNeeded(
  { arrivalRate, endRate, waiting, busyWorkers }: Load,
  drainMs: number,
): number | undefined {
  if (endRate <= 0 || busyWorkers <= 0) return undefined;
  const rateOfOne = (endRate / busyWorkers) * TARGET_UTILISATION;
  return Math.ceil((arrivalRate + (waiting * 1000) / drainMs) / rateOfOne);
}
