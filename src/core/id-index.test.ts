import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { IdIndex } from './id-index.ts';
import { NONE } from './task-table.ts';

const PAGE = 1024;
const EPOCH = 2 ** 32;

function scanned(index: IdIndex, from = 0): [number, number][] {
  const found: [number, number][] = [];
  index.scan(from, (id, slot) => {
    found.push([id, slot]);
    return true;
  });
  return found;
}

function scannedBack(index: IdIndex, from = Number.MAX_SAFE_INTEGER): [number, number][] {
  const found: [number, number][] = [];
  index.scanBack(from, (id, slot) => {
    found.push([id, slot]);
    return true;
  });
  return found;
}

/** An index that has left its loading phase. */
function running(): IdIndex {
  const index = new IdIndex();
  index.loaded();
  return index;
}

describe('the index from id to slot', () => {
  it('finds what was set, and nothing else', () => {
    const index = running();
    index.set(5 * EPOCH + 3, 7);
    expect(index.get(5 * EPOCH + 3)).toBe(7);
    expect(index.get(5 * EPOCH + 4)).toBe(NONE);
    expect(index.get(3)).toBe(NONE);
    expect(index.get(Number.MAX_SAFE_INTEGER)).toBe(NONE);
  });

  it('keeps the few survivors of a page that was given up', () => {
    const index = running();
    for (let id = 0; id < 3 * PAGE; id++) index.set(id, id + 1);
    for (let id = 0; id < 3 * PAGE; id++) if (id % 100 !== 0) index.delete(id);
    const survivors = Array.from({ length: 31 }, (_, i) => i * 100).filter((id) => id < 3 * PAGE);
    expect(scanned(index)).toEqual(survivors.map((id) => [id, id + 1]));
    expect(index.size).toBe(survivors.length);
    for (const id of survivors) expect(index.get(id)).toBe(id + 1);
    for (const id of survivors) index.delete(id);
    expect(index.size).toBe(0);
  });

  it('gives up the growing page as soon as another one begins, when it is nearly empty', () => {
    const index = running();
    index.set(10, 1);
    index.set(11, 2);
    index.delete(10);
    index.set(PAGE, 3);
    expect(scanned(index)).toEqual([
      [11, 2],
      [PAGE, 3],
    ]);
    index.set(11, 9);
    expect(index.get(11)).toBe(9);
    expect(index.size).toBe(2);
  });

  it('takes ids in any order while it is loaded', () => {
    const index = new IdIndex();
    index.set(9 * PAGE, 1);
    index.set(3, 2);
    index.set(5 * PAGE + 7, 3);
    index.delete(3);
    index.set(4, 4);
    index.loaded();
    index.set(9 * PAGE + 1, 5);
    expect(scanned(index)).toEqual([
      [4, 4],
      [5 * PAGE + 7, 3],
      [9 * PAGE, 1],
      [9 * PAGE + 1, 5],
    ]);
  });

  it('stops a scan when the visitor says so, and begins one in the middle', () => {
    const index = running();
    for (let id = 0; id < 2 * PAGE; id += 300) index.set(id, id);
    const visited: number[] = [];
    index.scan(300, (id) => {
      visited.push(id);
      return visited.length < 2;
    });
    expect(visited).toEqual([300, 600]);
    expect(scanned(index, 1201).map(([id]) => id)).toEqual([1500, 1800]);
  });

  it('scans down from the middle too, over pages, survivors and gaps', () => {
    const index = running();
    for (let id = 0; id < 3 * PAGE; id++) index.set(id, id + 1);
    for (let id = 0; id < PAGE; id++) if (id % 300 !== 0) index.delete(id);
    index.set(EPOCH + 5, 1);
    const visited: number[] = [];
    index.scanBack(EPOCH + 5, (id) => {
      visited.push(id);
      return visited.length < 3;
    });
    expect(visited).toEqual([EPOCH + 5, 3 * PAGE - 1, 3 * PAGE - 2]);
    expect(scannedBack(index, PAGE + 1).map(([id]) => id)).toEqual([PAGE + 1, PAGE, 900, 600, 300, 0]);
    expect(scannedBack(index, 899).map(([id]) => id)).toEqual([600, 300, 0]);
  });

  it('equals a map under any order of ascending sets, lookups and deletes', () => {
    const step = fc.record({
      skip: fc.constantFrom(0, 0, 1, 30, 700, 3000, PAGE * PAGE, EPOCH),
      count: fc.integer({ min: 1, max: 40 }),
    });
    const doomed = fc.array(fc.nat(1_000_000), { maxLength: 60 });
    fc.assert(
      fc.property(fc.array(fc.tuple(step, doomed), { maxLength: 30 }), fc.nat(29), (steps, loadedAfter) => {
        const index = new IdIndex();
        const map = new Map<number, number>();
        let next = EPOCH;
        steps.forEach(([{ skip, count }, picks], at) => {
          if (at === loadedAfter) index.loaded();
          next += skip;
          for (let i = 0; i < count; i++, next++) {
            index.set(next, next % 1_000_003);
            map.set(next, next % 1_000_003);
          }
          for (const pick of picks) {
            const ids = [...map.keys()];
            const id = ids[pick % ids.length] ?? next;
            index.delete(id);
            map.delete(id);
            expect(index.get(id)).toBe(NONE);
          }
          const sorted = [...map].sort(([a], [b]) => a - b);
          expect(scanned(index)).toEqual(sorted);
          expect(scannedBack(index)).toEqual(sorted.toReversed());
          const [middle = next] = sorted[sorted.length >> 1] ?? [];
          expect(scanned(index, middle)).toEqual(sorted.slice(sorted.length >> 1));
          expect(scannedBack(index, middle)).toEqual(sorted.slice(0, (sorted.length >> 1) + 1).reverse());
          expect(index.size).toBe(map.size);
        });
      }),
    );
  });
});
