import type { Broker, ConsumeOptions, Consumption, FailOptions, Payload, TaskError } from '../broker/contract.ts';
import { MillraceError } from '../errors.ts';
import type { Clock } from '../io/clock.ts';
import type { Random } from '../io/random.ts';
import { LIMITS } from '../limits.ts';
import { Handout, type HandoutOwner, type Lease } from './handout.ts';
import { LeaseDeadlines } from './lease-deadlines.ts';

export interface LeaseRequest {
  readonly queues: readonly string[];
  readonly tasksMax: number;
  readonly waitMs: number;
  readonly leaseMs: number;
  /** Shown in status. */
  readonly worker: string;
}

/** What becomes of a lease, by its id. */
export type Settlement = { readonly lease: string } & (
  | { readonly kind: 'complete'; readonly result: Payload | undefined }
  | { readonly kind: 'fail'; readonly error: TaskError; readonly options: FailOptions }
  | { readonly kind: 'release' }
);

/** As a worker's that was lost: at once, and counted. */
const LOST: FailOptions = { final: false, retryDelayMs: 0 };
const AGAIN: FailOptions = { final: false, retryDelayMs: undefined };

/** 128 bits. */
const ID_BYTES = 16;

/**
 * Tasks that are with clients of which nothing is known but what they say.
 *
 *   leased ──complete, fail, release──▶ settled
 *     ├── leaseMs is over ────────────▶ failed: WORKER_LOST
 *     ├── timeoutMs is over ──────────▶ failed: TASK_TIMEOUT
 *     ├── its request died unanswered ▶ released
 *     └── the backend took it away ───▶ lost
 *
 * A lease that is not `leased` is forgotten: whoever still names it gets LEASE_LOST.
 */
export class Leases implements HandoutOwner {
  readonly clock: Clock;
  readonly #broker: Broker;
  readonly #random: Random;
  readonly #leases = new Map<string, Lease>();
  readonly #deadlines: LeaseDeadlines<Lease>;
  readonly #waiting = new Set<Handout>();
  readonly #handouts = new Set<Handout>();
  #bytes = 0;
  #stopped: Promise<void> | undefined;
  #emptied: (() => void) | undefined;

  constructor(broker: Broker, { clock, random }: { clock: Clock; random: Random }) {
    this.clock = clock;
    this.#broker = broker;
    this.#random = random;
    this.#deadlines = new LeaseDeadlines(clock, (lease) => this.#expire(lease));
  }

  /** Of leases. */
  get size(): number {
    return this.#leases.size;
  }

