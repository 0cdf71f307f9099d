import { dirname, join } from 'node:path';
import { MillraceError } from '../../src/errors.ts';
import type { Disk, DiskFile, DiskLock } from '../../src/io/disk.ts';

/**
 * A disk in memory that can lose power. What was written and not synced survives a crash in parts, by sectors; what was
 * created, renamed or removed and not synced survives up to a point in its order, as on a journaling file system.
 *
 * Handles from before a crash never answer again: their process is gone.
 */
export type DiskOperation =
  | 'makeDirectory'
  | 'list'
  | 'open'
  | 'create'
  | 'rename'
  | 'remove'
  | 'syncDirectory'
  | 'lock'
  | 'read'
  | 'write'
  | 'sync'
  | 'truncate';

export interface MemoryDiskOptions {
  /** Uniform in [0, 1); decides what a crash takes. */
  random?: () => number;
  /** Room for the bytes of all files; beyond it there is ENOSPC. */
  capacityBytes?: number;
  /** Called for each operation before it takes effect; may wait, and may throw what the operation then throws. */
  before?: (operation: DiskOperation, path: string) => void | Promise<void>;
  /** Called with the bytes of each write, when it begins. */
  writing?: (path: string, position: number, bytes: Uint8Array) => void;
  /**
   * A write that fails, or is under way when its process is killed, may have reached the kernel in parts. The kernel may
   * take what it could not write or sync for written from then on, as Linux does.
   */
  leavesParts?: boolean;
}

type Change = { kind: 'write'; position: number; bytes: Buffer } | { kind: 'truncate'; bytes: number };
type EntryChange =
  | { kind: 'set'; path: string; inode: Inode }
  | { kind: 'delete'; path: string }
  | { kind: 'rename'; path: string; to: string };

const SECTOR_BYTES = 512;

class Inode {
  /** What the kernel shows. */
  content = Buffer.alloc(0);
  size = 0;
  /** What the disk has, and what was done since. */
  #durable = Buffer.alloc(0);
  #durableSize = 0;
  #changes: Change[] = [];
  /** The kernel shows what it could not write and will not write again. */
  showsDropped = false;

  apply(change: Change): void {
    this.#changes.push(change);
    this.#show(change);
  }

  sync(): void {
    if (this.showsDropped) {
      this.#onDurable(this.#changes);
    } else {
      this.#durable = Buffer.from(this.content.subarray(0, this.size));
      this.#durableSize = this.size;
    }
    this.#changes = [];
  }

  /** A sync has failed: what it was for is shown as if it were on disk, and never gets there. */
  drop(): void {
    this.showsDropped = this.showsDropped || this.#changes.length > 0;
    this.#changes = [];
  }

  /** The kernel forgets what it showed, and reads the disk again. */
  evict(): void {
    this.content = Buffer.from(this.#durable);
    this.size = this.#durableSize;
    for (const change of this.#changes) this.#show(change);
    this.showsDropped = false;
  }

  /** A write that came back synced, while others may wait for a sync. Older ones cannot come back over it. */
  applySynced(change: Change): void {
    if (change.kind === 'write') this.#changes = this.#changes.flatMap((older) => besides(older, change));
    this.#show(change);
    this.#onDurable([change]);
  }

  #onDurable(changes: readonly Change[]): void {
    const { content, size } = this;
    this.content = this.#durable;
    this.size = this.#durableSize;
    for (const change of changes) this.#show(change);
    this.#durable = this.content;
    this.#durableSize = this.size;
    this.content = content;
    this.size = size;
  }

  /**
   * All of a change, nothing, or some of its sectors, as far as the kernel shows them; none of it is on disk, nor will be if
   * the kernel dropped it.
   */
  applyPart(change: Change, random: () => number, isDropped = false): void {
    for (const part of parts(change, random)) {
      if (isDropped) this.#show(part);
      else this.apply(part);
      this.showsDropped ||= isDropped;
    }
  }

  /** `partsOf` says what the disk has of each change that was not synced. */
  crash(partsOf: (change: Change) => Change[], inFlight: readonly Change[]): void {
    const changes = this.#unsynced(inFlight);
    this.content = this.#durable;
    this.size = this.#durableSize;
    this.showsDropped = false;
    for (const change of changes) for (const part of partsOf(change)) this.#show(part);
    this.sync();
  }

  /** In how many ways `crash` may end. */
  crashOutcomes(inFlight: readonly Change[]): number {
    return this.#unsynced(inFlight).reduce((count, change) => count * outcomesOf(change), 1);
  }

  #unsynced(inFlight: readonly Change[]): Change[] {
    return [...this.#changes, ...inFlight];
  }

  #show(change: Change): void {
    if (change.kind === 'truncate') {
      if (change.bytes < this.size) this.content.fill(0, change.bytes, this.size);
      this.#grow(change.bytes);
      this.size = change.bytes;
      return;
    }
    this.#grow(change.position + change.bytes.length);
    change.bytes.copy(this.content, change.position);
    this.size = Math.max(this.size, change.position + change.bytes.length);
  }

