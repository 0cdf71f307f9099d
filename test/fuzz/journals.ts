import fc from 'fast-check';
import { Engine } from '../../src/engine/engine.ts';
import { describeRecord } from '../../src/engine/records.ts';
import type { ErrorCode, MillraceError } from '../../src/errors.ts';
import { dump } from '../../src/journal/dump.ts';
import {
  HEADER_BYTES,
  isIntact,
  looksLikeHeader,
  readHeader,
  recordBytes,
  sealRecord,
} from '../../src/journal/format.ts';
import { repair } from '../../src/journal/repair.ts';
import { newHeader } from '../../src/journal/scan.ts';
import { verify } from '../../src/journal/verify.ts';
import { BatchWriter } from '../../src/protocol/batch-writer.ts';
import { writeU64 } from '../../src/protocol/bytes.ts';
import { HEADER_BYTES as FRAME_HEADER_BYTES } from '../../src/protocol/frames.ts';
import { packTrailer } from '../../src/protocol/submission.ts';
import { BufferPool, FrameWriter } from '../../src/protocol/writer.ts';
import { MemoryDisk, memoryDirectory } from '../twins/memory-disk.ts';
import { GuardedClock } from './ends.ts';
import { Broken, type Faults, inTime, oursWith, turns } from './harness.ts';
import { EDGES, type Mutation, mutate, mutation } from './mutations.ts';

export const DIRECTORY = memoryDirectory();
const SEGMENT_BYTES = 16 * 1024;
const RETENTION = { completedCountMax: 100, completedAgeMs: 1e9, deadCountMax: 100, deadAgeMs: 1e9 };
const PRODUCER = '00112233445566778899aabbccddeeff';
const REFUSALS: readonly ErrorCode[] = ['JOURNAL_DAMAGED', 'JOURNAL_VERSION', 'JOURNAL_UNUSABLE'];

/** File names and what is in them. */
export type Files = ReadonlyMap<string, Buffer>;

export async function openEngine(disk: MemoryDisk, faults: Faults): Promise<Engine> {
  const { engine } = await Engine.open({
    directory: DIRECTORY,
    fsync: 'always',
    fsyncIntervalMs: 10,
    segmentBytes: SEGMENT_BYTES,
    cacheBytes: 1024 * 1024,
    retention: RETENTION,
    timeoutGraceMs: 0,
    lostGraceMs: 0,
    random: { float: () => 0.5, hex: (count) => '00'.repeat(count) },
    clock: new GuardedClock(faults),
    onDurable: () => {},
    onFailure: (error) => faults.add(error),
    onNotice: () => {},
    disk,
  });
  return engine;
}

function batch(number: number, payloads: readonly string[], trailer?: Uint8Array): Buffer {
  const writer = new BatchWriter(new BufferPool());
  const backoff = { type: 'fixed', delayMs: 1000, maxDelayMs: 1000, jitter: false } as const;
  for (const payload of payloads) {
    const spec = { queue: 'q', name: 'n', priority: 4, maxAttempts: 3, timeoutMs: 60_000, backoff };
    writer.add(spec, { kind: 'now' }, payload);
    writer.separate();
  }
  const frame = writer.seal(number, trailer);
  writer.address(1, 1);
  return Buffer.from(frame.subarray(FRAME_HEADER_BYTES));
}

/** The body of a COMPLETE with one task and its result. */
function completion(id: number, token: number): Buffer {
  const bytes = Buffer.alloc(29);
  writeU64(bytes, 0, id);
  writeU64(bytes, 8, token);
  bytes.writeUInt32LE(1, 16);
  bytes.writeUInt32LE(5, 20);
  bytes.writeUInt32LE(1, 24);
  bytes.write('1', 28);
  return bytes;
}