  /**
   * Waits for tasks. Those that were handed out when `signal` is aborted, because the answer did not arrive, go back uncharged.
   * Rejects with BUFFER_FULL, STOPPING, and what the backend says.
   */
  async take(request: LeaseRequest, signal: AbortSignal): Promise<readonly Lease[]> {
    if (signal.aborted) return [];
    this.#checkRoom();
    const handout = new Handout(this, request.tasksMax);
    this.#waiting.add(handout);
    this.#handouts.add(handout);
    void handout.closed.then(() => this.#closed(handout));
    const gone = (): void => {
      handout.cancel();
      void this.#release(handout);
    };
    signal.addEventListener('abort', gone, { once: true });
    const { queues, tasksMax, worker } = request;
    const options: ConsumeOptions = { workerName: worker, queues, concurrency: tasksMax, prefetch: tasksMax };
    try {
      const leases = await handout.collect(this.#broker, options, request.waitMs);
      this.#bytes += handout.leasedBytes;
      this.#enter(leases, request.leaseMs);
      return leases;
    } finally {
      this.#waiting.delete(handout);
    }
  }

  /** Resolves when the backend has taken it. Rejects with LEASE_LOST, and with TIMEOUT when that is not known. */
  async settleOne(settlement: Settlement): Promise<void> {
    const { lost } = await this.settle([settlement]);
    if (lost.length > 0) throw leaseLost(settlement.lease);
  }

  /** Several, of which some may be lost. Rejects with TIMEOUT when of some it is not known. */
  async settle(settlements: readonly Settlement[]): Promise<{ settled: number; lost: string[] }> {
    const lost: string[] = [];
    const taken: Lease[] = [];
    const byHandout = new Map<Handout, [Lease, Settlement][]>();
    for (const settlement of settlements) {
      const lease = this.#leases.get(settlement.lease);
      if (lease === undefined) {
        lost.push(settlement.lease);
        continue;
      }
      this.#leave(lease);
      taken.push(lease);
      const group = byHandout.get(lease.handout);
      if (group === undefined) byHandout.set(lease.handout, [[lease, settlement]]);
      else group.push([lease, settlement]);
    }
    const groups = [...byHandout].map(([handout, group]) => settleGroup(handout, group));
    for (const answer of await Promise.allSettled(groups)) if (answer.status === 'rejected') throw answer.reason;
    for (const { id, lost: isLost } of taken) if (isLost) lost.push(id);
    return { settled: settlements.length - lost.length, lost };
  }

  /** From now on it has `leaseMs`, within its task's timeout. Throws LEASE_LOST. */
  extend(id: string, leaseMs: number): Lease {
    const lease = this.#leased(id);
    this.#deadlines.move(lease, Math.min(this.clock.steadyMs() + leaseMs, lease.timesOutAtMs));
    return lease;
  }

  /** `progress` is the JSON of a TaskProgress. Throws LEASE_LOST. */
  progress(id: string, progress: string): void {
    const { handout, run, index } = this.#leased(id);
    handout.tell((consumption) => consumption.progress(run, index, progress));
  }

  /** Throws LEASE_LOST. */
  log(id: string, text: string): void {
    const { handout, run, index } = this.#leased(id);
    handout.tell((consumption) => consumption.log(run, index, text));
  }

  /** Requests that wait get nothing, leases have `timeoutMs` to end, then go back uncharged. Always resolves. */
  stop({ timeoutMs }: { timeoutMs: number }): Promise<void> {
    this.#stopped ??= this.#stop(timeoutMs);
    return this.#stopped;
  }

  async #stop(timeoutMs: number): Promise<void> {
    for (const handout of this.#waiting) handout.cancel();
    await this.#empty(timeoutMs);
    for (const handout of this.#handouts) void this.#release(handout);
    await Promise.all([...this.#handouts].map((handout) => handout.closed));
    this.#deadlines.close();
  }

  #empty(timeoutMs: number): Promise<void> {
    if (this.#leases.size === 0 || timeoutMs <= 0) return Promise.resolve();
    return new Promise((resolve) => {
      const timer = this.clock.setTimer(timeoutMs, resolve);
      this.#emptied = () => {
        timer.cancel();
        resolve();
      };
    });
  }

  // ── HandoutOwner ──────────────────────────────────────────────────────────────────────────────────────────────────

  newLeaseId(): string {
    return this.#random.hex(ID_BYTES);
  }

  lost(lease: Lease): void {
    this.#leave(lease);
  }

  #closed(handout: Handout): void {
    this.#handouts.delete(handout);
    this.#bytes -= handout.leasedBytes;
  }

  // ── Leases ────────────────────────────────────────────────────────────────────────────────────────────────────────

  #checkRoom(): void {
    if (this.#stopped !== undefined) {
      throw new MillraceError('STOPPING', 'the server is stopping and leases no more tasks: ask again in a while');
    }
    const full = (what: string, value: number, bound: number): MillraceError =>
      new MillraceError('BUFFER_FULL', `${value} ${what}, and at most ${bound} may: ask again in a while`, {
        details: { value, bound },
      });
    if (this.#waiting.size >= LIMITS.leaseRequestsMax) {
      throw full('requests wait for tasks', this.#waiting.size, LIMITS.leaseRequestsMax);
    }
    if (this.#leases.size >= LIMITS.leasesMax) {
      throw full('tasks are leased', this.#leases.size, LIMITS.leasesMax);
    }
    if (this.#bytes >= LIMITS.leasedBytesMax) {
      throw full('bytes of payload are leased', this.#bytes, LIMITS.leasedBytesMax);
    }
  }

  #enter(leases: readonly Lease[], leaseMs: number): void {
    const nowMs = this.clock.steadyMs();
    const wallAheadMs = this.clock.wallMs() - nowMs;
    for (const lease of leases) {
      if (!lease.held) continue;
      lease.wallAheadMs = wallAheadMs;
      lease.timesOutAtMs = nowMs + lease.run.spec.timeoutMs;
      lease.endsAtMs = Math.min(nowMs + leaseMs, lease.timesOutAtMs);
      this.#leases.set(lease.id, lease);
      this.#deadlines.add(lease);
    }
  }

  /** It is nobody's any more. */
  #leave(lease: Lease): void {
    if (!this.#leases.delete(lease.id)) return;
    this.#deadlines.remove(lease);
    if (this.#leases.size === 0) this.#emptied?.();
  }

  #leased(id: string): Lease {
    const lease = this.#leases.get(id);
    if (lease === undefined) throw leaseLost(id);
    return lease;
  }

  /** Its deadline is over, and no longer among the others. */
  #expire(lease: Lease): void {
    this.#leases.delete(lease.id);
    if (this.#leases.size === 0) this.#emptied?.();
    const { run, index } = lease;
    const timedOut = lease.endsAtMs >= lease.timesOutAtMs;
    const error = timedOut ? timeoutError(run.spec.timeoutMs) : lostError();
    // Nobody waits for the answer; the handout repeats it until there is one.
    lease.handout
      .settle([lease], (consumption) => consumption.fail(run, index, error, timedOut ? AGAIN : LOST))
      .catch(() => {});
  }

  async #release(handout: Handout): Promise<void> {
    const held = handout.leases.filter((lease) => lease.held);
    if (held.length === 0) return;
    await this.settle(held.map(({ id }) => ({ kind: 'release', lease: id }))).catch(() => {});
  }
}

function settleGroup(handout: Handout, group: readonly [Lease, Settlement][]): Promise<void> {
  return handout.settle(
    group.map(([lease]) => lease),
    (consumption) => {
      for (const [lease, settlement] of group) apply(consumption, lease, settlement);
    },
  );
}

function apply(consumption: Consumption, { run, index }: Lease, settlement: Settlement): void {
  switch (settlement.kind) {
    case 'complete':
      consumption.complete(run, index, settlement.result);
      break;
    case 'fail':
      consumption.fail(run, index, settlement.error, settlement.options);
      break;
    case 'release':
      consumption.release(run, index);
      break;
    default:
      settlement satisfies never;
  }
}

function leaseLost(id: string): MillraceError {
  const message =
    'there is no such lease: it was settled, or ran out, or its task was taken away, or the server was started anew since';
  return new MillraceError('LEASE_LOST', message, { details: { lease: id } });
}

function lostError(): TaskError {
  const message = 'the lease ran out: nobody completed, failed, released or extended it in time';
  return { name: 'MillraceError', message, code: 'WORKER_LOST' };
}

function timeoutError(timeoutMs: number): TaskError {
  const message = `the attempt ran longer than its timeoutMs, ${timeoutMs} ms: raise it, or do less in one task`;
  return { name: 'MillraceError', message, code: 'TASK_TIMEOUT' };
}
