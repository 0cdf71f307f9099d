import { expect, test } from 'vitest';
import type { MillraceError } from '../errors.ts';
import { LIMITS } from '../limits.ts';
import { CallQueue } from './call-queue.ts';

test('an answer that no frame can hold is an error of its call', async () => {
  const refused = new Promise<MillraceError>((resolve) => {
    const calls = new CallQueue({
      room: () => 1,
      turn: (begin) => begin(),
      run: () => 'x'.repeat(LIMITS.frameBytesMax),
      reply: () => {},
      begun: () => {},
      refuse: (requestId, error) => {
        expect(requestId).toBe(7);
        resolve(error);
      },
    });
    calls.add(7, { method: 'task.list' }, 1);
  });
  expect(await refused).toMatchObject({ code: 'PAYLOAD_TOO_LARGE', details: { bound: LIMITS.frameBytesMax } });
});

test('more calls than may wait are refused one by one', () => {
  const calls = new CallQueue({
    room: () => 0,
    turn: () => {},
    run: () => ({}),
    reply: () => {},
    refuse: () => {},
    begun: () => {},
  });
  for (let id = 1; id <= LIMITS.callsInFlightPerConnectionMax; id++) calls.add(id, { method: 'status' }, 1);
  expect(() => calls.add(0, { method: 'status' }, 1)).toThrow(
    expect.objectContaining({ code: 'BUFFER_FULL', message: expect.stringContaining('await some of them first') }),
  );
});
