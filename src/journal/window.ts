import type { DiskFile } from '../io/disk.ts';

const WINDOW_BYTES = 4 * 1024 * 1024;

/** The part of a file that is in memory while it is read through. Reads ahead, so that disk and CPU work side by side. */
export class Window {
  readonly limit: number;
  /** File offset of `bytes[0]`. */
  base = 0;
  bytes: Buffer = Buffer.alloc(0);
  readonly #file: DiskFile;
  readonly #windowBytes: number;
  readonly #pause: (() => Promise<void>) | undefined;
  #buffer: Buffer = Buffer.alloc(0);
  #ahead: { base: number; buffer: Buffer; read: Promise<number> } | undefined;

  /** Nothing at or behind `limit` is read. */
  constructor(
    file: DiskFile,
    limit: number,
    options: { windowBytes?: number; pause?: (() => Promise<void>) | undefined } = {},
  ) {
    this.#file = file;
    this.limit = limit;
    this.#windowBytes = options.windowBytes ?? WINDOW_BYTES;
    this.#pause = options.pause;
  }

  covers(offset: number, count: number): boolean {
    return offset >= this.base && offset + count <= this.base + this.bytes.length;
  }

  /** False when the file is too short. What `bytes` held before is gone. */
  async cover(offset: number, count: number): Promise<boolean> {
    if (offset + count > this.limit) return false;
    if (this.covers(offset, count)) return true;
    await this.#pause?.();
    const ahead = this.#ahead;
    this.#ahead = undefined;
    const aheadBytes = ahead === undefined ? 0 : await ahead.read;
    if (ahead !== undefined && ahead.base === offset && aheadBytes >= count) {
      const used = this.#buffer;
      this.#buffer = ahead.buffer;
      this.bytes = ahead.buffer.subarray(0, aheadBytes);
      this.#readAhead(offset + aheadBytes, used);
    } else {
      const bytes = Math.min(Math.max(count, this.#windowBytes), this.limit - offset);
      if (this.#buffer.length < bytes) this.#buffer = Buffer.allocUnsafeSlow(bytes);
      const filled = await this.#file.read(this.#buffer.subarray(0, bytes), offset);
      this.bytes = this.#buffer.subarray(0, filled);
      this.#readAhead(offset + filled, ahead?.buffer);
    }
    this.base = offset;
    return this.bytes.length >= count;
  }

  /** To be awaited before the file is closed. */
  async settle(): Promise<void> {
    await this.#ahead?.read.catch(() => 0);
    this.#ahead = undefined;
  }

  #readAhead(base: number, reusable: Buffer | undefined): void {
    const bytes = Math.min(this.#windowBytes, this.limit - base);
    if (bytes <= 0) return;
    const buffer = reusable !== undefined && reusable.length >= bytes ? reusable : Buffer.allocUnsafeSlow(bytes);
    const read = this.#file.read(buffer.subarray(0, bytes), base);
    // A failure is met by the `cover` that wants these bytes; without one it does not matter.
    read.catch(() => 0);
    this.#ahead = { base, buffer, read };
  }
}
