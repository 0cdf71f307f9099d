import { SystemClock } from '../../src/io/clock.ts';
import { Journal, type JournalOptions, type OpenReport } from '../../src/journal/journal.ts';
import { MemoryDisk, memoryDirectory } from '../twins/memory-disk.ts';

export interface ReplayedRecord {
  type: number;
  sequence: number;
  epoch: number;
  segment: number;
  offset: number;
  body: Buffer;
}

export interface OpenedJournal {
  journal: Journal;
  report: OpenReport;
  /** What was given, or a disk in memory. */
  disk: MemoryDisk;
  replayed: ReplayedRecord[];
  /** The user's records among them, as text. */
  texts: string[];
  failures: Error[];
  room: boolean[];
  /** Resolves when everything up to the sequence may be confirmed. */
  durable(sequence: number): Promise<void>;
}

/** Small enough for a few records to fill a page and a few pages a segment. */
export const SMALL = { segmentBytes: 16 * 1024, pageBytes: 4096 };
export const TEXT = 16;
export const DIRECTORY = memoryDirectory();

export async function openJournal(overrides: Partial<JournalOptions> = {}): Promise<OpenedJournal> {
  const disk = overrides.disk ?? new MemoryDisk();
  const replayed: ReplayedRecord[] = [];
  const failures: Error[] = [];
  const room: boolean[] = [];
  let waiting: { sequence: number; resolve: () => void }[] = [];
  const { journal, report } = await Journal.open(
    {
      directory: DIRECTORY,
      clock: new SystemClock(),
      fsync: 'always',
      fsyncIntervalMs: 10,
      cacheBytes: 64 * 1024,
      segmentState: () => Buffer.from('state'),
      describe: (type, body) => (type === TEXT ? `text ${body.toString('latin1', 0, 12)}` : `type ${type}`),
      onFailure: (error) => failures.push(error),
      onRoom: (hasRoom) => room.push(hasRoom),
      ...SMALL,
      ...overrides,
      disk: disk instanceof MemoryDisk ? disk.mount() : disk,
      onDurable: (sequence) => {
        overrides.onDurable?.(sequence);
        for (const waiter of waiting) if (waiter.sequence <= sequence) waiter.resolve();
        waiting = waiting.filter((waiter) => waiter.sequence > sequence);
      },
    },
    (record, opening) => {
      if (record.type === TEXT) opening.retain(record.segment, 1);
      replayed.push({ ...record, body: Buffer.from(record.body) });
    },
  );
  return {
    journal,
    report,
    disk: disk as MemoryDisk,
    replayed,
    texts: replayed.filter((record) => record.type === TEXT).map((record) => record.body.toString('latin1')),
    failures,
    room,
    durable: (sequence) =>
      journal.durableSequence >= sequence
        ? Promise.resolve()
        : new Promise((resolve) => waiting.push({ sequence, resolve })),
  };
}

/** Appends texts that are kept for ever; returns where their bodies lie. */
export function appendTexts(journal: Journal, texts: readonly string[]): { segment: number; offset: number }[] {
  return texts.map((text) => {
    journal.append(TEXT, Buffer.from(text, 'latin1'));
    const place = { segment: journal.lastSegment, offset: journal.lastOffset };
    journal.retain(place.segment, 1);
    return place;
  });
}

/** `count` texts of about `bytes` each, all different. */
export function makeTexts(count: number, bytes: number, prefix = 'r'): string[] {
  return Array.from({ length: count }, (_, i) => `${prefix}${i}-`.padEnd(bytes, String.fromCharCode(97 + (i % 26))));
}

export function readText(
  journal: Journal,
  place: { segment: number; offset: number },
  bytes: number,
): string | undefined {
  const extent = journal.locate(place.segment, place.offset);
  if (extent === undefined) return undefined;
  const from = place.offset - extent.base;
  return extent.bytes.toString('latin1', from, from + bytes);
}
