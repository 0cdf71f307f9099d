import { describe, expect, test } from 'vitest';
import { appendTexts, DIRECTORY, makeTexts, openJournal, readText, SMALL, TEXT } from '../../test/support/journal.ts';
import { ManualClock } from '../../test/twins/manual-clock.ts';
import { MemoryDisk } from '../../test/twins/memory-disk.ts';
import { InvariantError } from '../errors.ts';
import { EPOCH_MAX } from '../ids.ts';
import { LIMITS } from '../limits.ts';
import { EPOCH, Journal, SEGMENT_STATE } from './journal.ts';

const turn = () => new Promise((resolve) => setImmediate(resolve));

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await turn();
}

describe('what was appended', () => {
  test('comes back in order, over pages and segments, with its places', async () => {
    const first = await openJournal();
    const texts = makeTexts(60, 1500);
    const places = appendTexts(first.journal, texts);
    await first.journal.close();

    const second = await openJournal({ disk: first.disk });
    expect(second.texts).toEqual(texts);
    expect(second.report).toMatchObject({ cleanlyClosed: true, tornBytes: 0, epoch: 2 });
    const found = second.replayed.filter((record) => record.type === TEXT);
    expect(found.map(({ segment, offset }) => ({ segment, offset }))).toEqual(places);
    expect(new Set(places.map((place) => place.segment)).size).toBeGreaterThan(3);
  });

  test('is preceded by the state of its segment, and each opening by its epoch', async () => {
    const first = await openJournal();
    appendTexts(first.journal, makeTexts(30, 1500));
    await first.journal.close();
    const { replayed, report } = await openJournal({ disk: first.disk });
    const states = replayed.filter((record) => record.type === SEGMENT_STATE);
    expect(states).toHaveLength(report.segments);
    expect(states.map((record) => record.body.toString())).toEqual(states.map(() => 'state'));
    expect(replayed[0].type).toBe(SEGMENT_STATE);
    expect(replayed[1]).toMatchObject({ type: EPOCH, epoch: 1 });
  });

  test('is made of several parts and of none', async () => {
    const first = await openJournal();
    first.journal.append(TEXT, Buffer.from('ab'), Buffer.alloc(0), Buffer.from('c'));
    first.journal.append(TEXT);
    first.journal.retain(1, 2);
    await first.journal.close();
    expect((await openJournal({ disk: first.disk })).texts).toEqual(['abc', '']);
  });

  test('may be larger than a page, and larger than a segment', async () => {
    const first = await openJournal();
    const texts = ['small', 'L'.repeat(9000), 'behind it', 'M'.repeat(4064), 'H'.repeat(60_000), 'end'];
    const places = appendTexts(first.journal, texts);
    for (const [i, place] of places.entries()) expect(readText(first.journal, place, texts[i].length)).toBe(texts[i]);
    await first.journal.close();

    const second = await openJournal({ disk: first.disk, cacheBytes: 0 });
    expect(second.texts).toEqual(texts);
    for (const [i, place] of places.entries()) {
      await second.journal.load(place.segment, place.offset + texts[i].length - 1);
      expect(readText(second.journal, place, texts[i].length)).toBe(texts[i]);
    }
  });

  test('is refused beyond the largest record, and under a type of the journal itself', async () => {
    const { journal } = await openJournal();
    expect(() => journal.append(TEXT, Buffer.alloc(LIMITS.recordBytesMax + 1))).toThrow(InvariantError);
    expect(() => journal.append(4, Buffer.alloc(1))).toThrow(InvariantError);
  });

  test('goes on in the page in which the run before ended', async () => {
    const disk = new MemoryDisk();
    const texts = makeTexts(12, 700);
    for (const text of texts) {
      const { journal } = await openJournal({ disk });
      appendTexts(journal, [text]);
      await journal.close();
    }
    expect((await openJournal({ disk })).texts).toEqual(texts);
  });
});

