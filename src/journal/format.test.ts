import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { appendTexts, DIRECTORY, openJournal, TEXT } from '../../test/support/journal.ts';
import { MemoryDisk } from '../../test/twins/memory-disk.ts';
import {
  decodeHead,
  EPOCH,
  encodeHead,
  HEADER_BYTES,
  isIntact,
  parseName,
  readHeader,
  recordBytes,
  SEGMENT_STATE,
  sealRecord,
} from './format.ts';
import { newHeader } from './scan.ts';
import { verify } from './verify.ts';

/** Written by the first release of format 1 and never since. */
const GOLDEN = join(import.meta.dirname, '../../test/format/journal-v1');
const SHAPE = { segmentBytes: 4096, pageBytes: 1024 };
const TEXTS = ['first', '', 'x'.repeat(700), 'y'.repeat(700), 'L'.repeat(2500), 'behind it', 'z'.repeat(1900), 'last'];

/** How the golden directory came to be: two runs, the second of which was killed. */
async function writeGolden(): Promise<void> {
  const first = await openJournal({ ...SHAPE });
  appendTexts(first.journal, TEXTS.slice(0, 5));
  await first.journal.close();
  const second = await openJournal({ ...SHAPE, disk: first.disk });
  appendTexts(second.journal, TEXTS.slice(5));
  await second.journal.flush();
  mkdirSync(GOLDEN, { recursive: true });
  for (const name of first.disk.names(DIRECTORY)) {
    const bytes = first.disk.bytes(`${DIRECTORY}/${name}`);
    const end = bytes.findLastIndex((byte) => byte !== 0) + 1;
    if (end > 0) writeFileSync(join(GOLDEN, name), bytes.subarray(0, recordBytes(end - HEADER_BYTES)));
  }
}

test('a journal of format 1 is read for ever, and goes on', async () => {
  if (process.env.MILLRACE_WRITE_GOLDEN === '1' && !existsSync(GOLDEN)) await writeGolden();
  const disk = new MemoryDisk();
  for (const name of readdirSync(GOLDEN)) disk.put(`${DIRECTORY}/${name}`, readFileSync(join(GOLDEN, name)));
  expect(await verify(DIRECTORY, disk)).toMatchObject({ damage: [], recordCount: TEXTS.length, epoch: 2 });

  const opened = await openJournal({ disk });
  expect(opened.texts).toEqual(TEXTS);
  expect(opened.replayed.filter((record) => record.type === EPOCH).map((record) => record.epoch)).toEqual([1, 2]);
  for (const record of opened.replayed.filter((one) => one.type === SEGMENT_STATE)) {
    expect(record.body.toString()).toBe('state');
  }
  expect(opened.report).toMatchObject({ epoch: 3, cleanlyClosed: false, tornBytes: 0 });
  appendTexts(opened.journal, ['written today', 'M'.repeat(9000)]);
  await opened.journal.close();
  expect((await openJournal({ disk })).texts).toEqual([...TEXTS, 'written today', 'M'.repeat(9000)]);
});

test('a record has these bytes', () => {
  const bytes = Buffer.alloc(40, 0xff);
  bytes.write('hello', HEADER_BYTES, 'latin1');
  const header = { type: TEXT, length: 5, epoch: 7, sequence: 2 ** 40 + 3, syncedSequence: 2 ** 33 };
  sealRecord(bytes, 0, header);
  expect(bytes.toString('hex')).toBe(
    [
      '6d0fdbd5',
      '05000000',
      '10',
      '01',
      '0000',
      '07000000',
      '0300000000010000',
      '0000000002000000',
      '68656c6c6f',
      '000000',
    ].join(''),
  );
  const read = newHeader();
  readHeader(bytes, 0, read);
  expect(read).toEqual(header);
  expect(isIntact(bytes, 0, read)).toBe(true);
});

test('only names of ten digits are the journal’s', () => {
  expect(parseName('0000000012.segment')).toEqual({ kind: 'segment', number: 12 });
  expect(parseName('0000000012.spare')).toEqual({ kind: 'spare', number: 12 });
  for (const name of ['12.segment', '0000000012.segment~', 'lock.sock', '0000000012.log']) {
    expect(parseName(name)).toBeUndefined();
  }
});

test.each([
  ['pages', { pageBytes: 2 ** 30 }],
  ['segment', { segmentBytes: 2 ** 50 }],
])('a head is none when its %s would take more memory than there is', (_what, change) => {
  const head = { number: 1, segmentBytes: 2 ** 26, pageBytes: 2 ** 20, previousSequence: 0, stateBytes: 0 };
  expect(decodeHead(encodeHead(head))).toEqual(head);
  expect(decodeHead(encodeHead({ ...head, ...change }))).toBeUndefined();
});
