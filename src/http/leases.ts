import { EVERYTHING, type Grant } from '../access/grant.ts';
import type { Keyring } from '../access/keyring.ts';
import { Pool } from '../access/share.ts';
import type {
  Broker,
  ConsumeOptions,
  Consumption,
  DeliveryRun,
  FailOptions,
  Payload,
  TaskError,
} from '../broker/contract.ts';
import { MillraceError } from '../errors.ts';
import { type Clock, settlesWithin } from '../io/clock.ts';
import type { Random } from '../io/random.ts';
import { LIMITS } from '../limits.ts';
import { Lease } from './lease.ts';
import { LeaseDeadlines } from './lease-deadlines.ts';
import { type LeaseOptions, LeaseWorker, type LeaseWorkerOwner } from './lease-worker.ts';

export interface LeaseRequest {
  /** Of whoever asks. */
  readonly grant: Grant;
  /** As he meets it. */
  readonly broker: Broker;
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

/** How long a stop waits for the backend once nothing is leased any more. */
const CLOSE_TIMEOUT_MS = 5000;

/** 128 bits. */
const ID_BYTES = 16;

/**
 * Tasks that are with clients of which nothing is known but what they say.
 *
 *   leased ──complete, fail, release──▶ settled
 *     ├── leaseMs is over ────────────▶ failed: WORKER_LOST
 *     ├── timeoutMs is over ──────────▶ failed: TASK_TIMEOUT
 *     ├── its request died unanswered ▶ released
 *     ├── whose it is may not any more ▶ failed: WORKER_LOST
 *     └── the backend took it away ───▶ lost
 *
 * A lease that is not `leased` is forgotten: whoever still names it gets LEASE_LOST.
 */
export class Leases implements LeaseWorkerOwner {
  readonly clock: Clock;
  readonly #random: Random;
  readonly #keyring: Keyring;
  readonly #leases = new Map<string, Lease>();
  readonly #deadlines: LeaseDeadlines<Lease>;
  readonly #workers = new Set<LeaseWorker>();
  /** By what they are asked for. */
  readonly #idle = new Map<string, Set<LeaseWorker>>();
  readonly #waiting = new Pool(LIMITS.leaseRequestsMax);
  readonly #leased = new Pool(LIMITS.leasesMax);
  /** Of payloads, until all leases of their answer are over. */
  readonly #bytes = new Pool(LIMITS.leasedBytesMax);
  readonly #forgetKeyring: () => void;
  #stopped: Promise<void> | undefined;
  #emptied: (() => void) | undefined;

  constructor({ clock, random, keyring }: { clock: Clock; random: Random; keyring: Keyring }) {
    this.clock = clock;
    this.#random = random;
    this.#keyring = keyring;
    this.#forgetKeyring = keyring.onReplaced(() => this.#disownRevoked());
    this.#deadlines = new LeaseDeadlines(clock, (lease) => this.#expire(lease));
  }

