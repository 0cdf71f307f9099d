import { expect, test } from 'vitest';
import { ManualClock } from '../../test/twins/manual-clock.ts';
import { type Reader, ReadingTurns } from './reading-turns.ts';

const KiB = 1024;
const MiB = 1024 * KiB;
const PIECE_BYTES = 64 * KiB;

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

class Flood implements Reader {
  unfinishedFrameBytes = 0;
  missingFrameBytes = 0;
  uncountedBytes = 0;
  resting = false;
  bytes = 0;

  readOn(): void {
    this.resting = false;
  }

  readonly pieceBytes: number;

  constructor(pieceBytes = PIECE_BYTES) {
    this.pieceBytes = pieceBytes;
  }

  /** As the system does: pieces of two megabytes at most in one turn, until somebody says stop. */
  flow(turns: ReadingTurns): number {
    let bytes = 0;
    for (let left = 2 * MiB; left > 0 && !this.resting; left -= this.pieceBytes) {
      bytes += this.pieceBytes;
      this.resting = turns.read(this, this.pieceBytes);
    }
    this.bytes += bytes;
    return bytes;
  }
}

/** What the floods were read of in each turn. */
async function readOf(floods: readonly Flood[], turnCount: number): Promise<number[]> {
  const turns = new ReadingTurns(new ManualClock());
  const sums: number[] = [];
  for (let count = 0; count < turnCount; count++) {
    sums.push(floods.reduce((sum, flood) => sum + flood.flow(turns), 0));
    await turn();
  }
  return sums;
}

test.each([PIECE_BYTES, KiB])(
  'one who sends without end, in pieces of %d bytes, is read a megabyte a turn',
  async (piece) => {
    expect(await readOf([new Flood(piece)], 3)).toEqual([MiB, MiB, MiB]);
  },
);

test.each([2, 10, 300])('%d who send without end share that, and each gets as much as the others', async (count) => {
  const floods = Array.from({ length: count }, () => new Flood());
  const [, ...sums] = await readOf(floods, 500);
  // What comes is as large as the system makes it: a share ends with the piece that it ends in.
  for (const sum of sums) expect(sum).toBeLessThanOrEqual(MiB + Math.min(count, 16) * PIECE_BYTES);
  const bytes = floods.map((flood) => flood.bytes - MiB);
  expect(Math.max(...bytes) - Math.min(...bytes)).toBeLessThanOrEqual(2 * MiB);
  expect(Math.min(...bytes)).toBeGreaterThan(0);
});

test('of those who have almost finished a large frame one has his turn at a time, and the others all', async () => {
  const floods = Array.from({ length: 8 }, () => new Flood());
  const turns = new ReadingTurns(new ManualClock());
  const resting = (): number => floods.filter((flood) => flood.resting).length;
  for (const flood of floods) {
    flood.flow(turns);
    flood.unfinishedFrameBytes = 8 * MiB;
  }
  for (let left = 7; left >= 0; left--) {
    await turn();
    expect(resting()).toBe(left);
  }
  for (const flood of floods) {
    flood.flow(turns);
    flood.missingFrameBytes = MiB;
  }
  await turn();
  expect(resting()).toBe(0);
});

test('who sends little never rests, and who has left is not told to go on', async () => {
  const turns = new ReadingTurns(new ManualClock());
  const [flood, little, left] = [new Flood(), new Flood(), new Flood()];
  left.flow(turns);
  turns.leave(left);
  for (let count = 0; count < 20; count++) {
    flood.flow(turns);
    for (let frames = 0; frames < 4; frames++) expect(turns.read(little, 10 * KiB)).toBe(false);
    expect(turns.read(little, 20 * KiB)).toBe(false);
    await turn();
  }
  expect(left.resting).toBe(true);
});
