import { describe, expect, test } from 'vitest';
import {
  appendTexts,
  DIRECTORY,
  makeTexts,
  type OpenedJournal,
  openJournal,
  SMALL,
  TEXT,
} from '../../test/support/journal.ts';
import { ManualClock } from '../../test/twins/manual-clock.ts';
import { MemoryDisk } from '../../test/twins/memory-disk.ts';
import type { DiskFile } from '../io/disk.ts';
import { LIMITS } from '../limits.ts';

type Places = ReturnType<typeof appendTexts>;

const turn = () => new Promise((resolve) => setImmediate(resolve));

/** Lets `clock` go on by less than what makes a full disk be tried again. */
async function until(condition: () => boolean, clock?: ManualClock): Promise<void> {
  for (let i = 0; !condition(); i++) {
    if (i < 20) clock?.advance(5);
    await turn();
  }
}

/** Appends until the journal has noticed that there is no room for another segment; returns where the tasks are. */
async function fill({ journal, room, durable }: OpenedJournal, clock: ManualClock): Promise<Places> {
  const places: Places = [];
  while (room.length === 0) {
    places.push(...appendTexts(journal, makeTexts(1, 200)));
    await durable(journal.appendedSequence);
    clock.advance(5);
    await turn();
  }
  return places;
}

describe('a full disk', () => {
  test('stops tasks first, outcomes last, and confirms nothing that is not written', async () => {
    const clock = new ManualClock();
    const disk = new MemoryDisk({ capacityBytes: SMALL.segmentBytes });
    const opened = await openJournal({ disk, clock });
    const { journal, room, durable, failures } = opened;
    expect(journal.hasRoom(1000, 'task')).toBe(true);
    await fill(opened, clock);
    expect(room).toEqual([false]);
    expect(journal.hasRoom(200, 'task')).toBe(true);
    while (journal.hasRoom(200, 'task')) appendTexts(journal, makeTexts(1, 200));
    expect(journal.hasRoom(100, 'outcome')).toBe(true);
    while (journal.hasRoom(500, 'outcome')) journal.append(TEXT, Buffer.alloc(500));
    await durable(journal.appendedSequence);

    const before = journal.durableSequence;
    const beyond = journal.append(TEXT, Buffer.alloc(SMALL.segmentBytes / 2));
    for (let i = 0; i < 3; i++) {
      clock.advance(1000);
      await turn();
    }
    expect(journal.durableSequence).toBe(before);

    disk.capacityBytes = 10 * SMALL.segmentBytes;
    clock.advance(1000);
    await durable(beyond);
    expect(room).toEqual([false, true]);
    expect(journal.hasRoom(1000, 'task')).toBe(true);
    expect(failures).toEqual([]);
  });

  test('has room again when a segment is given up', async () => {
    const disk = new MemoryDisk({ capacityBytes: 2 * SMALL.segmentBytes });
    const clock = new ManualClock();
    const opened = await openJournal({ disk, clock });
    const { journal, room, durable } = opened;
    const places = await fill(opened, clock);
    const inFirst = places.filter((place) => place.segment === 1).length;
    await durable(journal.append(TEXT, Buffer.from('outcome')));
    journal.release(1, inFirst);
    await until(() => room.length > 1);
    expect(room).toEqual([false, true]);
    await durable(appendTexts(journal, makeTexts(15, 1000)) && journal.appendedSequence);
  });

  test('is waited for in a write as well', async () => {
    const clock = new ManualClock();
    const { journal, disk, durable, room } = await openJournal({ clock });
    disk.fail('write', 'ENOSPC', { times: 2 });
    const sequence = journal.append(TEXT, Buffer.from('x'));
    await until(() => room.length === 1);
    expect(journal.durableSequence).toBeLessThan(sequence);
    clock.advance(1000);
    await turn();
    expect(journal.durableSequence).toBeLessThan(sequence);
    clock.advance(1000);
    await durable(sequence);
    expect(room).toEqual([false, true]);
  });

  test('does not keep close from ending', async () => {
    const clock = new ManualClock();
    const disk = new MemoryDisk({ capacityBytes: SMALL.segmentBytes });
    const { journal } = await openJournal({ disk, clock });
    appendTexts(journal, makeTexts(30, 1000));
    await turn();
    await expect(journal.close()).rejects.toMatchObject({ code: 'DISK_FULL' });
    disk.capacityBytes *= 4;
    const { texts } = await openJournal({ disk });
    expect(texts).toEqual(makeTexts(30, 1000).slice(0, texts.length));
  });

  test('does not disturb a close for which there is room', async () => {
    const disk = new MemoryDisk({ capacityBytes: SMALL.segmentBytes });
    const clock = new ManualClock();
    const opened = await openJournal({ disk, clock });
    const { journal } = opened;
    await fill(opened, clock);
    await journal.close();
    expect((await openJournal({ disk })).report.cleanlyClosed).toBe(true);
  });

  test('fails a start that needs room', async () => {
    const disk = new MemoryDisk({ capacityBytes: 100 });
    await expect(openJournal({ disk })).rejects.toMatchObject({ code: 'DISK_FULL' });
    disk.capacityBytes = 1e6;
    await (await openJournal({ disk })).journal.close();
  });
});