/** A closed journal of several segments, with a record of each type and tasks in every state. */
export async function soundJournal(faults: Faults): Promise<Files> {
  const disk = new MemoryDisk();
  const engine = await openEngine(disk, faults);
  const { commands, scheduler, core } = engine;
  const enqueue = (number: number, payloads: readonly string[]): number => {
    const bytes = batch(number, payloads);
    return engine.enqueue(PRODUCER, bytes, 0, bytes.length).firstId;
  };
  const settle = async (): Promise<void> => {
    await turns();
    await engine.journal.flush();
  };
  const first = enqueue(1, ['{"n":1}', '{"n":2}', '{"n":3}', '{"n":4}']);
  const relations = {
    tasks: [
      { index: 1, dependsOn: [[0, 'wait']] },
      { index: 2, unique: { key: 'k', scope: 'unfinished' } },
    ],
  };
  const submission = batch(2, ['1', '2', '3'], packTrailer(relations));
  engine.submit(PRODUCER, submission, 0, submission.length);
  const spec = {
    queue: 'q',
    name: 'n',
    priority: 4,
    maxAttempts: 3,
    timeoutMs: 60_000,
    backoff: { type: 'fixed', delayMs: 0, maxDelayMs: 0, jitter: false },
  } as const;
  scheduler.set('s', {
    timing: { cron: '* * * * *' },
    misfire: 'once',
    spec,
    payload: { encoding: 'utf8', data: '1' },
    headers: { a: 'b' },
  });
  scheduler.runNow('s', '0123456789abcdef');
  commands.pauseQueue('other');
  commands.setLimits('q', { concurrency: 5 });
  commands.cancel(first + 3);
  await settle();
  const writer = new FrameWriter({ write: () => {} }, (flush) => process.nextTick(flush), new BufferPool());
  const worker = engine.addWorker(['q'], 3, 3, { writer, roomBytes: 1e9, revoke: () => {}, probe: () => {} });
  await settle();
  const done = completion(first, core.assignments.of(core.index.get(first)).token);
  engine.settlements.complete(worker, done, 0, done.length, []);
  const failure = { name: 'Error', code: 'HANDLER_FAILED', message: 'no' };
  engine.settlements.failOne(core.index.get(first + 1), failure);
  engine.settlements.bury(core.index.get(first + 2), failure);
  engine.removeWorker(worker, true);
  await settle();
  for (let number = 3; number < 27; number++) {
    enqueue(number, ['x'.repeat(3000), '{}']);
    await settle();
  }
  commands.retry(first + 2);
  await settle();
  await engine.close();
  faults.check();
  return filesOf(disk);
}

export function filesOf(disk: MemoryDisk): Files {
  return new Map(disk.names(DIRECTORY).map((name) => [name, Buffer.from(disk.bytes(`${DIRECTORY}/${name}`))]));
}

// ── Changes ─────────────────────────────────────────────────────────────────────────────────────────────────────────

export type FileChange =
  | { readonly what: 'bytes'; readonly file: number; readonly mutations: readonly Mutation[] }
  | { readonly what: 'zeros'; readonly file: number; readonly at: number; readonly count: number }
  /** The record is intact afterwards: its checksum says what is in it now. */
  | { readonly what: 'record'; readonly file: number; readonly record: number; readonly mutations: readonly Mutation[] }
  | {
      readonly what: 'header';
      readonly file: number;
      readonly record: number;
      readonly field: 'type' | 'epoch' | 'sequence' | 'synced';
      readonly value: number;
    }
  | { readonly what: 'remove'; readonly file: number }
  | { readonly what: 'rename'; readonly file: number; readonly to: string }
  | { readonly what: 'double'; readonly file: number; readonly to: string }
  | { readonly what: 'other'; readonly name: string; readonly bytes: Uint8Array };

const file = fc.nat(7);
const record = fc.nat(30);
const segmentNames = fc.constantFrom(
  ...[
    '0000000001.segment',
    '0000000002.segment',
    '0000000009.segment',
    '0000000003.spare',
    '9999999999.segment',
    '0000000000.segment',
  ],
);

