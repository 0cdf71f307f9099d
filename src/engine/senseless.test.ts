import { describe, expect, test } from 'vitest';
import { EngineBench } from '../../test/model/engine-bench.ts';
import { memoryDirectory } from '../../test/twins/memory-disk.ts';
import {
  HEADER_BYTES,
  type Header,
  isIntact,
  looksLikeHeader,
  readHeader,
  recordBytes,
  sealRecord,
} from '../journal/format.ts';
import { verify } from '../journal/verify.ts';
import { RECORD } from './records.ts';

const SEGMENT = `${memoryDirectory()}/0000000001.segment`;

/** A closed journal with a command in it. */
async function written(): Promise<EngineBench> {
  const bench = await EngineBench.open();
  const [id] = bench.enqueue(['a', 'b']);
  bench.engine.commands.cancel(id as number);
  await bench.flush();
  await bench.engine.close();
  return bench;
}

/** Gives the first record of that type other content; its checksum is that of what it says then. */
function rewrite(bytes: Buffer, type: number, change: (body: Buffer, header: Header) => void): number {
  const header: Header = { type: 0, length: 0, epoch: 0, sequence: 0, syncedSequence: 0 };
  for (let at = 0; looksLikeHeader(bytes, at); at += recordBytes(header.length)) {
    readHeader(bytes, at, header);
    if (header.type !== type || !isIntact(bytes, at, header)) continue;
    change(bytes.subarray(at + HEADER_BYTES, at + HEADER_BYTES + header.length), header);
    sealRecord(bytes, at, header);
    return at;
  }
  throw new Error(`there is no record of type ${type}`);
}

/** A text in the room of a body, filled up with spaces. */
function say(body: Buffer, text: string): void {
  body.fill(0x20);
  body.write(text);
}

/** As a record of another type. */
function as(type: number): (body: Buffer, header: Header) => void {
  return (_body, header) => {
    header.type = type;
  };
}

describe('an intact record that says nothing that can be replayed', () => {
  test.each([
    ['no JSON', RECORD.COMMAND, (body: Buffer) => say(body, 'nonsense')],
    ['no command', RECORD.COMMAND, (body: Buffer) => say(body, 'null')],
    ['ids without end', RECORD.COMMAND, (body: Buffer) => say(body, '{"op":"retry","ids":[1,9e15]}')],
    ['ids that are none', RECORD.COMMAND, (body: Buffer) => say(body, '{"op":"retry","at":1}')],
    ['a type that there is not', RECORD.COMMAND, as(200)],
    ['a batch that ends early', RECORD.ENQUEUE, (body: Buffer) => void body.fill(0xff, 60)],
    ['tasks copied from nowhere', RECORD.COMMAND, as(RECORD.SNAPSHOT)],
  ])('stops the start with file and offset: %s', async (_what, type, change) => {
    const bench = await written();
    const offset = rewrite(bench.disk.bytes(SEGMENT), type, change);
    await expect(bench.reopen()).rejects.toMatchObject({
      code: 'JOURNAL_DAMAGED',
      message: expect.stringMatching(
        /0000000001\.segment has a record at offset \d+ .* is intact, and cannot be replayed/,
      ),
      details: expect.objectContaining({ file: SEGMENT, offset }),
    });
    expect((await verify(memoryDirectory(), bench.disk)).damage).toEqual([]);
  });
});
