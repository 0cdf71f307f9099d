import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { appendTexts, DIRECTORY, makeTexts, openJournal, SMALL, TEXT } from '../../test/support/journal.ts';
import { MemoryDisk, memoryDirectory } from '../../test/twins/memory-disk.ts';
import { backup } from './backup.ts';
import { dump } from './dump.ts';
import { CLOSE, EPOCH, HEADER_BYTES, SEGMENT_STATE } from './format.ts';
import { repair } from './repair.ts';
import { verify } from './verify.ts';

const TARGET = memoryDirectory('backup');
const segmentPath = (number: number, directory = DIRECTORY) =>
  `${directory}/${String(number).padStart(10, '0')}.segment`;
const describeText = (type: number, body: Buffer) => (type === TEXT ? `text ${body.toString('latin1', 0, 12)}` : '');
const turn = () => new Promise((resolve) => setImmediate(resolve));

/** A closed journal of several segments. */
async function written(texts = makeTexts(35, 1500)) {
  const { journal, disk } = await openJournal();
  const places = appendTexts(journal, texts);
  await journal.close();
  return { disk, places, texts };
}

describe('verify', () => {
  test('finds nothing in a sound journal', async () => {
    const { disk, texts } = await written();
    const report = await verify(DIRECTORY, disk);
    expect(report).toMatchObject({ damage: [], recordCount: texts.length, cleanlyClosed: true, torn: undefined });
    expect(report.segments.length).toBeGreaterThan(2);
  });

  test('names all damage, not only the first', async () => {
    const { disk, places } = await written();
    const broken = [places[3], places[4], places[20], places[30]];
    for (const { segment, offset } of broken) disk.bytes(segmentPath(segment))[offset + 700] ^= 1;
    const { damage, recordCount } = await verify(DIRECTORY, disk, describeText);
    expect(recordCount).toBe(31);
    expect(damage.map(({ segment, offset }) => ({ segment, offset: offset + HEADER_BYTES }))).toEqual([
      places[3],
      places[20],
      places[30],
    ]);
    expect(damage[0]).toMatchObject({ firstSequence: 6, lastSequence: 7, broken: expect.stringContaining('r3-') });
  });

  test('refuses a journal that is open', async () => {
    const { disk } = await openJournal();
    await expect(verify(DIRECTORY, disk)).rejects.toMatchObject({ code: 'DIRECTORY_LOCKED' });
  });
});

test('dump shows every record with its header, and waits for its reader', async () => {
  const { disk, texts, places } = await written(makeTexts(8, 1500));
  const seen: { type: number; sequence: number; syncedSequence: number; offset: number; body: string }[] = [];
  let pauses = 0;
  await dump(DIRECTORY, disk, {
    record: ({ type, sequence, syncedSequence, offset, body }) =>
      seen.push({ type, sequence, syncedSequence, offset, body: body.toString('latin1') }),
    damage: () => expect.fail('no damage'),
    pause: async () => {
      pauses++;
      await turn();
    },
  });
  expect(pauses).toBeGreaterThan(0);
  expect([seen[0].type, seen[1].type, seen.at(-1)?.type]).toEqual([SEGMENT_STATE, EPOCH, CLOSE]);
  const found = seen.filter((record) => record.type === TEXT);
  expect(found.map((record) => record.body)).toEqual(texts);
  expect(found.map((record) => record.offset)).toEqual(places.map((place) => place.offset));
  expect(seen.at(-1)?.syncedSequence).toBe((seen.at(-1)?.sequence ?? 0) - 1);
});

