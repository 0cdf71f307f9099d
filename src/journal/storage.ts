/** Where the journal's bytes go: segment files, or nowhere. */
export interface Storage {
  /** Bytes that were never appended to may follow. Waits for room; never two at a time; segments in ascending order. */
  write(
    target: { segment: number; segmentBytes: number },
    buffers: readonly Uint8Array[],
    position: number,
  ): Promise<void>;
  /** Everything that was written before the call is on disk when this resolves. */
  sync(): Promise<void>;
  /** Fewer bytes than asked for at the end of the file. */
  read(segment: number, into: Buffer, position: number): Promise<number>;
  /** Nothing in the segment is needed any more. */
  recycle(segment: number): Promise<void>;
  /** What can be written behind `offset` without asking the file system for more. */
  roomBehind(segment: number, offset: number): number;
  /** The last attempt to get more room failed. */
  readonly isFull: boolean;
  readonly spareCount: number;
  /** From here on a full disk is a reason to wait; at first it is a failure. */
  waitForRoom(): void;
  /** From here on it is a failure again. */
  prepareClose(): void;
  close(): Promise<void>;
}

/** For journals that live in memory: the pages are all there is. */
export class VolatileStorage implements Storage {
  readonly isFull = false;
  readonly spareCount = 0;

  async write(): Promise<void> {}

  async sync(): Promise<void> {}

  async read(): Promise<number> {
    return 0;
  }

  async recycle(): Promise<void> {}

  roomBehind(): number {
    return Number.POSITIVE_INFINITY;
  }

  waitForRoom(): void {}

  prepareClose(): void {}

  async close(): Promise<void> {}
}