describe('a failed write or sync', () => {
  test('is the last: nothing is confirmed, appends throw, the directory is freed', async () => {
    const { journal, disk, failures, durable } = await openJournal();
    await durable(journal.append(TEXT, Buffer.from('good')));
    const confirmed = journal.durableSequence;
    disk.fail('write', 'EIO');
    journal.append(TEXT, Buffer.from('bad'));
    const flushed = journal.flush();
    await expect(flushed).rejects.toMatchObject({ code: 'STORAGE_FAILED' });
    expect(failures).toHaveLength(1);
    expect(() => journal.append(TEXT, Buffer.from('more'))).toThrow(
      expect.objectContaining({ code: 'STORAGE_FAILED' }),
    );
    expect(journal.durableSequence).toBe(confirmed);
    await expect(journal.close()).rejects.toMatchObject({ code: 'STORAGE_FAILED' });
    expect((await openJournal({ disk })).texts).toEqual(['good']);
  });

  test('includes a sync that fails once and then would work', async () => {
    const { journal, disk, failures } = await openJournal({ fsync: 'never' });
    disk.fail('sync', 'EIO');
    journal.append(TEXT, Buffer.from('x'));
    await expect(journal.flush()).rejects.toMatchObject({ code: 'STORAGE_FAILED' });
    await expect(journal.flush()).rejects.toMatchObject({ code: 'STORAGE_FAILED' });
    expect(failures).toHaveLength(1);
  });

  test('includes making the next segment', async () => {
    const { journal, disk, failures } = await openJournal();
    disk.fail('create', 'EIO', { path: '0000000002' });
    appendTexts(journal, makeTexts(20, 1500));
    await expect(journal.flush()).rejects.toMatchObject({ code: 'STORAGE_FAILED' });
    expect(failures).toHaveLength(1);
  });

  test('includes giving a segment up', async () => {
    const { journal, disk, failures, durable } = await openJournal();
    const places = appendTexts(journal, makeTexts(20, 1500));
    await durable(journal.appendedSequence);
    disk.fail('rename', 'EIO', { path: '0000000001.segment' });
    journal.release(1, places.filter((place) => place.segment === 1).length);
    await until(() => failures.length === 1);
  });

  test('does not touch what is in memory: reads go on', async () => {
    const { journal, disk, durable } = await openJournal();
    const [place] = appendTexts(journal, ['still there']);
    await durable(journal.appendedSequence);
    disk.fail('write', 'EIO');
    journal.append(TEXT, Buffer.from('x'));
    await expect(journal.flush()).rejects.toMatchObject({ code: 'STORAGE_FAILED' });
    expect(journal.locate(place.segment, place.offset)).toBeDefined();
  });
});

