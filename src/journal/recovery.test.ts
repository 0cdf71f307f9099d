import { describe, expect, test } from 'vitest';
import { appendTexts, DIRECTORY, makeTexts, openJournal, SMALL, TEXT } from '../../test/support/journal.ts';
import { MemoryDisk, seededRandom } from '../../test/twins/memory-disk.ts';
import { dump } from './dump.ts';
import { encodeHead, HEADER_BYTES, readHeader, recordBytes, SEGMENT_STATE, sealRecord } from './format.ts';
import { repair } from './repair.ts';
import { newHeader } from './scan.ts';
import { verify } from './verify.ts';

const SEGMENT_1 = `${DIRECTORY}/0000000001.segment`;
const segmentPath = (number: number) => `${DIRECTORY}/${String(number).padStart(10, '0')}.segment`;

/** Texts appended and confirmed one after the other; then the process dies. */
async function killedAfter(texts: readonly string[]): Promise<{
  disk: MemoryDisk;
  places: { segment: number; offset: number }[];
}> {
  const { journal, disk, durable } = await openJournal();
  const places: { segment: number; offset: number }[] = [];
  for (const text of texts) {
    places.push(...appendTexts(journal, [text]));
    await durable(journal.appendedSequence);
  }
  disk.kill();
  return { disk, places };
}

/** The files as they are now, on a disk of their own. */
function copyOf(disk: MemoryDisk): MemoryDisk {
  const copy = new MemoryDisk();
  for (const name of disk.names(DIRECTORY)) {
    copy.put(`${DIRECTORY}/${name}`, Buffer.from(disk.bytes(`${DIRECTORY}/${name}`)));
  }
  return copy;
}

describe('a torn tail', () => {
  test('is cut wherever the last record was cut off, and reported', async () => {
    const texts = ['one', 'two', 'three, the last of all'];
    const { disk, places } = await killedAfter(texts);
    const begin = places[2].offset - HEADER_BYTES;
    const end = places[2].offset + texts[2].length;
    for (let from = begin; from < end; from++) {
      const torn = copyOf(disk);
      torn.bytes(SEGMENT_1).fill(0, from, end);
      const { journal, texts: found, report } = await openJournal({ disk: torn });
      expect(found).toEqual(texts.slice(0, 2));
      expect(report.cleanlyClosed).toBe(false);
      if (from >= begin + 24) expect(report).toMatchObject({ torn: { file: SEGMENT_1, offset: begin } });
      if (from >= begin + 24) expect(report.tornBytes).toBe(recordBytes(texts[2].length));
      appendTexts(journal, ['after the cut']);
      await journal.close();
      const again = await openJournal({ disk: torn });
      expect(again.texts).toEqual(['one', 'two', 'after the cut']);
      expect(again.report).toMatchObject({ cleanlyClosed: true, tornBytes: 0 });
    }
  });

  test('takes with it what was written behind it at the same time', async () => {
    const { journal, disk, durable } = await openJournal();
    appendTexts(journal, ['confirmed']);
    await durable(journal.appendedSequence);
    const places = appendTexts(journal, ['lost sector', 'x'.repeat(600), 'arrived', 'arrived too']);
    await durable(journal.appendedSequence);
    disk.kill();
    disk.bytes(SEGMENT_1).fill(0, places[0].offset - HEADER_BYTES, places[1].offset + 10);
    const reopened = await openJournal({ disk });
    expect(reopened.texts).toEqual(['confirmed']);
    expect(reopened.report.tornBytes).toBeGreaterThan(600);
  });

  test('does not come back, not even after several cuts at the same place', async () => {
    const { journal, disk, durable } = await openJournal();
    appendTexts(journal, ['confirmed']);
    await durable(journal.appendedSequence);
    // As large as the EPOCH record that will take its place: what follows then stands where a next record would.
    const places = appendTexts(journal, ['', 'ghost 1', 'ghost 2']);
    await durable(journal.appendedSequence);
    disk.kill();
    disk.bytes(SEGMENT_1)[places[0].offset - HEADER_BYTES] ^= 1;
    for (let i = 0; i < 4; i++) {
      const { texts } = await openJournal({ disk });
      expect(texts).toEqual(['confirmed']);
      disk.kill();
    }
  });
});

test('an epoch of which nothing but what followed arrived is not begun again', async () => {
  const { journal, disk, durable } = await openJournal();
  appendTexts(journal, ['confirmed']);
  await durable(journal.appendedSequence);
  void journal.advanceEpoch();
  const at = journal.lastOffset - HEADER_BYTES;
  appendTexts(journal, ['ghost of epoch 2']);
  await durable(journal.appendedSequence);
  disk.kill();
  disk.bytes(SEGMENT_1)[at] ^= 1;
  for (let epoch = 3; epoch < 6; epoch++) {
    const { texts, journal: again } = await openJournal({ disk });
    expect(texts).toEqual(['confirmed']);
    expect(again.epoch).toBe(epoch);
    disk.kill();
  }
});

