import type { DeliveryRun } from '../broker/contract.ts';
import type { Clock } from '../io/clock.ts';
import type { LeaseWorker } from './lease-worker.ts';

/** A task that somebody has. */
export class Lease {
  /** Names it to whoever has it, and to nobody else. */
  readonly id: string;
  readonly worker: LeaseWorker;
  readonly run: DeliveryRun;
  readonly index: number;
  /** Steady times. */
  readonly beganAtMs: number;
  endsAtMs: number;
  readonly timesOutAtMs: number;
  /** What it was given, or extended by, last. */
  leaseMs: number;
  /** Where its deadline is. */
  place = -1;
  cancelRequested = false;
  /** Neither settled nor taken away. */
  held = true;
  /** The backend has taken the task away, or did not accept what became of it. */
  lost = false;
  /** By how much the wall clock was ahead of steady time when it began: its times are told by that. */
  readonly #wallAheadMs: number;

  constructor(id: string, worker: LeaseWorker, run: DeliveryRun, index: number, leaseMs: number, clock: Clock) {
    const nowMs = clock.steadyMs();
    this.id = id;
    this.worker = worker;
    this.run = run;
    this.index = index;
    this.leaseMs = leaseMs;
    this.beganAtMs = nowMs;
    this.timesOutAtMs = nowMs + run.spec.timeoutMs;
    this.endsAtMs = Math.min(nowMs + leaseMs, this.timesOutAtMs);
    this.#wallAheadMs = clock.wallMs() - nowMs;
  }

  /** A steady time as it is told. */
  wallMs(steadyMs: number): number {
    return Math.round(steadyMs + this.#wallAheadMs);
  }
}
