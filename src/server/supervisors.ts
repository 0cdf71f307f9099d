import type { Clock } from '../io/clock.ts';
import { LIMITS } from '../limits.ts';
import type { parseScalingReport } from '../protocol/scaling-report.ts';

type Report = ReturnType<typeof parseScalingReport>;

/**
 * What supervisors of worker processes have said of themselves, in memory: they say it again every few seconds, so a server that
 * was started anew knows it soon.
 */
export class Supervisors {
  readonly #clock: Clock;
  /** In the order in which they were heard of first. */
  readonly #known = new Map<string, { report: Report; heardMs: number }>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  heard(report: Report): void {
    this.#forget();
    this.#known.set(report.id, { report, heardMs: this.#clock.steadyMs() });
    if (this.#known.size <= LIMITS.supervisorsMax) return;
    const [silent] = [...this.#known].sort(([, one], [, other]) => one.heardMs - other.heardMs);
    if (silent !== undefined) this.#known.delete(silent[0]);
  }

  /** The contract's SupervisorStatus of each. */
  list(): object[] {
    this.#forget();
    const nowMs = this.#clock.steadyMs();
    return [...this.#known.values()].map(({ report, heardMs }) => ({
      ...report,
      lastSeenMs: Math.round(nowMs - heardMs),
    }));
  }

  #forget(): void {
    const nowMs = this.#clock.steadyMs();
    for (const [id, { heardMs }] of this.#known) {
      if (nowMs - heardMs > LIMITS.scalingForgottenMs) this.#known.delete(id);
    }
  }
}