export const fileChange: fc.Arbitrary<FileChange> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      what: fc.constant('bytes' as const),
      file,
      mutations: fc.array(mutation, { minLength: 1, maxLength: 3 }),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      what: fc.constant('zeros' as const),
      file,
      at: fc.nat(0xffff),
      count: fc.integer({ min: 1, max: 9000 }),
    }),
  },
  {
    weight: 6,
    arbitrary: fc.record({
      what: fc.constant('record' as const),
      file,
      record,
      mutations: fc.array(mutation, { minLength: 1, maxLength: 3 }),
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      what: fc.constant('header' as const),
      file,
      record,
      field: fc.constantFrom('type' as const, 'epoch' as const, 'sequence' as const, 'synced' as const),
      value: fc.oneof(fc.nat(40), fc.constantFrom(...EDGES, Number.MAX_SAFE_INTEGER)),
    }),
  },
  { weight: 1, arbitrary: fc.record({ what: fc.constant('remove' as const), file }) },
  { weight: 1, arbitrary: fc.record({ what: fc.constant('rename' as const), file, to: segmentNames }) },
  { weight: 1, arbitrary: fc.record({ what: fc.constant('double' as const), file, to: segmentNames }) },
  {
    weight: 1,
    arbitrary: fc.record({
      what: fc.constant('other' as const),
      name: fc.oneof(segmentNames, fc.constantFrom('notes.txt', '1.segment', '00000000001.segment', '__proto__')),
      bytes: fc.uint8Array({ maxLength: 200 }),
    }),
  },
);

export function changeFiles(files: Files, changes: readonly FileChange[]): Files {
  const changed = new Map([...files].map(([name, bytes]) => [name, Buffer.from(bytes)]));
  for (const change of changes) changeOne(changed, change);
  return changed;
}

function changeOne(files: Map<string, Buffer>, change: FileChange): void {
  if (change.what === 'other') {
    files.set(change.name, Buffer.from(change.bytes));
    return;
  }
  const names = [...files.keys()];
  const name = names[change.file % names.length];
  const bytes = name === undefined ? undefined : files.get(name);
  if (name === undefined || bytes === undefined) return;
  switch (change.what) {
    case 'bytes':
      files.set(name, mutate(bytes, change.mutations));
      break;
    case 'zeros': {
      const at = Math.floor((change.at / 0x1_0000) * bytes.length);
      bytes.subarray(at, at + change.count).fill(0);
      break;
    }
    case 'record':
    case 'header':
      changeRecord(bytes, change);
      break;
    case 'remove':
      files.delete(name);
      break;
    case 'rename':
      files.delete(name);
      files.set(change.to, bytes);
      break;
    case 'double':
      files.set(change.to, Buffer.from(bytes));
      break;
    default:
      change satisfies never;
  }
}

function changeRecord(bytes: Buffer, change: Extract<FileChange, { what: 'record' | 'header' }>): void {
  const places = recordsOf(bytes);
  const at = places[change.record % places.length];
  if (at === undefined) return;
  const header = newHeader();
  readHeader(bytes, at, header);
  if (change.what === 'record') {
    const body = bytes.subarray(at + HEADER_BYTES, at + HEADER_BYTES + header.length);
    // In its place, and no longer than it was: what follows stays where it is.
    mutate(body, change.mutations).subarray(0, body.length).copy(body);
  } else if (change.field === 'synced') header.syncedSequence = change.value;
  else if (change.field === 'type') header.type = change.value & 0xff;
  else header[change.field] = change.value;
  sealRecord(bytes, at, header);
}

