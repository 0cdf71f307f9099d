import type { Disk } from '../../src/io/disk.ts';
import { type DiskOperation, MemoryDisk } from '../twins/memory-disk.ts';
import type { SimProcess } from './process.ts';
import type { SimRandom } from './random.ts';
import type { Scheduler } from './scheduler.ts';

/** An error that waits for its operation. */
interface DiskFault {
  readonly operation: DiskOperation;
  readonly code: string;
}

/** What the disk has after a power failure. */
export interface CrashDraw {
  readonly draw: number;
  /** The first failure's, by its number; drawn unless given. */
  readonly outcome?: number | undefined;
}

/**
 * The server's disk. The memory disk knows what a power failure leaves; this one gives each operation its time, and makes
 * some of them fail.
 */
export class SimDisk {
  readonly memory: MemoryDisk;
  /** Mean time of an operation; a share of them takes much longer. */
  latencyMeanMs = 0.15;
  slowShare = 0.01;
  slowMeanMs = 20;
  /** Writes and syncs before it is slow. */
  quickWrites = 0;
  readonly #scheduler: Scheduler;
  readonly #random: SimRandom;
  #process: SimProcess | undefined;
  readonly #faults: DiskFault[] = [];
  operations = 0;
  /** Writes and syncs among them. */
  writes = 0;
  #chosen: { numbers: ReadonlySet<number>; phase: number; callback: () => void } | undefined;
  #duringWrite: (() => void) | undefined;

  /** In how many ways the first power failure could have ended. */
  firstCrashOutcomes: number | undefined;
  #firstOutcome: number | undefined;

  /** What happens when the power goes depends on `draw`, and nothing else does; the first time it is that `outcome`, if given. */
  constructor(scheduler: Scheduler, random: SimRandom, { draw, outcome }: CrashDraw) {
    this.#scheduler = scheduler;
    this.#random = random;
    this.#firstOutcome = outcome;
    const crashes = random.fork(`crashes ${draw}`);
    this.memory = new MemoryDisk({
      random: () => crashes.float(),
      leavesParts: true,
      before: (operation, path) => this.#before(operation, path),
      writing: (path, position, bytes) => scheduler.noteBytes(`disk write ${path} at ${position}`, bytes),
    });
  }

  /** The disk as this process sees it; those before see nothing any more. */
  mount(process: SimProcess): Disk {
    this.#process = process;
    return this.memory.mount();
  }

  /** The process has died. With the power goes what was not synced. */
  lose(powerLost: boolean): void {
    this.#scheduler.note(powerLost ? 'disk loses power' : 'disk loses its process');
    this.#faults.length = 0;
    if (!powerLost) {
      this.memory.kill();
      return;
    }
    this.firstCrashOutcomes ??= this.memory.crashOutcomes;
    this.memory.crash(this.#firstOutcome);
    this.#firstOutcome = undefined;
  }

  /** The next operation of the kind fails with the code. */
  failOnce(operation: DiskOperation, code: string): void {
    this.#faults.push({ operation, code });
  }

  /** Calls back in the middle of the next write, or sync. */
  duringNextWrite(callback: () => void): void {
    this.#duringWrite = callback;
  }

  /** Counts writes and syncs from the first on, and calls back before, during or after (0 to 1) those of these numbers. */
  duringWrites(numbers: readonly number[], phase: number, callback: () => void): void {
    this.#chosen = { numbers: new Set(numbers), phase, callback };
  }

  heal(): void {
    this.#faults.length = 0;
    this.memory.capacityBytes = Number.POSITIVE_INFINITY;
    this.slowShare = 0.01;
    this.slowMeanMs = 20;
    this.quickWrites = 0;
  }

  #before(operation: DiskOperation, path: string): Promise<void> {
    this.operations++;
    this.#scheduler.note(`disk ${operation} ${path}`);
    const isWrite = operation === 'write' || operation === 'sync';
    const slow = this.#random.chance(this.slowShare) && this.quickWrites === 0;
    if (isWrite && this.quickWrites > 0) this.quickWrites--;
    const delayMs = this.#random.exponential(slow ? this.slowMeanMs : this.latencyMeanMs);
    if (isWrite) this.writes++;
    if (isWrite && this.#chosen?.numbers.has(this.writes) === true) {
      const { phase, callback } = this.#chosen;
      // Behind its end, but before anything that this leads to.
      this.#scheduler.schedule(delayMs * phase + (phase === 1 ? 1e-6 : 0), undefined, 'at a write', callback);
    }
    const during = isWrite ? this.#duringWrite : undefined;
    if (during !== undefined) {
      this.#duringWrite = undefined;
      this.#scheduler.schedule(delayMs * this.#random.float(), undefined, 'during a write', during);
    }
    return new Promise((resolve, reject) => {
      this.#scheduler.schedule(delayMs, this.#process, `disk ${operation}`, () => {
        const at = this.#faults.findIndex((fault) => fault.operation === operation);
        const [fault] = at === -1 ? [] : this.#faults.splice(at, 1);
        if (fault === undefined) {
          resolve();
          return;
        }
        this.#scheduler.note(`disk ${operation} fails with ${fault.code}`);
        reject(Object.assign(new Error(`${fault.code}: ${operation} ${path}`), { code: fault.code }));
      });
    });
  }
}
