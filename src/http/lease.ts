import type { DeliveryRun } from '../broker/contract.ts';
import type { LeaseWorker } from './lease-worker.ts';

/** A task that somebody has. */
export class Lease {
  /** Names it to whoever has it, and to nobody else. */
  readonly id: string;
  readonly worker: LeaseWorker;
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

  constructor(id: string, worker: LeaseWorker, run: DeliveryRun, index: number) {
    this.id = id;
    this.worker = worker;
    this.run = run;
    this.index = index;
  }

  /** A steady time as it is told. */
  wallMs(steadyMs: number): number {
    return Math.round(steadyMs + this.wallAheadMs);
  }
}