describe('group commit', () => {
  test('puts all that is appended during a write into the next one', async () => {
    const { journal, disk, durable } = await openJournal();
    disk.hold('write');
    const first = journal.append(TEXT, Buffer.from('first'));
    await disk.held('write');
    const writes = disk.counts.get('write') as number;
    let last = 0;
    for (let i = 0; i < 50; i++) last = journal.append(TEXT, Buffer.from(`while ${i}`));
    expect(journal.durableSequence).toBeLessThan(first);
    expect(journal.unwrittenBytes).toBeGreaterThan(0);
    disk.release();
    await durable(last);
    expect(disk.counts.get('write')).toBe(writes + 1);
    expect(journal.unwrittenBytes).toBe(0);
  });

  test('confirms nothing before the write is back', async () => {
    const confirmed: number[] = [];
    const { journal, disk, durable } = await openJournal({ onDurable: (sequence) => confirmed.push(sequence) });
    confirmed.length = 0;
    disk.hold('write');
    const sequence = journal.append(TEXT, Buffer.from('x'));
    await disk.held('write');
    expect(confirmed).toEqual([]);
    disk.release();
    await durable(sequence);
    expect(confirmed).toEqual([sequence]);
  });

  test('splits what is large, and confirms a record with its last byte only', async () => {
    const MiB = 2 ** 20;
    const confirmed: number[] = [];
    const { journal, disk, durable } = await openJournal({
      segmentBytes: 16 * MiB,
      pageBytes: MiB,
      onDurable: (sequence) => confirmed.push(sequence),
    });
    await durable(journal.appendedSequence);
    confirmed.length = 0;
    const before = disk.counts.get('write') as number;
    const small = journal.append(TEXT, Buffer.from('small'));
    const large = journal.append(TEXT, Buffer.alloc(9 * MiB, 1));
    await durable(large);
    expect(confirmed).toEqual([small, large]);
    expect((disk.counts.get('write') as number) - before).toBeGreaterThanOrEqual(3);
  });
});

describe('fsync', () => {
  test('never: only flush, epoch and close sync', async () => {
    const { journal, disk, durable } = await openJournal({ fsync: 'never' });
    const before = disk.counts.get('sync') as number;
    await durable(journal.append(TEXT, Buffer.from('x')));
    expect(disk.counts.get('sync')).toBe(before);
    await journal.flush();
    expect(disk.counts.get('sync')).toBe(before + 1);
    await journal.flush();
    expect(disk.counts.get('sync')).toBe(before + 1);
  });

  test('interval: one sync after the interval, none while nothing is appended', async () => {
    const clock = new ManualClock();
    const { journal, disk, durable } = await openJournal({ fsync: 'interval', fsyncIntervalMs: 100, clock });
    clock.advance(100);
    await turn();
    const before = disk.counts.get('sync') as number;
    await durable(journal.append(TEXT, Buffer.from('x')));
    await durable(journal.append(TEXT, Buffer.from('y')));
    clock.advance(99);
    expect(disk.counts.get('sync')).toBe(before);
    clock.advance(1);
    await turn();
    expect(disk.counts.get('sync')).toBe(before + 1);
    clock.advance(1000);
    await turn();
    expect(disk.counts.get('sync')).toBe(before + 1);
  });
});

describe('epochs', () => {
  test('grow with every opening and with advanceEpoch', async () => {
    const first = await openJournal();
    expect(first.journal.epoch).toBe(1);
    expect(await first.journal.advanceEpoch()).toBe(2);
    expect(first.journal.epoch).toBe(2);
    await first.journal.close();
    expect((await openJournal({ disk: first.disk })).journal.epoch).toBe(3);
  });

  test('are not told before they are synced', async () => {
    const { journal, disk } = await openJournal();
    disk.hold('write');
    const advanced = journal.advanceEpoch();
    await disk.held('write');
    expect(journal.epoch).toBe(1);
    disk.release();
    expect(await advanced).toBe(2);
  });

  test('end before ids would repeat', async () => {
    const { journal } = await openJournal({ directory: null });
    for (let i = 1; i < EPOCH_MAX; i += 2 ** 16) await journal.advanceEpoch();
    expect(journal.epoch).toBeLessThan(EPOCH_MAX);
  });
});

