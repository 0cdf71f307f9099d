import { describe, expect, it } from 'vitest';
import { batchBody, SPEC } from '../../test/model/engine-bench.ts';
import { describeRecord, fireTasksStart, packFireHead, packTime, RECORD, unpackFireHead } from './records.ts';

const AT_MS = Date.UTC(2026, 10, 22, 9, 8, 7, 123) + 0.456;
const AT = '2026-11-22T09:08:07.123Z';

describe('a record in words', () => {
  it('says when it was in the time of people', () => {
    expect(describeRecord(RECORD.COMPLETE, packTime(AT_MS))).toContain(`at ${AT}`);
    expect(describeRecord(RECORD.FAIL, packTime(AT_MS))).toContain(`at ${AT}`);
    const command = Buffer.from(JSON.stringify({ op: 'purge', ids: [7, 2], at: AT_MS }));
    expect(describeRecord(RECORD.COMMAND, command)).toBe(`command purge {"ids":[7,2]} at ${AT}`);
  });

  it('is there though the record is damaged', () => {
    expect(describeRecord(RECORD.COMPLETE, packTime(Number.NaN))).toContain('cannot be read');
    expect(describeRecord(RECORD.COMMAND, Buffer.from('{"op":'))).toContain('cannot be read');
  });
});

describe('the record of a firing', () => {
  const fire = {
    steadyMs: AT_MS,
    firstId: 2 ** 32 + 7,
    dueMs: AT_MS - 0.456,
    nextMs: null,
    key: '0123456789abcdef',
    name: 'ü',
  };

  it('has its bytes where version 1 has them', () => {
    expect(packFireHead({ ...fire, steadyMs: 1, dueMs: 2, nextMs: 3 }).toString('hex')).toBe(
      '000000000000f03f' + '0700000001000000' + '0000000000000040' + '0000000000000840' + '0123456789abcdef' + '02c3bc',
    );
  });

  it('is read as it was written', () => {
    for (const one of [fire, { ...fire, nextMs: AT_MS + 1000, key: '', name: 'x'.repeat(128) }]) {
      const head = packFireHead(one);
      expect(unpackFireHead(head)).toEqual(one);
      expect(fireTasksStart(head)).toBe(head.length);
    }
  });

  it('is told in words', () => {
    const body = Buffer.concat([packFireHead(fire), batchBody(1, [{ spec: SPEC, payloads: ['a', 'b'] }])]);
    expect(describeRecord(RECORD.FIRE, body)).toBe(`schedule "ü", due at ${AT}, enqueues 1-7 … 1-8 (2) at ${AT}`);
  });
});
