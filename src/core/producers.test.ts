import { describe, expect, it } from 'vitest';
import { Producers } from './producers.ts';

const NEW = -1;
const FORGOTTEN = -2;

function producers(limits: Partial<ConstructorParameters<typeof Producers>[0]> = {}): Producers {
  return new Producers({
    producersMax: 3,
    batchesMax: 4,
    allBatchesMax: 100,
    existingMax: 100,
    idleMs: 100,
    ...limits,
  });
}

describe('repeated batches', () => {
  it('get the ids that they already have', () => {
    const known = producers();
    known.remember('p', 1, 1, 1000, 3, 0);
    known.remember('p', 2, 1, 1003, 2, 0);
    expect([known.find('p', 1), known.find('p', 2), known.find('p', 3)]).toEqual([1000, 1003, NEW]);
    expect(known.find('q', 1)).toBe(NEW);
  });

  it('are told apart from new ones when they are older than what is remembered', () => {
    const known = producers();
    for (let batch = 1; batch <= 6; batch++) known.remember('p', batch, 1, batch * 10, 1, 0);
    expect([1, 2].map((batch) => known.find('p', batch))).toEqual([FORGOTTEN, FORGOTTEN]);
    expect([3, 4, 5, 6].map((batch) => known.find('p', batch))).toEqual([30, 40, 50, 60]);
  });

  it('are forgotten once the producer has seen their confirmation', () => {
    const known = producers();
    known.remember('p', 1, 1, 10, 1, 0);
    known.remember('p', 2, 1, 20, 1, 0);
    known.remember('p', 3, 3, 30, 1, 0);
    expect(known.export()).toEqual([{ producer: 'p', lastSeenMs: 0, lowest: 3, batches: [3, 30, 1] }]);
    expect(known.find('p', 2)).toBe(FORGOTTEN);
  });

  it('are forgotten sooner when they name very many tasks that were there already', () => {
    const pairs = (count: number): [number, number][] => Array.from({ length: count }, (_, i) => [i, i]);
    const known = producers({ existingMax: 10 });
    known.remember('p', 1, 1, 10, 6, 0, pairs(6));
    known.remember('q', 1, 1, 20, 3, 0, pairs(3));
    expect(known.existing('p', 1)).toHaveLength(6);
    // The idlest producer goes first, then the older batches of the one that is here; never the last.
    known.remember('q', 2, 1, 30, 4, 0, pairs(4));
    expect([known.find('p', 1), known.find('q', 1), known.find('q', 2)]).toEqual([NEW, 20, 30]);
    known.remember('q', 3, 1, 40, 20, 0, pairs(20));
    expect([known.find('q', 1), known.find('q', 2), known.find('q', 3)]).toEqual([FORGOTTEN, FORGOTTEN, 40]);
    expect(known.existing('q', 3)).toHaveLength(20);
    const copy = producers({ existingMax: 10 });
    copy.import(known.export());
    copy.remember('r', 1, 1, 50, 1, 0, pairs(1));
    expect([copy.find('q', 3), copy.find('r', 1)]).toEqual([NEW, 50]);
  });

  it('of all producers are bounded: those of the idlest producer go first, whatever else was dropped before', () => {
    const known = producers({ allBatchesMax: 6 });
    for (const producer of ['p', 'q']) {
      for (let batch = 1; batch <= 6; batch++) known.remember(producer, batch, batch - 2, batch, 1, 0);
    }
    expect(known.export().map(({ producer, batches }) => [producer, batches.length / 3])).toEqual([
      ['p', 3],
      ['q', 3],
    ]);
    known.import(known.export());
    known.remember('q', 7, 4, 7, 1, 0);
    expect(known.export().map(({ producer, batches }) => [producer, batches.length / 3])).toEqual([['q', 4]]);
    for (let batch = 1; batch <= 2; batch++) known.remember('r', batch, 1, batch, 1, 0);
    expect(known.export().map(({ producer }) => producer)).toEqual(['q', 'r']);
  });

  it('are new when a later one was taken and they were not', () => {
    const known = producers();
    known.remember('p', 2, 1, 20, 1, 0);
    known.remember('p', 4, 1, 40, 1, 0);
    expect([1, 2, 3, 4, 5].map((batch) => known.find('p', batch))).toEqual([NEW, 20, NEW, 40, NEW]);
    known.remember('p', 3, 1, 50, 1, 0);
    known.remember('p', 1, 1, 60, 1, 0);
    expect([1, 2, 3, 4, 5].map((batch) => known.find('p', batch))).toEqual([60, 20, 50, 40, NEW]);
  });

  it('are forgotten from the lowest number on when there are too many, in whatever order they came', () => {
    const known = producers();
    for (const batch of [3, 5, 6, 7, 2]) known.remember('p', batch, 1, batch * 10, 1, 0);
    expect([1, 2, 3, 4, 5].map((batch) => known.find('p', batch))).toEqual([FORGOTTEN, FORGOTTEN, 30, NEW, 50]);
    known.remember('p', 4, 1, 40, 1, 0);
    expect([3, 4, 5, 6, 7].map((batch) => known.find('p', batch))).toEqual([FORGOTTEN, 40, 50, 60, 70]);
    expect(known.lowest('p')).toBe(4);
  });

  it('stay over though a batch that was sent earlier still needs them', () => {
    const known = producers();
    known.remember('p', 5, 4, 50, 1, 0);
    known.remember('p', 6, 2, 60, 1, 0);
    expect([3, 4, 5].map((batch) => known.find('p', batch))).toEqual([FORGOTTEN, NEW, 50]);
  });

  it('survive being written down', () => {
    const known = producers();
    known.remember('p', 7, 7, 10, 4, 5);
    const copy = producers();
    copy.import(JSON.parse(JSON.stringify(known.export())));
    copy.remember('p', 8, 7, 14, 1, 6);
    expect([copy.find('p', 6), copy.find('p', 7), copy.find('p', 8)]).toEqual([FORGOTTEN, 10, 14]);
    expect(known.find('p', 8)).toBe(NEW);
  });

  it('are remembered alike by what replays them, though their producer had been forgotten in between', () => {
    const live = producers();
    const replayed = producers();
    for (const known of [live, replayed]) known.remember('p', 9, 9, 90, 1, 0);
    live.expire(1000);
    for (const known of [live, replayed]) known.remember('p', 8, 7, 80, 1, 1000);
    expect(live.find('p', 8)).toBe(80);
    expect(replayed.export()).toEqual(live.export());
  });
});

describe('producers', () => {
  it('are forgotten when they were silent for long', () => {
    const known = producers();
    known.remember('old', 1, 1, 10, 1, 0);
    known.remember('new', 1, 1, 20, 1, 50);
    known.expire(101);
    expect(known.export().map(({ producer }) => producer)).toEqual(['new']);
  });

  it('make room by the one that was used longest ago, whatever the clock said, never by the newcomer', () => {
    const known = producers();
    ['a', 'b', 'c', 'a'].forEach((producer, i) => {
      known.remember(producer, i + 1, 1, i, 1, 10 - i);
    });
    known.remember('d', 1, 1, 9, 1, 0);
    expect(known.export().map(({ producer }) => producer)).toEqual(['c', 'a', 'd']);
    const copy = producers();
    copy.import(known.export());
    copy.remember('e', 1, 1, 9, 1, 0);
    expect(copy.export().map(({ producer }) => producer)).toEqual(['a', 'd', 'e']);
  });
});
