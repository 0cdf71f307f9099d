import type { Clock } from '../io/clock.ts';
import type { Disk, DiskFile, DiskLock } from '../io/disk.ts';

const RETRY_MS = 100;
const PATIENCE_MS = 30_000;

/**
 * A disk whose user waits while the process, or the machine, has as many files open as it may: that passes, and nothing
 * is damaged by it. After half a minute it is a failure.
 */
export class PatientDisk implements Disk {
  /** While opening and closing there is nobody who would gain by waiting. */
  isPatient = false;
  readonly #disk: Disk;
  readonly #clock: Clock;
  /** Closes what can be opened again; false when there is nothing. */
  readonly #relieve: () => Promise<boolean>;
  readonly #pauses = new Set<() => void>();

  constructor(disk: Disk, clock: Clock, relieve: () => Promise<boolean>) {
    this.#disk = disk;
    this.#clock = clock;
    this.#relieve = relieve;
  }

  /** Who waits fails at once. */
  giveUp(): void {
    this.isPatient = false;
    for (const end of [...this.#pauses]) end();
  }

  makeDirectory(path: string): Promise<void> {
    return this.#disk.makeDirectory(path);
  }

  list(path: string): Promise<string[]> {
    return this.#disk.list(path);
  }

  open(path: string, options: { create?: boolean; write?: boolean; synced?: boolean }): Promise<DiskFile> {
    return this.#patiently(() => this.#disk.open(path, options));
  }

  rename(from: string, to: string): Promise<void> {
    return this.#disk.rename(from, to);
  }

  remove(path: string): Promise<void> {
    return this.#disk.remove(path);
  }

  syncDirectory(path: string): Promise<void> {
    return this.#patiently(() => this.#disk.syncDirectory(path));
  }

  lock(path: string): Promise<DiskLock> {
    return this.#disk.lock(path);
  }

  async #patiently<T>(operation: () => Promise<T>): Promise<T> {
    for (let waitedMs = 0; ; waitedMs += RETRY_MS) {
      try {
        return await operation();
      } catch (error) {
        if (!isOutOfDescriptors(error)) throw error;
        if (await this.#relieve()) continue;
        if (!this.isPatient || waitedMs >= PATIENCE_MS) throw error;
      }
      await this.#pause();
    }
  }

  #pause(): Promise<void> {
    return new Promise<void>((resolve) => {
      const end = (): void => {
        timer.cancel();
        this.#pauses.delete(end);
        resolve();
      };
      const timer = this.#clock.setTimer(RETRY_MS, end);
      this.#pauses.add(end);
    });
  }
}

/** Of this process, or of the whole machine. */
function isOutOfDescriptors(error: unknown): boolean {
  const code = (error as { code?: unknown }).code;
  return code === 'EMFILE' || code === 'ENFILE';
}