describe('segments', () => {
  test('go in order, each when nothing needs it', async () => {
    const { journal, durable } = await openJournal();
    const places = appendTexts(journal, makeTexts(40, 1500));
    await durable(journal.appendedSequence);
    const numbers = [...new Set(places.map((place) => place.segment))];
    const releaseAll = (segment: number) =>
      journal.release(segment, places.filter((place) => place.segment === segment).length);

    releaseAll(numbers[1]);
    await turn();
    expect(journal.oldestSegment()?.segment).toBe(numbers[0]);
    releaseAll(numbers[0]);
    await turn();
    expect(journal.oldestSegment()?.segment).toBe(numbers[2]);
    expect(journal.locate(numbers[0], 100)).toBeUndefined();
    expect(() => journal.retain(numbers[0], 1)).toThrow(InvariantError);
  });

  test('do not go before what emptied them is on disk', async () => {
    const { journal, disk, durable } = await openJournal();
    const places = appendTexts(journal, makeTexts(20, 1500));
    await durable(journal.appendedSequence);
    disk.hold('write');
    const outcome = journal.append(TEXT, Buffer.from('outcome'));
    journal.release(1, places.filter((place) => place.segment === 1).length);
    await disk.held('write');
    expect(journal.oldestSegment()?.segment).toBe(1);
    expect(disk.names(DIRECTORY)).toContain('0000000001.segment');
    disk.release();
    await durable(outcome);
    expect(journal.oldestSegment()?.segment).not.toBe(1);
  });

  test('are synced for it under every fsync policy', async () => {
    const { journal, disk, durable } = await openJournal({ fsync: 'never' });
    const places = appendTexts(journal, makeTexts(20, 1500));
    await durable(journal.appendedSequence);
    disk.hold('sync');
    journal.append(TEXT, Buffer.from('outcome'));
    journal.release(1, places.filter((place) => place.segment === 1).length);
    await disk.held('sync');
    expect(journal.oldestSegment()?.segment).toBe(1);
    disk.release();
    await until(() => journal.oldestSegment()?.segment !== 1);
  });

  test('are written over, not piled up', async () => {
    const { journal, disk, durable } = await openJournal();
    for (let round = 0; round < 30; round++) {
      const places = appendTexts(journal, makeTexts(20, 1500, `round${round}-`));
      await durable(journal.appendedSequence);
      for (const place of places) journal.release(place.segment, 1);
      await durable(journal.append(TEXT, Buffer.from('outcome')));
    }
    await until(() => journal.stats().spareSegments <= 2);
    expect(disk.names(DIRECTORY).length).toBeLessThan(10);
    expect(disk.counts.get('create')).toBeLessThan(12);
    await journal.close();
    expect((await openJournal({ disk })).report.cleanlyClosed).toBe(true);
  });

  test('count what refers to them', async () => {
    const { journal } = await openJournal();
    const places = appendTexts(journal, makeTexts(20, 1500));
    const inFirst = places.filter((place) => place.segment === 1).length;
    journal.release(1, 2);
    expect(journal.oldestSegment()).toMatchObject({ segment: 1, liveCount: inFirst - 2, recordedCount: inFirst });
    expect(() => journal.release(1, inFirst)).toThrow(InvariantError);
  });

  test('are read record by record, cached or not, the active one too', async () => {
    const { journal, durable } = await openJournal({ cacheBytes: 4096 });
    const texts = [...makeTexts(30, 700), 'L'.repeat(9000), ...makeTexts(5, 700, 'after')];
    const places = appendTexts(journal, texts);
    await durable(journal.appendedSequence);
    const seen: { text: string; segment: number; offset: number }[] = [];
    for (const segment of new Set(places.map((place) => place.segment))) {
      await journal.read(segment, (record) => {
        seen.push({ text: record.body.toString('latin1'), segment: record.segment, offset: record.offset });
      });
    }
    expect(seen).toEqual(texts.map((text, i) => ({ text, ...places[i] })));
  });

  test('are not recycled while they are read', async () => {
    const { journal, durable } = await openJournal();
    const places = appendTexts(journal, makeTexts(20, 1500));
    await durable(journal.appendedSequence);
    let pages = 0;
    await journal.read(1, () => {}, {
      betweenPages: async () => {
        if (pages++ === 0) journal.release(1, places.filter((place) => place.segment === 1).length);
        await turn();
        expect(journal.oldestSegment()?.segment).toBe(1);
      },
    });
    expect(pages).toBeGreaterThan(1);
    expect(journal.oldestSegment()?.segment).not.toBe(1);
  });
});

