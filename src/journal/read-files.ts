import type { DiskFile } from '../io/disk.ts';

interface ReadFile {
  readonly file: Promise<DiskFile>;
  users: number;
  /** Closed as soon as nobody uses it. */
  isForgotten: boolean;
}

/** The segment files that were read last stay open, so that a read needs no descriptor of its own. */
export class ReadFiles {
  /** By segment number, in order of last use. */
  readonly #files = new Map<number, ReadFile>();
  readonly #filesMax: number;
  readonly #open: (segment: number) => Promise<DiskFile>;

  constructor(filesMax: number, open: (segment: number) => Promise<DiskFile>) {
    this.#filesMax = filesMax;
    this.#open = open;
  }

  async read(segment: number, into: Uint8Array, position: number): Promise<number> {
    const used = this.#use(segment);
    try {
      const file = await used.file;
      return await file.read(into, position);
    } finally {
      used.users--;
      await this.#closeIfUnwanted(used);
    }
  }

  /** Nobody will ask for the segment again; one who reads it may end. */
  async forget(segment: number): Promise<void> {
    const file = this.#files.get(segment);
    if (file === undefined) return;
    this.#files.delete(segment);
    file.isForgotten = true;
    await this.#closeIfUnwanted(file);
  }

  /** Closes all that nobody uses; false when there is none. */
  async closeIdle(): Promise<boolean> {
    const idle = [...this.#files].filter(([, file]) => file.users === 0).map(([segment]) => segment);
    await Promise.all(idle.map((segment) => this.forget(segment)));
    return idle.length > 0;
  }

  async close(): Promise<void> {
    await Promise.all([...this.#files.keys()].map((segment) => this.forget(segment)));
  }

  #use(segment: number): ReadFile {
    let used = this.#files.get(segment);
    if (used === undefined) {
      this.#makeRoom();
      const file = this.#open(segment);
      used = { file, users: 0, isForgotten: false };
      // Who reads is told; the next one tries anew.
      file.catch(() => {
        if (this.#files.get(segment)?.file === file) this.#files.delete(segment);
      });
    }
    used.users++;
    this.#files.delete(segment);
    this.#files.set(segment, used);
    return used;
  }

  #makeRoom(): void {
    for (const segment of this.#files.keys()) {
      if (this.#files.size < this.#filesMax) return;
      // Closing what was only read loses nothing.
      this.forget(segment).catch(() => undefined);
    }
  }

  async #closeIfUnwanted(file: ReadFile): Promise<void> {
    if (!file.isForgotten || file.users > 0) return;
    // What could not be opened need not be closed; who wanted to read was told.
    const opened = await file.file.catch(() => undefined);
    await opened?.close();
  }
}
