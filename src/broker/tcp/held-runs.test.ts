import { expect, test } from 'vitest';
import { body } from '../../../test/support/frame-body.ts';
import { DEFAULTS } from '../../limits.ts';
import { DeliveryReader, writeRunHeader } from '../../protocol/delivery.ts';
import { FRAME } from '../../protocol/frames.ts';
import { encodeSpec } from '../../protocol/spec.ts';
import { HeldRun } from './held-run.ts';
import { HeldRuns } from './held-runs.ts';

const { priority, timeoutMs, backoff } = DEFAULTS;
const SPEC = encodeSpec({ queue: 'q', name: 'n', priority, maxAttempts: 3, timeoutMs, backoff });

function delivered(firstId: number, firstToken: number, count: number, attempt: number): HeldRun {
  const bytes = body(FRAME.DELIVER, (writer) => {
    writeRunHeader(
      writer,
      { firstId, firstToken, count, attempt, suspect: false, enqueuedAtMs: 0, byteLength: count * 4 },
      SPEC,
    );
    for (let i = 0; i < count; i++) writer.u32(0);
  });
  return new DeliveryReader(HeldRun).read(bytes, 0, bytes.length)[0] as HeldRun;
}

test('of a task that was settled and delivered anew before the answer, only the newer delivery is kept', () => {
  const runs = new HeldRuns();
  const first = delivered(7, 100, 2, 1);
  const between = delivered(20, 150, 1, 1);
  const again = delivered(8, 200, 1, 2);
  runs.add(first);
  first.settle(1);
  runs.add(between);
  runs.add(again);
  expect(runs.resumable()).toEqual([
    ['0-7', '100', 1],
    ['0-k', '150', 1],
    ['0-8', '200', 2],
  ]);
  const lost: [HeldRun, number][] = [];

  const kept = new Map([
    [7, 300],
    [20, 301],
    [8, 302],
  ]);
  runs.sort(kept, (run, index) => lost.push([run, index]));

  expect(first.isHeld(0)).toBe(true);
  expect(first.token(0)).toBe(300);
  expect(first.isGone(1)).toBe(true);
  expect(again.isHeld(0)).toBe(true);
  expect(between.token(0)).toBe(301);
  expect(again.token(0)).toBe(302);
  expect(lost).toEqual([]);
});