describe('the cache', () => {
  test('stays within its bound, and gives the same bytes again', async () => {
    const cacheBytes = 3 * SMALL.pageBytes;
    const { journal, durable } = await openJournal({ cacheBytes });
    const texts = makeTexts(80, 1000);
    const places = appendTexts(journal, texts);
    await durable(journal.appendedSequence);
    expect(journal.stats().cachedBytes).toBeLessThanOrEqual(cacheBytes);
    for (const i of [0, 79, 3, 40, 41, 2, 60, 0]) {
      await journal.load(places[i].segment, places[i].offset);
      expect(readText(journal, places[i], 1000)).toBe(texts[i]);
      expect(journal.stats().cachedBytes).toBeLessThanOrEqual(cacheBytes);
    }
  });

  test('reads a page once for all who want it, and the next one with it', async () => {
    const { journal, disk, durable } = await openJournal({ cacheBytes: 4 * SMALL.pageBytes });
    const places = appendTexts(journal, makeTexts(80, 1000));
    await durable(journal.appendedSequence);
    await until(() => journal.stats().unwrittenBytes === 0);
    const before = disk.counts.get('read') ?? 0;
    await Promise.all([1, 2, 3].map(() => journal.load(places[0].segment, places[0].offset)));
    await turn();
    expect((disk.counts.get('read') ?? 0) - before).toBe(2);
    expect(journal.locate(places[0].segment, SMALL.pageBytes)).toBeDefined();
  });

  test('leaves a page alone in the turn in which it was located', async () => {
    const { journal, durable } = await openJournal({ cacheBytes: SMALL.pageBytes });
    const texts = makeTexts(40, 1000);
    const places = appendTexts(journal, texts);
    await durable(journal.appendedSequence);
    await journal.load(places[0].segment, places[0].offset);
    const extent = journal.locate(places[0].segment, places[0].offset);
    const bytes = extent?.bytes as Buffer;
    appendTexts(journal, makeTexts(40, 1000, 'more'));
    await Promise.resolve();
    const from = places[0].offset - (extent?.base ?? 0);
    expect(bytes.toString('latin1', from, from + 1000)).toBe(texts[0]);
  });

  test('says so when what it reads back is no longer what was written', async () => {
    const { journal, disk, durable } = await openJournal({ cacheBytes: SMALL.pageBytes });
    const places = appendTexts(journal, makeTexts(40, 1000));
    await durable(journal.appendedSequence);
    disk.bytes(`${DIRECTORY}/0000000001.segment`)[places[0].offset + 5] ^= 1;
    await expect(journal.load(1, places[0].offset)).rejects.toMatchObject({ code: 'JOURNAL_DAMAGED' });
  });

  test('has nothing for segments that are gone, and refuses to look for it', async () => {
    const { journal, durable } = await openJournal();
    const places = appendTexts(journal, makeTexts(20, 1500));
    await durable(journal.appendedSequence);
    journal.release(1, places.filter((place) => place.segment === 1).length);
    expect(journal.locate(1, places[0].offset)).toBeUndefined();
    await expect(journal.load(1, places[0].offset)).rejects.toThrow('segment 1, which does not exist');
  });
});

describe('memory mode', () => {
  test('keeps everything that is referred to, and no file', async () => {
    const { journal, disk, durable, report } = await openJournal({ directory: null, fsync: 'interval', cacheBytes: 0 });
    expect(report).toMatchObject({ recordCount: 0, epoch: 1 });
    const texts = makeTexts(100, 1000);
    const places = appendTexts(journal, texts);
    await durable(journal.appendedSequence);
    for (const [i, place] of places.entries()) expect(readText(journal, place, 1000)).toBe(texts[i]);
    for (const place of places.slice(0, 90)) journal.release(place.segment, 1);
    await journal.flush();
    expect(journal.oldestSegment()?.segment).toBeGreaterThan(1);
    expect(readText(journal, places[95], 1000)).toBe(texts[95]);
    await journal.close();
    expect(disk.counts.size).toBe(0);
  });
});

describe('closing', () => {
  test('lets nothing in afterwards, and may be asked for twice', async () => {
    const { journal } = await openJournal();
    const sequence = journal.append(TEXT, Buffer.from('x'));
    const closing = journal.close();
    expect(() => journal.append(TEXT, Buffer.from('y'))).toThrow(expect.objectContaining({ code: 'CLOSED' }));
    await Promise.all([closing, journal.close()]);
    expect(journal.durableSequence).toBeGreaterThanOrEqual(sequence);
    await expect(journal.advanceEpoch()).rejects.toMatchObject({ code: 'CLOSED' });
  });

  test('frees the directory; open refuses it before', async () => {
    const { journal, disk } = await openJournal();
    await expect(openJournal({ disk })).rejects.toMatchObject({ code: 'DIRECTORY_LOCKED' });
    await journal.close();
    await (await openJournal({ disk })).journal.close();
  });

  test('frees the directory when it fails too', async () => {
    const { journal, disk } = await openJournal();
    disk.fail('write', 'EIO', { times: 100 });
    journal.append(TEXT, Buffer.from('x'));
    await expect(journal.close()).rejects.toMatchObject({ code: 'STORAGE_FAILED' });
    disk.heal();
    await (await openJournal({ disk })).journal.close();
  });
});

describe('a directory that is not ours any more', () => {
  test('gets no new segment, and nothing that would lie there is confirmed', async () => {
    const { journal, disk, failures } = await openJournal();
    await journal.flush();
    disk.takeLockAway(DIRECTORY);
    appendTexts(journal, makeTexts(60, 1000));
    await expect(journal.flush()).rejects.toMatchObject({
      code: 'STORAGE_FAILED',
      message: expect.stringContaining('not ours any more'),
    });
    expect(failures).toHaveLength(1);
  });

  test('gets no new epoch', async () => {
    const { journal, disk } = await openJournal();
    const { epoch } = journal;
    disk.takeLockAway(DIRECTORY);
    await expect(journal.advanceEpoch()).rejects.toMatchObject({ code: 'STORAGE_FAILED' });
    expect(journal.epoch).toBe(epoch);
  });
});

test('Journal is what open gives', async () => {
  expect((await openJournal({ directory: null })).journal).toBeInstanceOf(Journal);
});
