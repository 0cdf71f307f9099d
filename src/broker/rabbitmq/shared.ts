import type { Clock } from '../../io/clock.ts';
import type { Random } from '../../io/random.ts';
import type { Store } from '../store.ts';
import type { Dialing } from './link.ts';
import type { Names } from './names.ts';
import type { Outbound } from './outbound.ts';
import type { QueueType } from './topology.ts';

/** What the workers of a client have in common with it. */
export interface Shared {
  readonly dialing: Dialing;
  readonly clock: Clock;
  readonly random: Random;
  readonly names: Names;
  readonly queueType: QueueType;
  /** All that workers publish goes over the client's connection: the broker may stop reading that one. */
  readonly outbound: Outbound;
  readonly newId: () => string;
  /** What remembers tasks, if anything does. */
  readonly store: Store | undefined;
  readonly process: { readonly host: string; readonly pid: number };
}