  #grow(bytes: number): void {
    if (this.content.length >= bytes) return;
    const grown = Buffer.alloc(Math.max(bytes, this.content.length * 2));
    this.content.copy(grown);
    this.content = grown;
  }
}

/** What of a change lies before and behind a later write. */
function besides(older: Change, later: { position: number; bytes: Buffer }): Change[] {
  if (older.kind === 'truncate') return [older];
  const { position, bytes } = older;
  const kept: Change[] = [];
  const before = bytes.subarray(0, Math.max(0, later.position - position));
  if (before.length > 0) kept.push({ kind: 'write', position, bytes: before });
  const laterEnd = later.position + later.bytes.length;
  const behind = bytes.subarray(Math.max(0, laterEnd - position));
  if (behind.length > 0) kept.push({ kind: 'write', position: position + bytes.length - behind.length, bytes: behind });
  return kept;
}

/** All of a change, nothing, or some of its sectors. */
function parts(change: Change, random: () => number): Change[] {
  const luck = random();
  if (luck < 0.3) return [];
  if (luck < 0.6 || change.kind === 'truncate') return [change];
  return sectorsOf(change).filter(() => random() < 0.5);
}

/** Each of a write's sectors is there or not; a truncation is or is not. */
function outcomesOf(change: Change): number {
  return 2 ** (change.kind === 'truncate' ? 1 : sectorsOf(change).length);
}

/** The outcome of that number, of `outcomesOf`: a bit for each sector. */
function partsInOutcome(change: Change, outcome: number): Change[] {
  const sectors = change.kind === 'truncate' ? [change] : sectorsOf(change);
  return sectors.filter((_, i) => Math.floor(outcome / 2 ** i) % 2 === 1);
}

function sectorsOf({ position, bytes }: { position: number; bytes: Buffer }): Change[] {
  const end = position + bytes.length;
  const sectors: Change[] = [];
  for (let from = position; from < end; ) {
    const to = Math.min(from - (from % SECTOR_BYTES) + SECTOR_BYTES, end);
    sectors.push({ kind: 'write', position: from, bytes: bytes.subarray(from - position, to - position) });
    from = to;
  }
  return sectors;
}

export class MemoryDisk implements Disk {
  readonly #options: MemoryDiskOptions;
  #entries = new Map<string, Inode>();
  #durableEntries = new Map<string, Inode>();
  #entryChanges: EntryChange[] = [];
  readonly #directories = new Set<string>();
  #locked = new Set<string>();
  /** Raised by a crash: handles of an older life are dead. */
  #life = 0;
  readonly #inFlight = new Map<Change, Inode>();
  #held: { operation: DiskOperation; path: string; go: () => void }[] = [];
  readonly #holding = new Set<DiskOperation>();
  #faults: { operation: DiskOperation; code: string; path: string; times: number }[] = [];
  #watchers: (() => void)[] = [];
  readonly counts = new Map<DiskOperation, number>();
  capacityBytes: number;

  constructor(options: MemoryDiskOptions = {}) {
    this.#options = options;
    this.capacityBytes = options.capacityBytes ?? Number.POSITIVE_INFINITY;
  }

  // ── For tests ─────────────────────────────────────────────────────────────────────────────────────────────────────

  /** The next `times` operations whose path contains `path` fail with the code. */
  fail(operation: DiskOperation, code: string, options: { path?: string; times?: number } = {}): void {
    this.#faults.push({ operation, code, path: options.path ?? '', times: options.times ?? 1 });
  }

  heal(): void {
    this.#faults = [];
  }

  /** From now on operations of that kind wait for `release`. */
  hold(operation: DiskOperation): void {
    this.#holding.add(operation);
  }

  /** Lets those that wait go on, and no longer holds any. */
  release(): void {
    this.#holding.clear();
    const held = this.#held;
    this.#held = [];
    for (const { go } of held) go();
  }

