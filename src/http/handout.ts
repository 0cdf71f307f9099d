import type { Broker, ConsumeOptions, Consumer, Consumption, DeliveryRun } from '../broker/contract.ts';
import { MillraceError } from '../errors.ts';
import type { Clock, Timer } from '../io/clock.ts';
import { DEFAULTS, LIMITS } from '../limits.ts';

/** A task that somebody has. */
export class Lease {
  /** Names it to whoever has it, and to nobody else. */
  readonly id: string;
  readonly handout: Handout;
  readonly run: DeliveryRun;
  readonly index: number;
  /** Steady times. */
  endsAtMs = 0;
  timesOutAtMs = 0;
  /** By how much the wall clock was ahead of steady time when it began: its times are told by that. */
  wallAheadMs = 0;
  /** Where its deadline is. */
  place = -1;
  cancelRequested = false;
  /** Neither settled nor taken away. */
  held = true;
  /** The backend has taken the task away, or did not accept what became of it. */
  lost = false;

  constructor(id: string, handout: Handout, run: DeliveryRun, index: number) {
    this.id = id;
    this.handout = handout;
    this.run = run;
    this.index = index;
  }

  /** A steady time as it is told. */
  wallMs(steadyMs: number): number {
    return Math.round(steadyMs + this.wallAheadMs);
  }
}

/** What a handout needs of those who made it. */
export interface HandoutOwner {
  readonly clock: Clock;
  newLeaseId(): string;
  /** It is not the client's any more, although nobody settled it. */
  lost(lease: Lease): void;
}

/**
 * What one request for tasks gets, over a consumption of its own, so that a backend gives it as much as was asked for and
 * then nothing more.
 *
 *   collecting ──enough, quiet, time over──▶ held ──all leases settled or lost──▶ closed
 *        └── nobody waits any more, nothing came ─────────────────────────────────▶ closed
 *
 * The consumption is stopped when collecting ends: what comes later goes back uncharged, and so does what was not handed out.
 * It stays open until the backend has answered every settlement.
 */
export class Handout implements Consumer {
  /** Resolves when the backend has nothing more to do with it. */
  readonly closed: Promise<void>;
  readonly leases: Lease[] = [];
  /** Of the payloads of its leases. */
  leasedBytes = 0;
  readonly #owner: HandoutOwner;
  readonly #clock: Clock;
  readonly #tasksMax: number;
  #consumption: Consumption | undefined;
  readonly #runs: DeliveryRun[] = [];
  #count = 0;
  #bytes = 0;
  /** Of these, those that were taken away, or settled, before they were handed out. */
  readonly #gone = new Map<DeliveryRun, Set<number>>();
  #collecting = true;
  #cancelled = false;
  #timer: Timer | undefined;
  #gatherUntilMs: number | undefined;
  #collected!: () => void;
  readonly #hasCollected: Promise<void>;
  #stopped: Promise<void> | undefined;
  #heldCount = 0;
  #settling = 0;
  /** How often the connection was lost: what was settled before and not answered may have been taken or not. */
  #breaks = 0;
  #ended: MillraceError | undefined;
  #isClosing = false;
  #close!: () => void;

