import { crc32 } from 'node:zlib';

const BURNT = Buffer.alloc(1024);
let burnt = 0;

/** Work of a fixed size: who shares the processor with others takes longer over it. */
export function burn(rounds: number): void {
  for (let round = 0; round < rounds; round++) burnt = crc32(BURNT, burnt);
}

const CALIBRATION_ROUNDS = 1000;
const CALIBRATIONS = 20;

/** What this machine does of it when nobody disturbs it. */
export function roundsPerMs(): number {
  let bestMs = Number.POSITIVE_INFINITY;
  for (let calibration = 0; calibration < CALIBRATIONS; calibration++) {
    const startMs = performance.now();
    burn(CALIBRATION_ROUNDS);
    bestMs = Math.min(bestMs, performance.now() - startMs);
  }
  return Math.ceil(CALIBRATION_ROUNDS / bestMs);
}
