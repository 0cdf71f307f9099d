import type { Grant } from '../access/grant.ts';
import { shareOf } from '../access/share.ts';
import type { Clock } from '../io/clock.ts';
import { LIMITS } from '../limits.ts';
import type { parseScalingReport } from '../protocol/scaling-report.ts';

type Report = ReturnType<typeof parseScalingReport>;

interface Known {
  readonly report: Report;
  /** The name of the credentials. */
  readonly by: string;
  readonly heardMs: number;
}

/**
 * What supervisors of worker processes have said of themselves, in memory: they say it again every few seconds, so a server that
 * was started anew knows it soon.
 */
export class Supervisors {
  readonly #clock: Clock;
  /** By who says so and what he calls it, in the order in which they were heard of first. */
  readonly #known = new Map<string, Known>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** The grant is that of whoever says so: nobody speaks for the supervisors of others. */
  heard(report: Report, { name = '', ofAllQueues }: Grant): void {
    this.#forget();
    this.#known.set(`${name}\n${report.id}`, { report, by: name, heardMs: this.#clock.steadyMs() });
    if (!ofAllQueues) this.#bound((known) => known.by === name, shareOf(LIMITS.supervisorsMax));
    this.#bound(() => true, LIMITS.supervisorsMax);
  }

  /** Of these, those go that have been silent for longest. */
  #bound(isMeant: (known: Known) => boolean, countMax: number): void {
    const meant = [...this.#known].filter(([, known]) => isMeant(known));
    if (meant.length <= countMax) return;
    const [silent] = meant.sort(([, one], [, other]) => one.heardMs - other.heardMs);
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