  constructor(owner: HandoutOwner, tasksMax: number) {
    this.#owner = owner;
    this.#clock = owner.clock;
    this.#tasksMax = tasksMax;
    this.#hasCollected = new Promise((resolve) => {
      this.#collected = resolve;
    });
    this.closed = new Promise((resolve) => {
      this.#close = resolve;
    });
  }

  /** Resolves with what came, nothing after `waitMs`. Rejects with what the backend says. */
  async collect(broker: Broker, options: ConsumeOptions, waitMs: number): Promise<readonly Lease[]> {
    const untilMs = this.#clock.steadyMs() + waitMs;
    try {
      this.#consumption = await broker.consume(options, this);
    } catch (error) {
      this.#close();
      throw error;
    }
    if (this.#collecting) this.#finishIn(Math.max(untilMs - this.#clock.steadyMs(), LIMITS.leaseFindMs));
    await this.#hasCollected;
    this.#stopped = this.#consumption.stop().catch(() => {});
    this.#handOut(this.#consumption);
    this.#closeIfOver();
    if (this.#ended !== undefined && this.leases.length === 0) throw this.#ended;
    return this.leases;
  }

  /** Nobody waits any more: what came goes back uncharged. */
  cancel(): void {
    if (!this.#collecting) return;
    this.#cancelled = true;
    this.#finish();
  }

  /** `act` settles these leases, which are held; resolves when the backend has answered. Rejects with TIMEOUT, or why it ended. */
  async settle(leases: readonly Lease[], act: (consumption: Consumption) => void): Promise<void> {
    const consumption = this.#consumption as Consumption;
    const breaks = this.#breaks;
    for (const lease of leases) lease.held = false;
    this.#heldCount -= leases.length;
    this.#settling++;
    try {
      act(consumption);
      await consumption.settled(DEFAULTS.callTimeoutMs);
    } finally {
      this.#settling--;
      this.#closeIfOver();
    }
    if (this.#ended !== undefined) throw this.#ended;
    if (breaks !== this.#breaks) throw unknownOutcome();
  }

  /** For what needs no answer. */
  tell(act: (consumption: Consumption) => void): void {
    act(this.#consumption as Consumption);
  }

  // ── Consumer ──────────────────────────────────────────────────────────────────────────────────────────────────────

  deliver(run: DeliveryRun): void {
    if (!this.#collecting) {
      for (let index = 0; index < run.length; index++) this.#consumption?.release(run, index);
      return;
    }
    this.#runs.push(run);
    this.#count += run.length;
    for (let index = 0; index < run.length; index++) this.#bytes += run.bytes(index).length;
    if (this.#count >= this.#tasksMax || this.#bytes >= LIMITS.leaseAnswerBytesMax || run.suspect) {
      this.#finish();
      return;
    }
    const nowMs = this.#clock.steadyMs();
    this.#gatherUntilMs ??= nowMs + LIMITS.leaseGatherMsMax;
    this.#finishIn(Math.min(LIMITS.leaseGatherMs, this.#gatherUntilMs - nowMs));
  }

  revoke(run: DeliveryRun, index: number, reason: 'cancelled' | 'lease-lost'): void {
    const lease = this.leases.find((each) => each.run === run && each.index === index);
    if (lease === undefined) {
      // It goes back, and its backend ends it.
      if (reason === 'cancelled') this.#consumption?.release(run, index);
      if (this.#collecting) this.#setGone(run, index);
    } else if (reason === 'cancelled') lease.cancelRequested = true;
    else this.#lose(lease);
    this.#closeIfOver();
  }

  connection(state: 'lost' | 'restored'): void {
    if (state === 'lost') this.#breaks++;
  }

  ended(error: MillraceError): void {
    this.#ended = error;
    for (const lease of this.leases) this.#lose(lease);
    this.#finish();
    this.#closeIfOver();
  }

  // ── Collecting ────────────────────────────────────────────────────────────────────────────────────────────────────

  #finishIn(ms: number): void {
    this.#timer?.cancel();
    this.#timer = this.#clock.setTimer(ms, () => this.#finish());
  }

  #finish(): void {
    this.#timer?.cancel();
    this.#collecting = false;
    this.#collected();
  }

  #handOut(consumption: Consumption): void {
    if (this.#ended === undefined) this.#choose(consumption);
    this.#runs.length = 0;
    this.#gone.clear();
    this.#heldCount = this.leases.length;
    const last = this.leases.at(-1);
    if (last !== undefined) consumption.begun(last.run, last.index, true);
  }

  /** What does not go into the answer goes back. */
  #choose(consumption: Consumption): void {
    let last: Lease | undefined;
    for (const run of this.#runs) {
      const gone = this.#gone.get(run);
      for (let index = 0; index < run.length; index++) {
        if (gone?.has(index) === true) continue;
        const length = run.bytes(index).length;
        const isNone = last === undefined;
        // One that may have ended a worker is not begun beside others.
        const fits = run.suspect ? isNone : isNone || this.leasedBytes + length <= LIMITS.leaseAnswerBytesMax;
        if (this.#cancelled || !fits || last?.run.suspect === true || this.leases.length >= this.#tasksMax) {
          consumption.release(run, index);
          continue;
        }
        last = new Lease(this.#owner.newLeaseId(), this, run, index);
        this.leases.push(last);
        this.leasedBytes += length;
      }
    }
  }

  #setGone(run: DeliveryRun, index: number): void {
    const gone = this.#gone.get(run);
    if (gone === undefined) this.#gone.set(run, new Set([index]));
    else gone.add(index);
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

  #closeIfOver(): void {
    if (this.#collecting || this.#runs.length > 0 || this.#heldCount > 0 || this.#settling > 0) return;
    const consumption = this.#consumption;
    if (consumption === undefined || this.#isClosing) return;
    this.#isClosing = true;
    void this.#end(consumption);
  }

  /** A backend that is away has so long to come back for what was settled. */
  async #end(consumption: Consumption): Promise<void> {
    if (this.#ended === undefined) {
      await this.#stopped;
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