test('what a start has read survives a power failure, whatever policy wrote it', async () => {
  const disk = new MemoryDisk({ random: seededRandom(1) });
  const first = await openJournal({ disk, fsync: 'never' });
  const texts = makeTexts(8, 1000);
  appendTexts(first.journal, texts);
  await first.durable(first.journal.appendedSequence);
  disk.kill();
  const second = await openJournal({ disk, fsync: 'always' });
  appendTexts(second.journal, ['later']);
  await second.durable(second.journal.appendedSequence);
  disk.crash();
  expect((await openJournal({ disk })).texts).toEqual([...texts, 'later']);
});

describe('damage that was synced', () => {
  test('stops the start and names file, offset, tasks and the way out', async () => {
    const { disk, places } = await killedAfter(['task one', 'task two', 'task three', 'task four']);
    disk.bytes(SEGMENT_1)[places[1].offset + 4] ^= 0x20;
    const opening = openJournal({ disk });
    await expect(opening).rejects.toMatchObject({
      code: 'JOURNAL_DAMAGED',
      details: { file: SEGMENT_1, offset: places[1].offset - HEADER_BYTES, firstSequence: 4, lastSequence: 4 },
    });
    const message = await opening.catch((error: Error) => error.message);
    expect(message).toContain(SEGMENT_1);
    expect(message).toContain(`offset ${places[1].offset - HEADER_BYTES}`);
    expect(message).toContain('text task');
    expect(message).toContain('text task one');
    expect(message).toContain('text task three');
    expect(message).toContain(`millrace journal repair ${DIRECTORY}`);
  });

  test('frees the directory again', async () => {
    const { disk, places } = await killedAfter(['a', 'b', 'c', 'd']);
    disk.bytes(SEGMENT_1)[places[1].offset] ^= 1;
    await expect(openJournal({ disk })).rejects.toMatchObject({ code: 'JOURNAL_DAMAGED' });
    disk.bytes(SEGMENT_1)[places[1].offset] ^= 1;
    expect((await openJournal({ disk })).texts).toEqual(['a', 'b', 'c', 'd']);
  });

  test('is seen in a segment that is not the last, whatever is behind it', async () => {
    const { disk, places } = await killedAfter(makeTexts(25, 1500));
    const last = places.findLast((place) => place.segment === 1) as { offset: number };
    disk.bytes(SEGMENT_1)[last.offset + 1] ^= 1;
    await expect(openJournal({ disk })).rejects.toMatchObject({
      code: 'JOURNAL_DAMAGED',
      details: { file: SEGMENT_1 },
    });
  });

  test('is seen in the head of a segment', async () => {
    const { disk } = await killedAfter(makeTexts(25, 1500));
    for (const number of [1, 2]) {
      const broken = copyOf(disk);
      broken.bytes(segmentPath(number))[50] ^= 1;
      const details = { kind: 'head', segment: number };
      await expect(openJournal({ disk: broken })).rejects.toMatchObject({ code: 'JOURNAL_DAMAGED', details });
    }
  });

  test('is a segment that is missing between others', async () => {
    const { disk } = await killedAfter(makeTexts(35, 1500));
    await disk.remove(segmentPath(2));
    await expect(openJournal({ disk })).rejects.toMatchObject({
      code: 'JOURNAL_DAMAGED',
      details: { kind: 'missing segment', segment: 2 },
    });
  });
});

test('every flipped bit of a journal is named, or changes nothing that was confirmed', async () => {
  const texts = ['alpha', 'beta', 'gamma'];
  const { journal, disk } = await openJournal();
  for (const text of texts) {
    appendTexts(journal, [text]);
    await journal.flush();
  }
  await journal.close();
  const used = Buffer.from(disk.bytes(SEGMENT_1).subarray(0, 1024));
  const outcomes = { damaged: 0, whole: 0 };
  for (let bit = 0; bit < 320 * 8; bit++) {
    const flipped = new MemoryDisk();
    flipped.put(SEGMENT_1, used);
    flipped.bytes(SEGMENT_1)[bit >> 3] ^= 1 << (bit & 7);
    const found: string[] = [];
    let isDamaged = false;
    await dump(DIRECTORY, flipped, {
      record: ({ type, body }) => {
        if (type === TEXT) found.push(body.toString('latin1'));
      },
      damage: () => {
        isDamaged = true;
      },
    });
    if (!isDamaged) expect(found).toEqual(texts);
    outcomes[isDamaged ? 'damaged' : 'whole']++;
  }
  expect(outcomes.damaged).toBeGreaterThan(1500);
});

