import fc from 'fast-check';
import { expect, test } from 'vitest';
import { DIRECTORY, SMALL } from '../../test/support/journal.ts';
import { MemoryDisk, seededRandom } from '../../test/twins/memory-disk.ts';
import { SystemClock } from '../io/clock.ts';
import { type FsyncPolicy, Journal } from './journal.ts';
import { survey } from './verify.ts';

/** `MILLRACE_RUNS=1000` for a long search. */
const RUNS = Number(process.env.MILLRACE_RUNS ?? 25);
const KEEP = 16;
const DONE = 17;

/** What a user of the journal would hold: numbered things, kept until they are done. */
interface Model {
  /** Segment by number, of what is kept. */
  live: Map<number, number>;
  /** Confirmed, as far as the user was told. */
  keptConfirmed: Set<number>;
  doneConfirmed: Set<number>;
  /** Known from a replay or an append, confirmed or not. */
  kept: Map<number, string>;
}

function bodyOf(number: number, bytes: number): Buffer {
  const body = Buffer.alloc(8 + bytes, number % 251);
  body.writeUInt32LE(number, 0);
  body.writeUInt32LE(bytes, 4);
  return body;
}

async function openModel(disk: MemoryDisk, fsync: FsyncPolicy, model: Model) {
  const waiting: { sequence: number; told: () => void }[] = [];
  const replayed = new Map<number, string>();
  const done = new Set<number>();
  model.live = new Map();
  const { journal } = await Journal.open(
    {
      directory: DIRECTORY,
      disk: disk.mount(),
      clock: new SystemClock(),
      fsync,
      fsyncIntervalMs: 1,
      cacheBytes: SMALL.pageBytes * 2,
      ...SMALL,
      segmentState: () => Buffer.alloc(10),
      onDurable: (sequence) => {
        while (waiting[0] !== undefined && waiting[0].sequence <= sequence) waiting.shift()?.told();
      },
      onFailure: (error) => {
        throw error;
      },
      onRoom: () => {},
    },
    (record, opening) => {
      if (record.type === KEEP) {
        const number = record.body.readUInt32LE(0);
        expect(record.body.equals(bodyOf(number, record.body.readUInt32LE(4)))).toBe(true);
        expect(replayed.has(number)).toBe(false);
        replayed.set(number, record.body.toString('latin1'));
        model.live.set(number, record.segment);
        opening.retain(record.segment, 1);
      } else if (record.type === DONE) {
        const number = record.body.readUInt32LE(0);
        done.add(number);
        const segment = model.live.get(number);
        if (segment !== undefined) opening.release(segment, 1);
        model.live.delete(number);
      }
    },
  );
  return { journal, waiting, replayed, done };
}

