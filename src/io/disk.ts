/**
 * What the journal needs of a file system. Errors carry the system's `code` (`ENOSPC`, `EIO`, `EROFS`, …).
 */
export interface Disk {
  makeDirectory(path: string): Promise<void>;
  /** File names in a directory, sorted. */
  list(path: string): Promise<string[]>;
  /**
   * `synced`: each write returns only when its bytes are on disk (O_DSYNC).
   * `create`: must not exist yet.
   */
  open(path: string, options: { create?: boolean; write?: boolean; synced?: boolean }): Promise<DiskFile>;
  rename(from: string, to: string): Promise<void>;
  remove(path: string): Promise<void>;
  /** Makes creations, renames and removals in the directory durable. A no-op where the system has no such call. */
  syncDirectory(path: string): Promise<void>;
  /** Holds the directory until released; rejects with DIRECTORY_LOCKED naming the holder. Ends with the process. */
  lock(path: string): Promise<DiskLock>;
}

export interface DiskFile {
  /** Fewer bytes than asked for only at the end of the file. */
  read(into: Uint8Array, position: number): Promise<number>;
  /** All of it, or an error. */
  write(buffers: readonly Uint8Array[], position: number): Promise<void>;
  sync(): Promise<void>;
  size(): Promise<number>;
  truncate(bytes: number): Promise<void>;
  close(): Promise<void>;
}

export interface DiskLock {
  /** False once it was taken away, by someone who removed it or another machine that took the holder for dead. */
  isHeld(): Promise<boolean>;
  release(): Promise<void>;
}
