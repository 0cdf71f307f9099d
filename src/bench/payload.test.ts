import { expect, test } from 'vitest';
import { buildPayload, buildTimedPayload, indexIn, indexOf, NUMBER_COUNT, PAYLOAD_BYTES } from './payload.ts';

test.each([0, 1, 12_345_678, NUMBER_COUNT - 1])('payload %i is JSON of the size that the benchmark states', (index) => {
  const payload = buildPayload(index);
  expect(Buffer.byteLength(JSON.stringify(payload))).toBe(PAYLOAD_BYTES);
  expect(indexOf(payload)).toBe(index);
  expect(indexIn(Buffer.from(JSON.stringify(payload)))).toBe(index);
});

test.each([1, 3_600_000_000_000, 8_640_000_000_000_000])('so is one that carries the time %i', (calledAtNs) => {
  const payload = buildTimedPayload(7, calledAtNs);
  expect(Buffer.byteLength(JSON.stringify(payload))).toBe(PAYLOAD_BYTES);
  expect(payload.calledAtNs).toBe(calledAtNs);
});

test('bytes that are no payload have no index', () => {
  expect(indexIn(Buffer.from('{"number":"12345678"}'))).toBeNaN();
  expect(indexIn(Buffer.from('{}'))).toBeNaN();
});