describe('what an earlier use of the file left', () => {
  test('is never taken for the log: recycled segments', async () => {
    const { journal, disk, durable } = await openJournal();
    for (let round = 0; round < 12; round++) {
      const places = appendTexts(journal, makeTexts(8, 1500, `old${round}-`));
      await durable(journal.appendedSequence);
      for (const place of places) journal.release(place.segment, 1);
    }
    appendTexts(journal, ['kept']);
    await durable(journal.appendedSequence);
    disk.kill();
    const { texts, report } = await openJournal({ disk });
    expect(report).toMatchObject({ tornBytes: 0, cleanlyClosed: false });
    expect(texts.at(-1)).toBe('kept');
    expect(texts.length).toBeLessThan(15);
    expect(new Set(texts).size).toBe(texts.length);
  });

  test('is never taken for the log: a record of a lower epoch with the next sequence', async () => {
    const { disk, places } = await killedAfter(['a', 'b']);
    const reopened = await openJournal({ disk });
    const epochAt = reopened.replayed.length;
    expect(epochAt).toBeGreaterThan(0);
    disk.kill();
    // Behind the EPOCH record of the second opening: whole, next in sequence, and of epoch 1.
    const offset = places[1].offset + 8 + HEADER_BYTES;
    const bytes = disk.bytes(SEGMENT_1);
    bytes.write('gh', offset + HEADER_BYTES, 'latin1');
    sealRecord(bytes, offset, { type: TEXT, length: 2, epoch: 1, sequence: 6, syncedSequence: 0 });
    const { texts, journal } = await openJournal({ disk });
    expect(texts).toEqual(['a', 'b']);
    expect(journal.epoch).toBe(3);
  });
});

describe('a segment file that was not begun', () => {
  test('is used as the next one', async () => {
    const { journal, disk, durable } = await openJournal();
    appendTexts(journal, makeTexts(8, 1500));
    await durable(journal.appendedSequence);
    while (!disk.names(DIRECTORY).includes('0000000002.segment')) await new Promise((resolve) => setImmediate(resolve));
    disk.kill();
    disk.put(segmentPath(2), Buffer.from(disk.bytes(SEGMENT_1)));
    const reopened = await openJournal({ disk });
    expect(reopened.texts).toHaveLength(8);
    const more = makeTexts(20, 1500, 'more');
    appendTexts(reopened.journal, more);
    await reopened.journal.close();
    expect((await openJournal({ disk })).texts.slice(8)).toEqual(more);
  });

  test('is on the disk before anything is written to it, though its process was killed before it had seen to that', async () => {
    const disk = new MemoryDisk();
    const first = await openJournal({ disk });
    appendTexts(first.journal, ['first']);
    await first.durable(first.journal.appendedSequence);
    disk.hold('syncDirectory');
    // Enough for the next file to be made.
    appendTexts(first.journal, makeTexts(12, 1000, 'a'));
    await disk.held('syncDirectory');
    disk.kill();
    const second = await openJournal({ disk });
    appendTexts(second.journal, makeTexts(12, 1000, 'b'));
    await second.durable(second.journal.appendedSequence);
    expect(second.journal.lastSegment).toBeGreaterThan(1);
    // Of what was created and renamed, and not synced, nothing is left.
    disk.crash(0);
    const { texts } = await openJournal({ disk });
    expect(texts).toEqual(expect.arrayContaining(makeTexts(12, 1000, 'b')));
  });

  test('is all there is when the first start was cut off', async () => {
    for (const bytes of [0, 100, SMALL.segmentBytes]) {
      const disk = new MemoryDisk();
      disk.put(SEGMENT_1, Buffer.alloc(bytes));
      const { journal, report } = await openJournal({ disk });
      expect(report).toMatchObject({ recordCount: 0, segments: 0 });
      appendTexts(journal, ['first']);
      await journal.close();
      expect((await openJournal({ disk })).texts).toEqual(['first']);
    }
  });

  test('may have the number of a spare', async () => {
    const { disk } = await killedAfter(['a']);
    disk.put(segmentPath(3), Buffer.alloc(SMALL.segmentBytes));
    disk.put(`${DIRECTORY}/0000000003.spare`, Buffer.alloc(SMALL.segmentBytes));
    const { journal, failures } = await openJournal({ disk });
    appendTexts(journal, makeTexts(60, 1500));
    await journal.close();
    expect(failures).toEqual([]);
    expect((await openJournal({ disk })).texts).toHaveLength(61);
  });
});

