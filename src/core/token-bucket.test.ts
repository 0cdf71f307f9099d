import { expect, it } from 'vitest';
import { TokenBucket } from './token-bucket.ts';

it('gives its burst at once, then a token at its time and not before', () => {
  const bucket = new TokenBucket({ count: 4, periodMs: 1000, burst: 3 }, 100);
  expect(bucket.available(100)).toBe(3);
  bucket.spend(3);
  expect(bucket.isEmpty).toBe(true);
  expect(bucket.nextMs).toBe(350);
  expect(bucket.available(349)).toBe(0);
  expect(bucket.available(350)).toBe(1);
  bucket.spend(1);
  expect(bucket.nextMs).toBe(600);
});

it('holds no more than its burst, however long nobody comes', () => {
  const bucket = new TokenBucket({ count: 1000, periodMs: 1, burst: 2 }, 0);
  bucket.spend(2);
  expect(bucket.available(1e9)).toBe(2);
  bucket.spend(1);
  expect(bucket.isEmpty).toBe(false);
});

it('hands out exactly its rate over a long time', () => {
  const bucket = new TokenBucket({ count: 7, periodMs: 1000, burst: 1 }, 0);
  let handedOut = 0;
  for (let nowMs = 0; nowMs < 100_000; nowMs++) {
    const tokens = bucket.available(nowMs);
    bucket.spend(tokens);
    handedOut += tokens;
  }
  expect(handedOut).toBe(700);
});