  /**
   * Waits for tasks. Those that were handed out when `signal` is aborted, because the answer did not arrive, go back uncharged.
   * Rejects with BUFFER_FULL, STOPPING, UNAUTHENTICATED or FORBIDDEN when whoever asks may not any more, and what the backend says.
   */
  async take(request: LeaseRequest, signal: AbortSignal): Promise<readonly Lease[]> {
    if (signal.aborted) return [];
    const { grant, broker, queues, tasksMax, leaseMs, worker: workerName } = request;
    this.#checkRoom(grant);
    const untilMs = this.clock.steadyMs() + request.waitMs;
    this.#waiting.take(grant);
    try {
      const options: ConsumeOptions = { workerName, queues, concurrency: tasksMax, prefetch: tasksMax };
      const worker = this.#takeIdle(options, grant) ?? (await this.#newWorker(options, grant, broker));
      const leases = await worker.collect(untilMs - this.clock.steadyMs(), leaseMs, signal);
      signal.addEventListener('abort', () => void this.#release(leases), { once: true });
      return leases;
    } finally {
      this.#waiting.give(grant);
    }
  }

  /** Resolves when the backend has taken it. Rejects with LEASE_LOST, and with TIMEOUT when that is not known. */
  async settleOne(settlement: Settlement, grant: Grant): Promise<void> {
    const { lost } = await this.settle([settlement], grant);
    if (lost.length > 0) throw leaseLost(settlement.lease);
  }

  /** Several, of which some may be lost. Rejects with TIMEOUT when of some it is not known. */
  async settle(settlements: readonly Settlement[], grant: Grant): Promise<{ settled: number; lost: string[] }> {
    const lost: string[] = [];
    const taken: Lease[] = [];
    const byWorker = new Map<LeaseWorker, [Lease, Settlement][]>();
    for (const settlement of settlements) {
      const lease = this.#find(settlement.lease, grant);
      if (lease === undefined) {
        lost.push(settlement.lease);
        continue;
      }
      this.#leave(lease);
      taken.push(lease);
      const group = byWorker.get(lease.worker);
      if (group === undefined) byWorker.set(lease.worker, [[lease, settlement]]);
      else group.push([lease, settlement]);
    }
    const groups = [...byWorker].map(([worker, group]) => settleGroup(worker, group));
    for (const answer of await Promise.allSettled(groups)) if (answer.status === 'rejected') throw answer.reason;
    for (const { id, lost: isLost } of taken) if (isLost) lost.push(id);
    return { settled: settlements.length - lost.length, lost };
  }

  /** From now on it has `leaseMs`, within its task's timeout. Throws LEASE_LOST. */
  extend(id: string, leaseMs: number, grant: Grant): Lease {
    const lease = this.#held(id, grant);
    lease.leaseMs = leaseMs;
    this.#deadlines.move(lease, Math.min(this.clock.steadyMs() + leaseMs, lease.timesOutAtMs));
    return lease;
  }

  /** `progress` is the JSON of a TaskProgress. Throws LEASE_LOST. */
  progress(id: string, progress: string, grant: Grant): void {
    const { worker, run, index } = this.#held(id, grant);
    worker.tell((consumption) => consumption.progress(run, index, progress));
  }

  /** Throws LEASE_LOST. */
  log(id: string, text: string, grant: Grant): void {
    const { worker, run, index } = this.#held(id, grant);
    worker.tell((consumption) => consumption.log(run, index, text));
  }

  /** Requests that wait get nothing, leases have `timeoutMs` to end, then go back uncharged. Always resolves. */
  stop({ timeoutMs }: { timeoutMs: number }): Promise<void> {
    this.#stopped ??= this.#stop(timeoutMs);
    return this.#stopped;
  }

  async #stop(timeoutMs: number): Promise<void> {
    for (const worker of this.#workers) worker.retire();
    await this.#empty(timeoutMs);
    void this.#release([...this.#leases.values()]);
    // A backend that is away is not waited for: it takes back what is with a client that has closed.
    await settlesWithin(this.clock, CLOSE_TIMEOUT_MS, Promise.all([...this.#workers].map((worker) => worker.closed)));
    this.#deadlines.close();
    this.#forgetKeyring();
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

  // ── Workers ───────────────────────────────────────────────────────────────────────────────────────────────────────

  #takeIdle(options: ConsumeOptions, grant: Grant): LeaseWorker | undefined {
    const [worker] = this.#idle.get(keyOf(options, grant)) ?? [];
    if (worker !== undefined) this.notIdle(worker);
    return worker;
  }

  async #newWorker(options: ConsumeOptions, grant: Grant, broker: Broker): Promise<LeaseWorker> {
    const worker = new LeaseWorker(this, options, grant);
    this.#workers.add(worker);
    void worker.closed.then(() => this.#workers.delete(worker));
    await worker.open(broker);
    if (this.#stopped !== undefined) worker.retire();
    // Taken back meanwhile: it was told before it was open.
    const reason = this.#keyring.revocation(grant);
    if (reason !== undefined) worker.disown(reason);
    return worker;
  }

  /** As when their connection is cut off: what they have goes to others. */
  #disownRevoked(): void {
    const disowned = new Set<LeaseWorker>();
    for (const worker of this.#workers) {
      const reason = this.#keyring.revocation(worker.grant);
      if (reason === undefined) continue;
      disowned.add(worker);
      worker.disown(reason);
    }
    for (const lease of [...this.#leases.values()]) {
      if (!disowned.has(lease.worker)) continue;
      this.#leave(lease);
      this.#fail(lease, disownedError(), LOST);
    }
  }

  lease(
    worker: LeaseWorker,
    run: DeliveryRun,
    index: number,
    { leaseMs, payloadBytes }: LeaseOptions,
  ): Lease | undefined {
    const { grant } = worker;
    if (this.#leased.shortage(grant) !== undefined || this.#bytes.shortage(grant) !== undefined) return undefined;
    const lease = new Lease(this.#random.hex(ID_BYTES), worker, run, index, leaseMs, this.clock);
    this.#leases.set(lease.id, lease);
    this.#leased.take(grant);
    this.#bytes.take(grant, payloadBytes);
    this.#deadlines.add(lease);
    return lease;
  }

  lost(lease: Lease): void {
    this.#leave(lease);
  }

  freed({ grant }: LeaseWorker, bytes: number): void {
    this.#bytes.give(grant, bytes);
  }

  idle(worker: LeaseWorker): void {
    const key = keyOf(worker.options, worker.grant);
    const others = this.#idle.get(key);
    if (others === undefined) this.#idle.set(key, new Set([worker]));
    else others.add(worker);
  }

  notIdle(worker: LeaseWorker): void {
    const key = keyOf(worker.options, worker.grant);
    const others = this.#idle.get(key);
    others?.delete(worker);
    if (others?.size === 0) this.#idle.delete(key);
  }

  // ── Leases ────────────────────────────────────────────────────────────────────────────────────────────────────────

  #checkRoom(grant: Grant): void {
    if (this.#stopped !== undefined) {
      throw new MillraceError('STOPPING', 'the server is stopping and leases no more tasks: ask again in a while');
    }
    for (const [pool, what] of [
      [this.#waiting, 'requests wait for tasks'],
      [this.#leased, 'tasks are leased'],
      [this.#bytes, 'bytes of payload are leased'],
    ] as const) {
      const shortage = pool.shortage(grant);
      if (shortage === undefined) continue;
      const { taken: value, bound, by } = shortage;
      const message = `${value} ${what}${by}, and at most ${bound} may: ask again in a while`;
      throw new MillraceError('BUFFER_FULL', message, { details: { value, bound } });
    }
  }

  /** It is nobody's any more. */
  #leave(lease: Lease): void {
    if (!this.#leases.has(lease.id)) return;
    this.#deadlines.remove(lease);
    this.#forget(lease);
  }

  #forget(lease: Lease): void {
    this.#leases.delete(lease.id);
    this.#leased.give(lease.worker.grant);
    if (this.#leases.size === 0) this.#emptied?.();
  }

  /** Undefined also for one of a queue that the grant does not cover: that somebody has seen its id does not make it his. */
  #find(id: string, grant: Grant): Lease | undefined {
    const lease = this.#leases.get(id);
    return lease !== undefined && grant.covers(lease.run.spec.queue) ? lease : undefined;
  }

  #held(id: string, grant: Grant): Lease {
    const lease = this.#find(id, grant);
    if (lease === undefined) throw leaseLost(id);
    return lease;
  }

  /** Its deadline is over, and no longer among the others. */
  #expire(lease: Lease): void {
    this.#forget(lease);
    if (lease.endsAtMs >= lease.timesOutAtMs) this.#fail(lease, timeoutError(lease.run.spec.timeoutMs), AGAIN);
    else this.#fail(lease, lostError(lease.leaseMs), LOST);
  }

  /** It is forgotten here. */
  #fail(lease: Lease, error: TaskError, options: FailOptions): void {
    const { run, index } = lease;
    // Nobody waits for the answer; the worker repeats it until there is one.
    lease.worker
      .settle([lease], (consumption) => consumption.fail(run, index, error, options, lease.wallMs(lease.beganAtMs)))
      .catch(() => {});
  }

  /** Those that are still held go back uncharged. */
  async #release(leases: readonly Lease[]): Promise<void> {
    const held = leases.filter((lease) => lease.held);
    if (held.length === 0) return;
    // Nobody waits for the answer; what it does not take it takes back when the worker closes.
    await this.settle(
      held.map(({ id }) => ({ kind: 'release', lease: id })),
      EVERYTHING,
    ).catch(() => {});
  }
}

function keyOf({ workerName, queues, prefetch }: ConsumeOptions, { name }: Grant): string {
  return JSON.stringify([name ?? null, workerName, prefetch, ...queues]);
}

function settleGroup(worker: LeaseWorker, group: readonly [Lease, Settlement][]): Promise<void> {
  return worker.settle(
    group.map(([lease]) => lease),
    (consumption) => {
      for (const [lease, settlement] of group) apply(consumption, lease, settlement);
    },
  );
}

function apply(consumption: Consumption, lease: Lease, settlement: Settlement): void {
  const { run, index } = lease;
  switch (settlement.kind) {
    case 'complete':
      consumption.complete(run, index, settlement.result);
      break;
    case 'fail':
      consumption.fail(run, index, settlement.error, settlement.options, lease.wallMs(lease.beganAtMs));
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

function lostError(leaseMs: number): TaskError {
  const message = `nobody completed, failed, released or extended the lease of ${leaseMs} ms in time`;
  return { name: 'MillraceError', message, code: 'WORKER_LOST' };
}

function disownedError(): TaskError {
  const message = 'the credentials of whoever had leased the task were taken back, or allow something else now';
  return { name: 'MillraceError', message, code: 'WORKER_LOST' };
}

function timeoutError(timeoutMs: number): TaskError {
  const message = `the attempt ran longer than its timeoutMs, ${timeoutMs} ms: raise it, or do less in one task`;
  return { name: 'MillraceError', message, code: 'TASK_TIMEOUT' };
}