test('files of two journals in one directory are told apart at once, however far their numbers are', async () => {
  const { disk } = await killedAfter(['a']);
  const shape = { segmentBytes: SMALL.segmentBytes, pageBytes: SMALL.pageBytes, stateBytes: 0 };
  const head = encodeHead({ number: 9_999_999_999, previousSequence: 10_000, ...shape });
  const other = Buffer.alloc(SMALL.segmentBytes);
  head.copy(other, HEADER_BYTES);
  sealRecord(other, 0, { type: SEGMENT_STATE, length: head.length, epoch: 1, sequence: 10_001, syncedSequence: 0 });
  disk.put(segmentPath(9_999_999_999), other);
  const refusal = {
    code: 'JOURNAL_DAMAGED',
    message: expect.stringMatching(/0000000002\.segment is missing, and 9999999996 more before 9999999999\.segment/),
  };
  await expect(openJournal({ disk: copyOf(disk) })).rejects.toMatchObject(refusal);
  await expect(verify(DIRECTORY, copyOf(disk))).rejects.toMatchObject(refusal);
});

test('a journal of a newer format is refused with both versions', async () => {
  const { disk } = await killedAfter(['a']);
  const bytes = disk.bytes(SEGMENT_1);
  bytes[9] = 7;
  bytes.writeUInt32LE(7, HEADER_BYTES + 8);
  const opening = openJournal({ disk });
  await expect(opening).rejects.toMatchObject({ code: 'JOURNAL_VERSION', details: { version: 7, supported: 1 } });
  await expect(opening).rejects.toThrow(/format 7.*up to 1/);
});

test('files of others in the directory are left alone', async () => {
  const { disk } = await killedAfter(['a']);
  disk.put(`${DIRECTORY}/notes.txt`, Buffer.from('mine'));
  disk.put(`${DIRECTORY}/1.segment`, Buffer.from('not ours'));
  const { texts } = await openJournal({ disk });
  expect(texts).toEqual(['a']);
  expect(disk.bytes(`${DIRECTORY}/notes.txt`).toString()).toBe('mine');
});

test('a directory that cannot be used is named', async () => {
  for (const operation of ['makeDirectory', 'lock', 'create'] as const) {
    const disk = new MemoryDisk();
    disk.fail(operation, 'EROFS');
    await expect(openJournal({ disk })).rejects.toMatchObject({ code: 'JOURNAL_UNUSABLE' });
  }
});

test('an old payload that is made to look like headers costs a start no time', async () => {
  const { disk } = await killedAfter(['a']);
  const bytes = disk.bytes(SEGMENT_1);
  const used = bytes.findLastIndex((byte) => byte !== 0) + 1;
  const large = Buffer.alloc(4 * 1024 * 1024);
  bytes.copy(large, 0, 0, used);
  // At every eighth byte: a type, version 1, and a length, an epoch and a sequence as those of a record to come.
  for (let at = used + 4096 - (used % 8); at + 8 <= large.length; at += 8)
    large.writeBigUInt64LE(0x0007_a120_0000_0110n, at);
  const head = Buffer.from(large.subarray(HEADER_BYTES, HEADER_BYTES + 48));
  head.writeBigUInt64LE(BigInt(large.length), 24);
  head.writeUInt32LE(1024 * 1024, 12);
  head.copy(large, HEADER_BYTES);
  const header = newHeader();
  readHeader(large, 0, header);
  sealRecord(large, 0, header);
  disk.put(SEGMENT_1, large);
  const startMs = performance.now();
  const { texts } = await openJournal({ disk, segmentBytes: large.length, pageBytes: 1024 * 1024 });
  expect(texts).toEqual(['a']);
  expect(performance.now() - startMs).toBeLessThan(5000);
});

test('a last segment of an older epoch than the one before it is damage, and can be mended', async () => {
  const { journal, disk } = await openJournal();
  appendTexts(journal, makeTexts(20, 1500));
  await journal.close();
  const begun = (await verify(DIRECTORY, disk)).segments;
  const last = segmentPath(begun.at(-1)?.number ?? 0);
  const bytes = disk.bytes(last);
  const header = newHeader();
  readHeader(bytes, 0, header);
  sealRecord(bytes, 0, { ...header, epoch: 0 });
  await expect(openJournal({ disk: copyOf(disk) })).rejects.toMatchObject({
    code: 'JOURNAL_DAMAGED',
    message: expect.stringContaining(`${last} is damaged at offset 0`),
  });
  await repair(DIRECTORY, disk);
  const { journal: again } = await openJournal({ disk });
  appendTexts(again, ['goes on']);
  await again.close();
  expect((await openJournal({ disk })).texts.at(-1)).toBe('goes on');
});

test('a segment that was cut to nothing is mended, and loses no other', async () => {
  const { journal, disk } = await openJournal();
  const texts = makeTexts(30, 1500);
  const places = appendTexts(journal, texts);
  await journal.close();
  disk.put(segmentPath(2), Buffer.alloc(0));
  await repair(DIRECTORY, disk);
  const kept = texts.filter((_, i) => places[i].segment !== 2);
  expect((await openJournal({ disk })).texts).toEqual(kept);
});