/** Where intact records begin. */
function recordsOf(bytes: Buffer): number[] {
  const places: number[] = [];
  const header = newHeader();
  for (let at = 0; at + HEADER_BYTES <= bytes.length; ) {
    readHeader(bytes, at, header);
    const fits = looksLikeHeader(bytes, at) && at + HEADER_BYTES + header.length <= bytes.length;
    if (fits && isIntact(bytes, at, header)) {
      places.push(at);
      at += recordBytes(header.length);
    } else at += 8;
  }
  return places;
}

/** The checksums of whatever looks like a record are those of what is in it. */
export function resealed(bytes: Buffer): Buffer {
  const sealed = Buffer.from(bytes);
  const header = newHeader();
  for (let at = 0; at + HEADER_BYTES <= sealed.length; ) {
    readHeader(sealed, at, header);
    if (looksLikeHeader(sealed, at) && at + HEADER_BYTES + header.length <= sealed.length) {
      sealRecord(sealed, at, header);
      at += recordBytes(header.length);
    } else at += 8;
  }
  return sealed;
}

// ── What must hold of any directory ─────────────────────────────────────────────────────────────────────────────────

function diskWith(files: Files): MemoryDisk {
  const disk = new MemoryDisk();
  disk.put(`${DIRECTORY}/.here`, Buffer.alloc(0));
  for (const [name, bytes] of files) disk.put(`${DIRECTORY}/${name}`, bytes);
  return disk;
}

/** What is neither a start nor a refusal that says where is Broken. */
async function start(files: Files, faults: Faults): Promise<{ disk: MemoryDisk; refusal: MillraceError | undefined }> {
  const disk = diskWith(files);
  try {
    const engine = await openEngine(disk, faults);
    const bytes = batch(1000, ['works']);
    engine.enqueue('ff'.repeat(16), bytes, 0, bytes.length);
    await turns(2);
    await engine.close();
    return { disk, refusal: undefined };
  } catch (error) {
    const refusal = oursWith(error, REFUSALS);
    const { code, message } = refusal;
    const isPlaced =
      message.includes('.segment') && (code !== 'JOURNAL_DAMAGED' || /at offset \d|is missing/.test(message));
    if (!isPlaced && code !== 'JOURNAL_UNUSABLE')
      throw new Broken(`a refusal that says not where: ${message}`, { cause: error });
    return { disk, refusal };
  } finally {
    faults.check();
  }
}

/** Opens, looks at, mends and opens again a directory with these files. Throws Broken. */
export async function handleJournal(files: Files, faults: Faults): Promise<'started' | 'mended' | 'refused'> {
  return await inTime(async () => {
    const { refusal } = await start(files, faults);
    const disk = diskWith(files);
    try {
      await dump(DIRECTORY, disk, { record: ({ type, body }) => describeRecord(type, body), damage: () => {} });
      const { damage } = await verify(DIRECTORY, disk, describeRecord);
      if (refusal === undefined && damage.length > 0) throw new Broken('it starts, and verify says that it is damaged');
      if (refusal === undefined) return 'started';
      const { cut } = await repair(DIRECTORY, disk, describeRecord);
      const left = await verify(DIRECTORY, disk, describeRecord);
      if (left.damage.length > 0) throw new Broken(`${left.damage.length} damaged regions are left after a repair`);
      const again = await start(filesOf(disk), faults);
      if (again.refusal === undefined) return 'mended';
      // Nothing was damaged: what an intact record says makes no sense, which no repair can know.
      if (cut.length === 0 || isSenseless(again.refusal)) return 'refused';
      throw new Broken(`it was repaired, and is refused: ${again.refusal.message}`, { cause: again.refusal });
    } catch (error) {
      if (error instanceof Broken) throw error;
      oursWith(error, REFUSALS);
      return 'refused';
    } finally {
      faults.check();
    }
  });
}

/** As of records that are intact, and cannot be replayed; or of an epoch at its end. */
function isSenseless({ code, message }: MillraceError): boolean {
  return code === 'JOURNAL_UNUSABLE' || code === 'JOURNAL_VERSION' || message.includes('is intact');
}
