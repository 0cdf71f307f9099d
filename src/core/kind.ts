import type { KeyGroup } from './key-rotation.ts';
import type { TimeoutClass } from './leases.ts';
import type { Queue } from './queue.ts';

export interface BackoffPolicy {
  readonly type: 'fixed' | 'exponential';
  readonly delayMs: number;
  readonly maxDelayMs: number;
  readonly jitter: boolean;
}

/** What tasks of one kind share. The same shape as the contract's TaskSpec. */
export interface KindSpec {
  readonly queue: string;
  readonly name: string;
  readonly priority: number;
  readonly maxAttempts: number;
  readonly timeoutMs: number;
  readonly backoff: BackoffPolicy;
  /** Absent: none. */
  readonly concurrencyKey?: string | undefined;
}

/** An interned spec. Tasks name it by index; it is dropped with its last task. */
export interface Kind {
  readonly index: number;
  /** The spec as the client packed it, one character a byte: the key, and what a delivery repeats. */
  readonly key: string;
  readonly spec: KindSpec;
  /** The packed spec, for deliveries. */
  readonly packed: Uint8Array;
  readonly queue: Queue;
  readonly group: KeyGroup;
  readonly timeoutClass: TimeoutClass;
  taskCount: number;
}

/** The delay before attempt `failedAttempts + 1`. `random` is uniform in [0, 1). */
export function backoffMs(policy: BackoffPolicy, failedAttempts: number, random: number): number {
  const exponent = Math.min(failedAttempts - 1, 40);
  const full = policy.type === 'fixed' ? policy.delayMs : Math.min(policy.delayMs * 2 ** exponent, policy.maxDelayMs);
  return policy.jitter ? full * (0.5 + random / 2) : full;
}