describe('repair', () => {
  test('does nothing to a sound journal', async () => {
    const { disk } = await written();
    const before = disk.names(DIRECTORY).map((name) => Buffer.from(disk.bytes(`${DIRECTORY}/${name}`)));
    expect(await repair(DIRECTORY, disk)).toEqual({ cut: [], lostRecordCount: 0, asideDirectory: undefined });
    expect(disk.names(DIRECTORY).map((name) => disk.bytes(`${DIRECTORY}/${name}`))).toEqual(before);
  });

  test('cuts damaged records out, keeps all others, and says what is lost', async () => {
    const { disk, places, texts } = await written();
    const lost = [0, 3, 4, 11, 20, 34];
    for (const i of lost) disk.bytes(segmentPath(places[i].segment))[places[i].offset + 700] ^= 1;
    const original = Buffer.from(disk.bytes(segmentPath(1)));
    const report = await repair(DIRECTORY, disk, describeText);
    expect(report.lostRecordCount).toBe(lost.length);
    expect(report.cut.map((damage) => damage.broken).join()).toContain('r20-');
    expect(disk.bytes(`${report.asideDirectory}/0000000001.segment`)).toEqual(original);

    expect((await verify(DIRECTORY, disk)).damage).toEqual([]);
    const opened = await openJournal({ disk });
    const kept = texts.filter((_, i) => !lost.includes(i));
    expect(opened.texts).toEqual(kept);
    for (const record of opened.replayed.filter((one) => one.type === TEXT)) {
      await opened.journal.load(record.segment, record.offset);
      expect(opened.journal.locate(record.segment, record.offset)).toBeDefined();
    }
    appendTexts(opened.journal, ['goes on']);
    await opened.journal.close();
    expect((await openJournal({ disk })).texts).toEqual([...kept, 'goes on']);
  });

  test('stands a broken head up again, without the state of the user', async () => {
    const { disk, texts } = await written();
    disk.bytes(segmentPath(2))[40] ^= 1;
    const report = await repair(DIRECTORY, disk);
    expect(report).toMatchObject({ lostRecordCount: 1, cut: [{ kind: 'head', segment: 2 }] });
    const opened = await openJournal({ disk });
    expect(opened.texts).toEqual(texts);
    const states = opened.replayed.filter((record) => record.type === SEGMENT_STATE);
    expect(states.map((record) => record.body.toString())).toEqual(
      states.map((one) => (one.segment === 2 ? '' : 'state')),
    );
  });

  test('puts an empty segment where one is missing', async () => {
    const { disk, texts, places } = await written();
    await disk.remove(segmentPath(2));
    const report = await repair(DIRECTORY, disk);
    expect(report.cut).toMatchObject([{ kind: 'missing segment', segment: 2 }]);
    const { texts: found } = await openJournal({ disk });
    expect(found).toEqual(texts.filter((_, i) => places[i].segment !== 2));
  });

  test('manages several kinds of damage next to each other', async () => {
    const { disk, texts, places } = await written(makeTexts(60, 1500));
    await disk.remove(segmentPath(2));
    disk.bytes(segmentPath(3))[45] ^= 1;
    disk.bytes(segmentPath(4)).fill(0xaa);
    disk.bytes(segmentPath(5)).fill(0, 3000, 9000);
    await repair(DIRECTORY, disk);
    const { texts: found } = await openJournal({ disk });
    const kept = texts.filter((_, i) => {
      const { segment, offset } = places[i];
      const isHit = segment === 5 && offset + 1500 > 3000 && offset - HEADER_BYTES < 9000;
      return segment !== 2 && segment !== 4 && !isHit;
    });
    expect(found).toEqual(kept);
  });

  test('takes a lost record of several pages out, and pages around it load', async () => {
    const { disk, places } = await written(['before', 'L'.repeat(9000), 'right behind', 'after'.padEnd(3000, '.')]);
    disk.bytes(segmentPath(1))[places[1].offset + 5000] ^= 1;
    await repair(DIRECTORY, disk);
    const { texts, journal, replayed } = await openJournal({ disk, cacheBytes: 0 });
    expect(texts).toEqual(['before', 'right behind', 'after'.padEnd(3000, '.')]);
    for (const { segment, offset } of replayed) await journal.load(segment, offset);
    const seen: string[] = [];
    await journal.read(1, (record) => seen.push(record.body.toString('latin1')));
    expect(seen).toEqual(texts);
  });

  test('loses what was hit and nothing else, wherever that is', async () => {
    const texts = makeTexts(50, 900).map((text, i) => (i % 11 === 5 ? text.repeat(8) : text.slice(0, 30 + 17 * i)));
    const hit = fc.record({
      segment: fc.nat(),
      offset: fc.nat(SMALL.segmentBytes - 1),
      bytes: fc.integer({ min: 1, max: 3000 }),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(hit, { minLength: 1, maxLength: 6 }), async (hits) => {
        const { disk, places } = await written(texts);
        const last = places.at(-1)?.segment as number;
        const regions = hits.map(({ segment, offset, bytes }) => ({
          segment: 1 + (segment % (last - 1)),
          offset,
          bytes,
        }));
        for (const { segment, offset, bytes } of regions) {
          const file = disk.bytes(segmentPath(segment));
          for (let at = offset; at < Math.min(offset + bytes, file.length); at++) file[at] ^= 0x5a;
        }
        const isHit = ({ segment, offset }: { segment: number; offset: number }, bytes: number) =>
          regions.some(
            (one) =>
              one.segment === segment && one.offset < offset + bytes && one.offset + one.bytes > offset - HEADER_BYTES,
          );
        await repair(DIRECTORY, disk);
        const { texts: found } = await openJournal({ disk });
        const sure = texts.filter((text, i) => !isHit(places[i], text.length));
        expect(found.filter((text) => sure.includes(text))).toEqual(sure);
        // Two hits at one place undo each other.
        expect(found.every((text) => texts.includes(text))).toBe(true);
      }),
      { numRuns: 60 },
    );
  });

  test('never touches a journal that is open', async () => {
    const { disk } = await openJournal();
    await expect(repair(DIRECTORY, disk)).rejects.toMatchObject({ code: 'DIRECTORY_LOCKED' });
  });
});