  /** Resolves when `count` operations of that kind wait. */
  async held(operation: DiskOperation, count = 1): Promise<void> {
    while (this.#held.filter((held) => held.operation === operation).length < count) {
      await new Promise<void>((resolve) => this.#watchers.push(resolve));
    }
  }

  /** The disk as a process sees it that begins now: after a crash or kill none of its calls comes back. */
  mount(): Disk {
    const life = this.#life;
    const whileAlive = <T>(call: () => Promise<T>): Promise<T> =>
      life === this.#life ? call() : new Promise<never>(() => {});
    return {
      makeDirectory: (path) => whileAlive(() => this.makeDirectory(path)),
      list: (path) => whileAlive(() => this.list(path)),
      open: (path, options) => whileAlive(() => this.open(path, options)),
      rename: (from, to) => whileAlive(() => this.rename(from, to)),
      remove: (path) => whileAlive(() => this.remove(path)),
      syncDirectory: (path) => whileAlive(() => this.syncDirectory(path)),
      lock: (path) => whileAlive(() => this.lock(path)),
    };
  }

  /**
   * Power goes off and comes back. What is left of what was not synced is drawn, or is the outcome of that number, of
   * `crashOutcomes`.
   */
  crash(outcome?: number): void {
    const random = this.#options.random ?? Math.random;
    let left = outcome ?? 0;
    const digit = (base: number): number => {
      const value = left % base;
      left = Math.floor(left / base);
      return value;
    };
    const entryOutcomes = this.#entryChanges.length + 1;
    const surviving = outcome === undefined ? Math.floor(random() * entryOutcomes) : digit(entryOutcomes);
    for (const change of this.#entryChanges.slice(0, surviving)) applyEntry(this.#durableEntries, change);
    this.#entryChanges = [];
    this.#entries = new Map(this.#durableEntries);
    const partsOf = (change: Change): Change[] =>
      outcome === undefined ? parts(change, random) : partsInOutcome(change, digit(outcomesOf(change)));
    for (const inode of new Set(this.#entries.values())) inode.crash(partsOf, this.#inFlightOf(inode));
    this.#inFlight.clear();
    this.#life++;
    this.#held = [];
    this.#holding.clear();
    this.#faults = [];
    this.#locked = new Set();
  }

  /**
   * In how many ways a crash may end now: each prefix of what was created, renamed and removed, each set of sectors. Beyond
   * 2 ** 53 not exact.
   */
  get crashOutcomes(): number {
    const inodes = new Set([...this.#durableEntries.values(), ...this.#entries.values()]);
    let count = this.#entryChanges.length + 1;
    for (const inode of inodes) count *= inode.crashOutcomes(this.#inFlightOf(inode));
    return count;
  }

  #inFlightOf(inode: Inode): Change[] {
    return [...this.#inFlight].filter(([, of]) => of === inode).map(([change]) => change);
  }

  /** The process dies, the machine does not: nothing is lost but what had not reached the kernel. */
  kill(): void {
    this.#life++;
    this.#held = [];
    this.#holding.clear();
    this.#faults = [];
    this.#locked = new Set();
    if (this.#options.leavesParts === true) {
      const random = this.#options.random ?? Math.random;
      for (const [change, inode] of this.#inFlight) inode.applyPart(change, random);
      for (const inode of this.#entries.values()) if (inode.showsDropped && random() < 0.5) inode.evict();
    }
    this.#inFlight.clear();
  }

  /** The file's bytes; writing into them changes the file. */
  bytes(path: string): Buffer {
    const inode = this.#inode(path);
    return inode.content.subarray(0, inode.size);
  }

  /** Puts a file there, durable. */
  put(path: string, bytes: Uint8Array): void {
    const inode = new Inode();
    inode.apply({ kind: 'write', position: 0, bytes: Buffer.from(bytes) });
    inode.sync();
    this.#directories.add(dirname(path));
    this.#entries.set(path, inode);
    this.#durableEntries.set(path, inode);
  }

  /** The bytes of all files. */
  get usedBytes(): number {
    let used = 0;
    for (const inode of new Set(this.#entries.values())) used += inode.size;
    return used;
  }

  names(directory: string): string[] {
    const names = [...this.#entries.keys()].filter((path) => dirname(path) === directory);
    return names.map((path) => path.slice(directory.length + 1)).sort();
  }

  // ── Disk ──────────────────────────────────────────────────────────────────────────────────────────────────────────

  async makeDirectory(path: string): Promise<void> {
    await this.#enter('makeDirectory', path);
    for (let made = path; !this.#directories.has(made) && made !== dirname(made); made = dirname(made)) {
      this.#directories.add(made);
    }
  }

  async list(path: string): Promise<string[]> {
    await this.#enter('list', path);
    if (!this.#directories.has(path)) throw systemError('ENOENT', `list ${path}`);
    return this.names(path);
  }

  async open(path: string, options: { create?: boolean; write?: boolean; synced?: boolean }): Promise<DiskFile> {
    await this.#enter(options.create === true ? 'create' : 'open', path);
    if (options.create === true) {
      if (this.#entries.has(path)) throw systemError('EEXIST', `create ${path}`);
      this.#change({ kind: 'set', path, inode: new Inode() });
    }
    return this.#handle(path, this.#inode(path), options.synced === true);
  }

  async rename(from: string, to: string): Promise<void> {
    await this.#enter('rename', from);
    this.#inode(from);
    this.#change({ kind: 'rename', path: from, to });
  }

  async remove(path: string): Promise<void> {
    await this.#enter('remove', path);
    this.#inode(path);
    this.#change({ kind: 'delete', path });
  }

  async syncDirectory(path: string): Promise<void> {
    await this.#enter('syncDirectory', path);
    const isHere = (change: EntryChange) => dirname(change.path) === path;
    for (const change of this.#entryChanges.filter(isHere)) applyEntry(this.#durableEntries, change);
    this.#entryChanges = this.#entryChanges.filter((change) => !isHere(change));
  }

  async lock(path: string): Promise<DiskLock> {
    await this.#enter('lock', path);
    if (this.#locked.has(path)) throw new MillraceError('DIRECTORY_LOCKED', `${path} is in use`);
    this.#locked.add(path);
    const locked = this.#locked;
    return {
      isHeld: async () => locked.has(path),
      release: async () => {
        locked.delete(path);
      },
    };
  }

  /** As if someone removed it while its holder lives. */
  takeLockAway(path: string): void {
    this.#locked.delete(path);
  }

  #handle(path: string, inode: Inode, synced: boolean): DiskFile {
    const life = this.#life;
    return {
      read: async (into, position) => {
        await this.#enter('read', path, life);
        const bytes = inode.content.subarray(position, Math.min(position + into.length, inode.size));
        into.set(bytes);
        return bytes.length;
      },
      write: async (buffers, position) => {
        if (life !== this.#life) await new Promise<never>(() => {});
        const change: Change = { kind: 'write', position, bytes: Buffer.concat(buffers) };
        this.#inFlight.set(change, inode);
        this.#options.writing?.(path, position, change.bytes);
        try {
          await this.#enter('write', path, life);
          const unchanged = Buffer.concat(buffers).equals(change.bytes);
          if (!unchanged) throw new Error(`bytes changed while they were being written to ${path}`);
          this.#checkRoom(inode, position + change.bytes.length);
        } catch (error) {
          if (this.#options.leavesParts === true) {
            const random = this.#options.random ?? Math.random;
            inode.applyPart(change, random, (error as { code?: unknown }).code === 'EIO' && random() < 0.5);
          }
          throw error;
        } finally {
          this.#inFlight.delete(change);
        }
        if (synced) inode.applySynced(change);
        else inode.apply(change);
      },
      sync: async () => {
        try {
          await this.#enter('sync', path, life);
        } catch (error) {
          if (this.#options.leavesParts === true && (this.#options.random ?? Math.random)() < 0.5) inode.drop();
          throw error;
        }
        inode.sync();
      },
      size: async () => inode.size,
      truncate: async (bytes) => {
        await this.#enter('truncate', path, life);
        inode.apply({ kind: 'truncate', bytes });
      },
      close: async () => {},
    };
  }

  async #enter(operation: DiskOperation, path: string, life = this.#life): Promise<void> {
    this.counts.set(operation, (this.counts.get(operation) ?? 0) + 1);
    await this.#options.before?.(operation, path);
    if (this.#holding.has(operation)) {
      await new Promise<void>((go) => {
        this.#held.push({ operation, path, go });
        const watchers = this.#watchers;
        this.#watchers = [];
        for (const watch of watchers) watch();
      });
    }
    if (life !== this.#life) await new Promise<never>(() => {});
    const fault = this.#faults.find((one) => one.operation === operation && path.includes(one.path) && one.times > 0);
    if (fault !== undefined) {
      fault.times--;
      throw systemError(fault.code, `${operation} ${path}`);
    }
  }

  #checkRoom(inode: Inode, end: number): void {
    if (end <= inode.size) return;
    const used = this.usedBytes + end - inode.size;
    if (used > this.capacityBytes) throw systemError('ENOSPC', 'write');
  }

  #change(change: EntryChange): void {
    applyEntry(this.#entries, change);
    this.#entryChanges.push(change);
  }

  #inode(path: string): Inode {
    const inode = this.#entries.get(path);
    if (inode === undefined) throw systemError('ENOENT', path);
    return inode;
  }
}

function applyEntry(entries: Map<string, Inode>, change: EntryChange): void {
  if (change.kind === 'set') {
    entries.set(change.path, change.inode);
    return;
  }
  const inode = entries.get(change.path);
  entries.delete(change.path);
  if (change.kind === 'rename' && inode !== undefined) entries.set(change.to, inode);
}

function systemError(code: string, what: string): Error {
  return Object.assign(new Error(`${code}: ${what}`), { code });
}

/** For `random`: the same numbers for the same seed. */
export function seededRandom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Where tests keep their journal. */
export function memoryDirectory(name = 'data'): string {
  return join('/memory', name);
}
