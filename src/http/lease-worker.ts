import type { Grant } from '../access/grant.ts';
import type { Broker, ConsumeOptions, Consumer, Consumption, DeliveryRun } from '../broker/contract.ts';
import { InvariantError, MillraceError } from '../errors.ts';
import type { Clock, Timer } from '../io/clock.ts';
import { DEFAULTS, LIMITS } from '../limits.ts';
import type { Lease } from './lease.ts';

export interface LeaseOptions {
  readonly leaseMs: number;
  readonly payloadBytes: number;
}

/** What it needs of those who made it. */
export interface LeaseWorkerOwner {
  readonly clock: Clock;
  /** Undefined when there is no room for one. Its payload counts until `freed`. */
  lease(worker: LeaseWorker, run: DeliveryRun, index: number, options: LeaseOptions): Lease | undefined;
  /** It is not the client's any more, although nobody settled it. */
  lost(lease: Lease): void;
  /** Its leases are over. It may be asked again, until it has retired. */
  idle(worker: LeaseWorker): void;
  /** It may not be asked again. */
  notIdle(worker: LeaseWorker): void;
  /** So many bytes of payload are not held any more. */
  freed(worker: LeaseWorker, bytes: number): void;
}

/**
 * A worker as the backend sees it, which leases out what it gets, for one request at a time. It may hold as many tasks as the
 * request wants, so it gets no more.
 *
 *   collecting ──enough, quiet, time over──▶ leased ──all leases over──▶ idle ──asked again──▶ collecting
 *        │                                     │                          └── nobody came back in time ──▶ retired
 *        └── not as many came as were wanted, nobody waits any more ──▶ retired, and closed when all leases are over
 *
 * One whose leases were as many as wanted has no room until one is settled. What it then gets it keeps for a moment: whoever
 * has settled mostly asks again, and on some backends a new worker is expensive. What it does not lease out goes back
 * uncharged. It stays open until the backend has answered every settlement.
 */
export class LeaseWorker implements Consumer {
  /** Resolves when the backend has nothing more to do with it. */
  readonly closed: Promise<void>;
  readonly options: ConsumeOptions;
  /** Of those who ask it. */
  readonly grant: Grant;
  readonly #owner: LeaseWorkerOwner;
  readonly #clock: Clock;
  readonly #tasksMax: number;
  #consumption: Consumption | undefined;
  /** What came and was not leased out. */
  #runs: DeliveryRun[] = [];
  #count = 0;
  #bytes = 0;
  /** Of these, those that were taken away, or settled. */
  readonly #gone = new Map<DeliveryRun, Set<number>>();
  #leases: Lease[] = [];
  #heldCount = 0;
  #settling = 0;
  #leasedBytes = 0;
  #isCollecting = false;
  /** Ends the wait of the collecting. */
  #enough: (() => void) | undefined;
  #gatherUntilMs: number | undefined;
  /** Of the collecting, or of the patience. */
  #timer: Timer | undefined;
  /** How often the connection was lost: what was settled before and not answered may have been taken or not. */
  #breaks = 0;
  #stopped: Promise<void> | undefined;
  #ended: MillraceError | undefined;
  /** Why nobody may have its leases any more. */
  #disowned: MillraceError | undefined;
  #isClosing = false;
  #close: () => void = () => {};

  constructor(owner: LeaseWorkerOwner, options: ConsumeOptions, grant: Grant) {
    this.#owner = owner;
    this.#clock = owner.clock;
    this.options = options;
    this.grant = grant;
    this.#tasksMax = options.prefetch;
    this.closed = new Promise((resolve) => {
      this.#close = resolve;
    });
  }

  /** Once, before all else. Rejects with what the backend says. */
  async open(broker: Broker): Promise<void> {
    try {
      this.#consumption = await broker.consume(this.options, this);
    } catch (error) {
      this.#close();
      throw error;
    }
  }

