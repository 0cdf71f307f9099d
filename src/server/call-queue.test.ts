import { expect, test } from 'vitest';
import type { MillraceError } from '../errors.ts';
import { LIMITS } from '../limits.ts';
import { CallQueue } from './call-queue.ts';

test('an answer that no frame can hold is an error of its call', async () => {
  const refused = new Promise<MillraceError>((resolve) => {
    const calls = new CallQueue({
      room: () => 1,
      run: () => 'x'.repeat(LIMITS.frameBytesMax),
      reply: () => {},
      refuse: (requestId, error) => {
        expect(requestId).toBe(7);
        resolve(error);
      },
    });
    calls.add(7, { method: 'task.list' });
  });
  expect(await refused).toMatchObject({ code: 'PAYLOAD_TOO_LARGE', details: { bound: LIMITS.frameBytesMax } });
});

test('more calls than may wait are refused one by one', () => {
  const calls = new CallQueue({ room: () => 0, run: () => ({}), reply: () => {}, refuse: () => {} });
  for (let id = 1; id <= LIMITS.callsInFlightPerConnectionMax; id++) calls.add(id, { method: 'status' });
  expect(() => calls.add(0, { method: 'status' })).toThrow(expect.objectContaining({ code: 'BUFFER_FULL' }));
});