async function runHistory(seed: number, fsync: FsyncPolicy): Promise<void> {
  const random = seededRandom(seed);
  const disk = new MemoryDisk({
    random,
    before: () => (random() < 0.2 ? new Promise<void>((resolve) => setImmediate(resolve)) : undefined),
  });
  const model: Model = { live: new Map(), keptConfirmed: new Set(), doneConfirmed: new Set(), kept: new Map() };
  let nextNumber = 1;
  let lastEpoch = 0;
  for (let life = 0; life < 6; life++) {
    const { journal, waiting, replayed, done } = await openModel(disk, fsync, model);
    expect(journal.epoch).toBeGreaterThan(lastEpoch);
    lastEpoch = journal.epoch;
    for (const number of model.keptConfirmed) {
      const isThere = replayed.has(number) || done.has(number) || model.doneConfirmed.has(number);
      if (!isThere) expect.fail(`seed ${seed}, life ${life}: ${number} was confirmed and is gone`);
    }
    for (const number of model.doneConfirmed) {
      if (model.live.has(number))
        expect.fail(`seed ${seed}, life ${life}: ${number} was confirmed as done and is back`);
    }
    for (const [number, text] of replayed) {
      if (model.kept.get(number) !== text) expect.fail(`seed ${seed}, life ${life}: ${number} has other bytes`);
    }
    // What a start has read is on disk, whether anyone was told of it or not.
    for (const number of replayed.keys()) model.keptConfirmed.add(number);
    for (const number of done) model.doneConfirmed.add(number);
    const confirms = (told: () => void) => {
      waiting.push({ sequence: journal.appendedSequence, told });
    };
    const steps = 20 + Math.floor(random() * 60);
    for (let step = 0; step < steps; step++) {
      const luck = random();
      if (luck < 0.5) {
        const number = nextNumber++;
        const body = bodyOf(number, Math.floor(random() * (random() < 0.1 ? 9000 : 900)));
        journal.append(KEEP, body);
        journal.retain(journal.lastSegment, 1);
        model.live.set(number, journal.lastSegment);
        model.kept.set(number, body.toString('latin1'));
        confirms(() => model.keptConfirmed.add(number));
      } else if (luck < 0.85 && model.live.size > 0) {
        const [number, segment] = [...model.live][Math.floor(random() * Math.min(model.live.size, 5))];
        const body = Buffer.alloc(4);
        body.writeUInt32LE(number, 0);
        journal.append(DONE, body);
        model.live.delete(number);
        journal.release(segment, 1);
        confirms(() => model.doneConfirmed.add(number));
      } else if (luck < 0.95) {
        await new Promise((resolve) => setImmediate(resolve));
      } else if (random() < 0.3) {
        lastEpoch = await journal.advanceEpoch();
      }
    }
    // `interval` and `never` lose what was not synced in a power failure; not when only the process dies.
    const end = random();
    if (end < 0.2) await journal.close();
    else if (fsync === 'always' && end < 0.8) disk.crash();
    else disk.kill();
    const damage = (await survey(DIRECTORY, disk, () => '')).damage;
    if (damage.length > 0) expect.fail(`seed ${seed}, life ${life}: ${JSON.stringify(damage[0])}`);
  }
}

test.each(['always', 'interval', 'never'] as const)(
  'what was confirmed survives every end, and nothing else comes back (fsync %s)',
  async (fsync) => {
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 0, max: 2 ** 31 }), (seed) => runHistory(seed, fsync)),
      { numRuns: RUNS, endOnFailure: true },
    );
  },
  RUNS * 10_000,
);

// Lost what lay in a file that a killed process had made, and whose name was not on the disk.
test('what was confirmed survives the history that once lost it', () => runHistory(19, 'always'));

test.each(['interval', 'never'] as const)(
  'a power failure under fsync %s loses the end of the log and nothing before it',
  async (fsync) => {
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 0, max: 2 ** 31 }), async (seed) => {
        const random = seededRandom(seed);
        const disk = new MemoryDisk({ random });
        const model: Model = { live: new Map(), keptConfirmed: new Set(), doneConfirmed: new Set(), kept: new Map() };
        let flushed = 0;
        let nextNumber = 1;
        for (let life = 0; life < 4; life++) {
          const { journal, replayed } = await openModel(disk, fsync, model);
          expect([...replayed.keys()].slice(0, flushed)).toEqual([...model.kept.keys()].slice(0, flushed));
          for (const number of [...model.kept.keys()]) if (!replayed.has(number)) model.kept.delete(number);
          for (let step = 0; step < 40; step++) {
            const body = bodyOf(nextNumber, Math.floor(random() * 900));
            model.kept.set(nextNumber++, body.toString('latin1'));
            journal.append(KEEP, body);
            journal.retain(journal.lastSegment, 1);
            if (random() < 0.05) {
              await journal.flush();
              flushed = model.kept.size;
            }
            if (random() < 0.3) await new Promise((resolve) => setImmediate(resolve));
          }
          disk.crash();
        }
      }),
      { numRuns: RUNS, endOnFailure: true },
    );
  },
  RUNS * 10_000,
);