  /** Resolves with what came, nothing after `waitMs`. Rejects with why the backend ended it, or whoever asked may not have it. */
  async collect(waitMs: number, leaseMs: number, signal: AbortSignal): Promise<readonly Lease[]> {
    const consumption = this.#opened;
    this.#isCollecting = true;
    this.#leases = [];
    await this.#gathered(waitMs, signal);
    this.#choose(consumption, signal.aborted || this.#disowned !== undefined ? undefined : leaseMs);
    this.#isCollecting = false;
    const leases = this.#leases;
    const last = leases.at(-1);
    if (last !== undefined) consumption.begun(last.run, last.index, true);
    if (leases.length < this.#tasksMax) this.retire();
    this.#checkOver();
    const refusal = this.#disowned ?? this.#ended;
    if (refusal !== undefined) throw refusal;
    return leases;
  }

  /** `act` settles these leases, which are held; resolves when the backend has answered. Rejects with TIMEOUT, or why it ended. */
  async settle(leases: readonly Lease[], act: (consumption: Consumption) => void): Promise<void> {
    const consumption = this.#opened;
    const breaks = this.#breaks;
    for (const lease of leases) lease.held = false;
    this.#heldCount -= leases.length;
    this.#settling++;
    try {
      act(consumption);
      await consumption.settled(DEFAULTS.callTimeoutMs);
    } finally {
      this.#settling--;
      this.#checkOver();
    }
    if (this.#ended !== undefined) throw this.#ended;
    if (breaks !== this.#breaks) throw unknownOutcome();
  }

  /** For what needs no answer. */
  tell(act: (consumption: Consumption) => void): void {
    act(this.#opened);
  }

  /** Whoever asks may not any more: what waits is refused, and what was not leased out goes back. Its leases are the owner's to end. */
  disown(reason: MillraceError): void {
    this.#disowned = reason;
    this.retire();
  }

  /** Takes no more tasks, and closes when its leases are over. */
  retire(): void {
    const consumption = this.#consumption;
    if (this.#stopped !== undefined || consumption === undefined) return;
    this.#timer?.cancel();
    // What it cannot be told it learns when the worker closes.
    this.#stopped = consumption.stop().catch(() => {});
    this.#owner.notIdle(this);
    if (this.#isCollecting) this.#enough?.();
    else this.#returnAll();
    this.#checkOver();
  }

  get #opened(): Consumption {
    if (this.#consumption === undefined) throw new InvariantError('a worker is opened before it is used');
    return this.#consumption;
  }

  // ── Consumer ──────────────────────────────────────────────────────────────────────────────────────────────────────

  deliver(run: DeliveryRun): void {
    this.#runs.push(run);
    this.#count += run.length;
    for (let index = 0; index < run.length; index++) this.#bytes += run.bytes(index).length;
    if (this.#isCollecting) this.#gather();
    else if (this.#stopped !== undefined) this.#returnAll();
    else if (this.#bytes >= LIMITS.leaseAnswerBytesMax) this.retire();
    else this.#bePatient();
  }

  revoke(run: DeliveryRun, index: number, reason: 'cancelled' | 'lease-lost'): void {
    const lease = this.#leases.find((each) => each.run === run && each.index === index);
    if (lease !== undefined) {
      if (reason === 'cancelled') lease.cancelRequested = true;
      else this.#lose(lease);
    } else if (this.#runs.includes(run)) {
      // It goes back, and its backend ends it.
      if (reason === 'cancelled') this.#consumption?.release(run, index);
      const gone = this.#gone.get(run);
      if (gone === undefined) this.#gone.set(run, new Set([index]));
      else gone.add(index);
    }
    this.#checkOver();
  }

  connection(state: 'lost' | 'restored'): void {
    if (state === 'lost') this.#breaks++;
  }

  ended(error: MillraceError): void {
    this.#ended = error;
    for (const lease of this.#leases) this.#lose(lease);
    this.#forgetAll();
    this.retire();
  }

  // ── Collecting ────────────────────────────────────────────────────────────────────────────────────────────────────

  #gathered(waitMs: number, signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      this.#gatherUntilMs = undefined;
      let isOver = false;
      const finish = (): void => {
        if (isOver) return;
        isOver = true;
        this.#timer?.cancel();
        this.#timer = undefined;
        this.#enough = undefined;
        signal.removeEventListener('abort', finish);
        resolve();
      };
      // That whoever asked has gone away is read first: what he were given would be nobody's until its lease is over.
      const enough = (): void => this.#clock.deferPastInput(finish);
      this.#enough = enough;
      this.#wait(Math.max(waitMs, LIMITS.leaseFindMs), enough);
      signal.addEventListener('abort', finish);
      if (signal.aborted || this.#stopped !== undefined) finish();
      else if (this.#count > 0) this.#gather();
    });
  }

  #gather(): void {
    const isSuspect = this.#runs.some(({ suspect }) => suspect);
    if (this.#count >= this.#tasksMax || this.#bytes >= LIMITS.leaseAnswerBytesMax || isSuspect) {
      this.#enough?.();
      return;
    }
    const nowMs = this.#clock.steadyMs();
    this.#gatherUntilMs ??= nowMs + LIMITS.leaseGatherMsMax;
    this.#wait(Math.min(LIMITS.leaseGatherMs, this.#gatherUntilMs - nowMs), () => this.#enough?.());
  }

  #wait(ms: number, then: () => void): void {
    this.#timer?.cancel();
    this.#timer = this.#clock.setTimer(ms, () => {
      this.#timer = undefined;
      then();
    });
  }

  /** What does not go into the answer goes back: all, without `leaseMs`. */
  #choose(consumption: Consumption, leaseMs: number | undefined): void {
    this.#eachHere((run, index) => {
      const payloadBytes = run.bytes(index).length;
      const lease =
        leaseMs === undefined || !this.#fits(run, payloadBytes)
          ? undefined
          : this.#owner.lease(this, run, index, { leaseMs, payloadBytes });
      if (lease === undefined) {
        consumption.release(run, index);
        return;
      }
      this.#leases.push(lease);
      this.#leasedBytes += payloadBytes;
    });
    this.#heldCount = this.#leases.length;
  }

  #fits(run: DeliveryRun, payloadBytes: number): boolean {
    const last = this.#leases.at(-1);
    if (last === undefined) return true;
    // One that may have ended a worker is not begun beside others.
    if (run.suspect || last.run.suspect || this.#leases.length >= this.#tasksMax) return false;
    return this.#leasedBytes + payloadBytes <= LIMITS.leaseAnswerBytesMax;
  }

  #returnAll(): void {
    this.#eachHere((run, index) => this.#consumption?.release(run, index));
  }

  /** Visits what came, which is then no longer here. */
  #eachHere(visit: (run: DeliveryRun, index: number) => void): void {
    const runs = this.#runs;
    const gone = new Map(this.#gone);
    this.#forgetAll();
    for (const run of runs) {
      for (let index = 0; index < run.length; index++) if (gone.get(run)?.has(index) !== true) visit(run, index);
    }
  }

  #forgetAll(): void {
    this.#runs = [];
    this.#count = 0;
    this.#bytes = 0;
    this.#gone.clear();
  }

