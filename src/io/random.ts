import { randomBytes } from 'node:crypto';

/** Randomness: jitter and names that must not collide. */
export interface Random {
  /** Uniform in [0, 1). */
  float(): number;
  /** `byteCount` bytes as lower-case hex. */
  hex(byteCount: number): string;
}

export class SystemRandom implements Random {
  float(): number {
    return Math.random();
  }

  hex(byteCount: number): string {
    return randomBytes(byteCount).toString('hex');
  }
}
