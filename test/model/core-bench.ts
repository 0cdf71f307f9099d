import { Core } from '../../src/core/core.ts';
import type { KindSpec } from '../../src/core/kind.ts';
import type { RetentionPolicy } from '../../src/core/queue.ts';
import type { RelationsOf } from '../../src/core/relations.ts';
import { NONE, STATE_NAMES, State } from '../../src/core/task-table.ts';

export const KEEP_ALL: RetentionPolicy = {
  completedCountMax: 100,
  completedAgeMs: 1e9,
  deadCountMax: 100,
  deadAgeMs: 1e9,
};
export const NOW_MS = 1_800_000_000_000;
export const EPOCH = 2 ** 32;
const BYTES = Buffer.alloc(4096);
export const READER = { lengthAt: () => 4 };

/** A core alone, with what it tells its owner counted. */
export class Bench {
  readonly references = new Map<number, number>();
  readonly core: Core;

  constructor(retention: RetentionPolicy = KEEP_ALL) {
    this.core = new Core({
      retention,
      graceMs: 0,
      effects: {
        referenced: (segment, delta) => this.references.set(segment, (this.references.get(segment) ?? 0) + delta),
        finished: () => {},
        revoked: () => {},
        startedAfter: () => {},
        completedAfter: () => {},
        ranFor: () => {},
      },
    });
    this.core.ids.begin(1);
  }

  spec(overrides: Partial<KindSpec> = {}): KindSpec {
    const backoff = { type: 'fixed', delayMs: 10, maxDelayMs: 10, jitter: false } as const;
    return { queue: 'q', name: 'n', priority: 4, maxAttempts: 3, timeoutMs: 1000, backoff, ...overrides };
  }

  kind(overrides: Partial<KindSpec> = {}): ReturnType<Core['addKind']> {
    const spec = this.spec(overrides);
    const key = JSON.stringify(spec);
    return this.core.knownKind(key) ?? this.core.addKind(key, Buffer.from(key), spec);
  }

  /** Tasks of empty payloads; their first id. */
  enqueue(count: number, segment = 1, overrides: Partial<KindSpec> = {}): number {
    const firstId = this.core.ids.reserveIds(count);
    const place = { bytes: BYTES, start: 0, segment, offset: 0 };
    this.core.enqueue(this.kind(overrides), { firstId, count, enqueuedAtMs: NOW_MS, ...place, dueMs: 0, wall: false });
    return firstId;
  }

  /** What the replay of a failure for good does. */
  kill(id: number, atMs: number, segment = 2): void {
    const slot = this.core.index.get(id);
    this.core.fail(slot, { attempt: 1, atMs, segment, offset: 0 }, 'dead', 0, false);
  }

  restore(id: number, state: State, atMs: number, segment: number, relations?: RelationsOf): void {
    this.core.restore({
      kind: this.kind(),
      id,
      state,
      flags: 0,
      attempts: state === State.DEAD ? 1 : 0,
      enqueuedAtMs: NOW_MS,
      atMs,
      segment,
      offset: 0,
      result: undefined,
      relations,
      failures: state === State.DEAD ? [{ attempt: 1, atMs, segment, offset: 0 }] : [],
    });
  }

  state(id: number): string {
    const slot = this.core.index.get(id);
    return slot === NONE ? 'forgotten' : STATE_NAMES[this.core.table.state(slot)];
  }
}
