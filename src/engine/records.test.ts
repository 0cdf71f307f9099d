import { describe, expect, it } from 'vitest';
import { describeRecord, packTime, RECORD } from './records.ts';

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