  /** Tasks that nobody asked for yet, and a worker that nobody needs, do not wait long; a client that is not answered does. */
  #bePatient(): void {
    if (this.#timer !== undefined || this.#settling > 0) return;
    if (this.#count > 0 || this.#heldCount === 0) this.#wait(LIMITS.leaseReuseMs, () => this.retire());
  }

  // ── The end ───────────────────────────────────────────────────────────────────────────────────────────────────────

  #lose(lease: Lease): void {
    if (lease.lost) return;
    lease.lost = true;
    if (!lease.held) return;
    lease.held = false;
    this.#heldCount--;
    this.#owner.lost(lease);
  }

  #checkOver(): void {
    if (this.#isCollecting) return;
    if (this.#stopped === undefined) this.#bePatient();
    if (this.#heldCount > 0 || this.#settling > 0) return;
    this.#owner.freed(this, this.#leasedBytes);
    this.#leasedBytes = 0;
    if (this.#stopped === undefined) this.#owner.idle(this);
    else if (!this.#isClosing) {
      this.#isClosing = true;
      void this.#end(this.#opened);
    }
  }

  /** A backend that is away has so long to come back for what was settled. */
  async #end(consumption: Consumption): Promise<void> {
    if (this.#ended === undefined) {
      await this.#stopped;
      // Without an answer in time the backend takes back what is left when the worker closes; who settled it was told.
      await consumption.settled(LIMITS.leaseSettleMs).catch(() => {});
      await consumption.close();
    }
    this.#close();
  }
}

function unknownOutcome(): MillraceError {
  const message =
    'the connection to the backend was lost before it had answered: what became of the task may have been taken or not, GET /v1/tasks/{id} says which';
  return new MillraceError('TIMEOUT', message);
}