describe('a process that may open no more files', () => {
  test('waits until it may when it needs the next segment, and nothing fails', async () => {
    const clock = new ManualClock();
    const { journal, disk, durable, failures, room } = await openJournal({ clock });
    disk.fail('create', 'EMFILE', { path: '0000000002', times: 2 });
    disk.fail('syncDirectory', 'ENFILE', { times: 1 });
    const texts = makeTexts(20, 1500);
    appendTexts(journal, texts);
    const written = durable(journal.appendedSequence);
    for (let i = 0; i < 20; i++) {
      clock.advance(100);
      await turn();
    }
    await written;
    expect({ failures, room }).toEqual({ failures: [], room: [] });
    await journal.close();
    expect((await openJournal({ disk })).texts).toEqual(texts);
  });

  test('is told so when that does not pass', async () => {
    const clock = new ManualClock();
    const { journal, disk, failures } = await openJournal({ clock });
    disk.fail('create', 'EMFILE', { path: '0000000002', times: Number.POSITIVE_INFINITY });
    appendTexts(journal, makeTexts(20, 1500));
    await until(() => {
      clock.advance(100);
      return failures.length > 0;
    });
    expect(failures).toMatchObject([{ code: 'STORAGE_FAILED', message: expect.stringContaining('EMFILE') }]);
  });

  test('closes at once while it waits', async () => {
    const { journal, disk } = await openJournal({ clock: new ManualClock() });
    disk.fail('create', 'EMFILE', { path: '0000000002', times: Number.POSITIVE_INFINITY });
    appendTexts(journal, makeTexts(20, 1500));
    await turn();
    await expect(journal.close()).rejects.toMatchObject({ code: 'STORAGE_FAILED' });
  });

  test('reads on from the files that are open, and opens another by closing one of them', async () => {
    const opened: string[] = [];
    const disk = new MemoryDisk({ before: (operation, path) => void (operation === 'open' && opened.push(path)) });
    const { journal, durable, failures } = await openJournal({ disk, cacheBytes: SMALL.pageBytes });
    const places = appendTexts(journal, makeTexts(60, 1000));
    await durable(journal.appendedSequence);
    const inSegment = (segment: number) => places.filter((place) => place.segment === segment);
    const [first, ...others] = inSegment(1);
    await journal.load(1, first.offset);
    expect(opened).toHaveLength(1);
    disk.fail('open', 'EMFILE', { times: 1 });
    for (const { offset } of others) await journal.load(1, offset);
    expect(opened).toHaveLength(1);
    await journal.load(2, inSegment(2)[0].offset);
    expect(journal.locate(2, inSegment(2)[0].offset)).toBeDefined();
    expect(failures).toEqual([]);
    await journal.close();
  });

  test('keeps only so many files open for reading', async () => {
    const disk = new CountingDisk();
    const { journal, durable } = await openJournal({ disk, cacheBytes: SMALL.pageBytes });
    const places = appendTexts(journal, makeTexts(LIMITS.readSegmentsMax * 40, 1000));
    await durable(journal.appendedSequence);
    const before = disk.openCount;
    const segments = [...new Set(places.map(({ segment }) => segment))];
    expect(segments.length).toBeGreaterThan(LIMITS.readSegmentsMax);
    for (const segment of segments)
      await journal.load(segment, places.find((place) => place.segment === segment)?.offset ?? 0);
    expect(disk.openCount - before).toBeLessThanOrEqual(LIMITS.readSegmentsMax);
    await journal.close();
    expect(disk.openCount).toBe(0);
  });
});

/** Counts the files that are open. */
class CountingDisk extends MemoryDisk {
  openCount = 0;

  override async open(path: string, options: Parameters<MemoryDisk['open']>[1]): Promise<DiskFile> {
    const file = await super.open(path, options);
    this.openCount++;
    const close = async (): Promise<void> => {
      this.openCount--;
      await file.close();
    };
    return { ...file, close };
  }
}

test('a read that fails rejects that load only', async () => {
  const { journal, disk, durable, failures } = await openJournal({ cacheBytes: SMALL.pageBytes });
  const places = appendTexts(journal, makeTexts(30, 1000));
  await durable(journal.appendedSequence);
  disk.fail('read', 'EIO');
  await expect(journal.load(1, places[0].offset)).rejects.toMatchObject({ code: 'EIO' });
  await journal.load(1, places[0].offset);
  expect(journal.locate(1, places[0].offset)).toBeDefined();
  expect(failures).toEqual([]);
  expect(disk.names(DIRECTORY).length).toBeGreaterThan(1);
});