describe('backup', () => {
  test('copies a closed journal to the record', async () => {
    const { disk, texts } = await written();
    const report = await backup(DIRECTORY, TARGET, disk);
    expect(report.recordCount).toBe(texts.length);
    const copy = await openJournal({ disk, directory: TARGET });
    expect(copy.texts).toEqual(texts);
    appendTexts(copy.journal, makeTexts(20, 1500, 'more'));
    await copy.journal.close();
    expect((await openJournal({ disk, directory: TARGET })).texts).toHaveLength(texts.length + 20);
  });

  test('holds everything confirmed before it began, while the server goes on', async () => {
    let step = 0;
    const disk = new MemoryDisk({ before: () => (step++ % 3 === 0 ? (turn() as Promise<void>) : undefined) });
    const { journal, durable } = await openJournal({ disk });
    const texts = makeTexts(30, 1500);
    appendTexts(journal, texts);
    await durable(journal.appendedSequence);
    let isRunning = true;
    let count = 0;
    const server = (async () => {
      while (isRunning) {
        appendTexts(journal, makeTexts(1, 700, `later${count++}-`));
        if (count % 5 === 0) await durable(journal.appendedSequence);
        await turn();
      }
    })();
    await backup(DIRECTORY, TARGET, disk);
    isRunning = false;
    await server;
    const copy = await openJournal({ disk, directory: TARGET });
    expect(copy.texts.slice(0, 30)).toEqual(texts);
    expect(copy.texts.slice(30).every((text, i) => text.startsWith(`later${i}-`))).toBe(true);
  });

  test('leaves out what was recycled meanwhile, and has what made it so', async () => {
    const disk = new MemoryDisk();
    const { journal, durable } = await openJournal({ disk });
    const places = appendTexts(journal, makeTexts(50, 1500));
    await durable(journal.appendedSequence);
    disk.hold('read');
    const copying = backup(DIRECTORY, TARGET, disk);
    await disk.held('read');
    const moved = appendTexts(journal, ['moved forward']);
    for (const place of places.filter((one) => one.segment <= 2)) journal.release(place.segment, 1);
    await durable(journal.appendedSequence);
    while (disk.names(DIRECTORY).includes('0000000002.segment')) await turn();
    disk.release();
    await copying;
    expect(disk.names(TARGET)[0]).toBe('0000000003.segment');
    const copy = await openJournal({ disk, directory: TARGET });
    expect(copy.texts).toHaveLength(places.filter((one) => one.segment > 2).length + moved.length);
    expect(copy.texts.at(-1)).toBe('moved forward');
  });

  test('refuses a target that holds something, and a source that is damaged', async () => {
    const { disk, places } = await written();
    disk.put(`${TARGET}/file`, Buffer.from('x'));
    await expect(backup(DIRECTORY, TARGET, disk)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
    disk.bytes(segmentPath(places[5].segment))[places[5].offset] ^= 1;
    await expect(backup(DIRECTORY, memoryDirectory('other'), disk)).rejects.toMatchObject({ code: 'JOURNAL_DAMAGED' });
  });

  test('is as small as what it holds', async () => {
    const { disk } = await written(['one', 'two']);
    const report = await backup(DIRECTORY, TARGET, disk);
    expect(disk.bytes(segmentPath(1, TARGET))).toHaveLength(report.bytes);
    expect(report.bytes).toBeLessThan(SMALL.segmentBytes / 10);
  });
});
