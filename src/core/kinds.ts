import { invariant, MillraceError } from '../errors.ts';
import { LIMITS } from '../limits.ts';
import type { Kind, KindSpec } from './kind.ts';
import type { TimeoutClass } from './leases.ts';
import type { Queue } from './queue.ts';
import { KIND_MASK, NONE } from './task-table.ts';

/** Classes are looked through when timers are set, so idle ones are dropped beyond this. */
const IDLE_CLASSES_MAX = 64;

/** The kinds among the tasks held, and their timeout classes. A kind goes with its last task. */
export class Kinds {
  readonly timeoutClasses = new Map<number, TimeoutClass>();
  readonly #kinds: (Kind | undefined)[] = [];
  readonly #free: number[] = [];
  readonly #byKey = new Map<string, Kind>();

  get count(): number {
    return this.#byKey.size;
  }

  at(index: number): Kind {
    return this.#kinds[index] as Kind;
  }

  known(key: string): Kind | undefined {
    return this.#byKey.get(key);
  }

  /** Throws QUEUE_FULL when there are too many. */
  checkRoom(): void {
    if (this.#byKey.size < LIMITS.kindsMax) return;
    throw new MillraceError(
      'QUEUE_FULL',
      `the tasks held have ${LIMITS.kindsMax} different combinations of queue, name and options, which is the limit; use fewer distinct options`,
      { details: { bound: LIMITS.kindsMax } },
    );
  }

  add(key: string, packed: Uint8Array, spec: KindSpec, queue: Queue): Kind {
    const index = this.#free.pop() ?? this.#kinds.length;
    invariant(index <= KIND_MASK, 'a task cannot name so many kinds');
    const timeoutClass = this.#timeoutClass(spec.timeoutMs);
    timeoutClass.kindCount++;
    const group = queue.group(spec.concurrencyKey ?? '');
    group.kindCount++;
    const bytes = Uint8Array.from(packed);
    const kind: Kind = { index, key, spec, packed: bytes, queue, group, timeoutClass, taskCount: 0 };
    this.#kinds[index] = kind;
    this.#byKey.set(key, kind);
    queue.kindCount++;
    return kind;
  }

  /** Also for a kind that was added for an enqueue that did not happen. */
  dropIfUnused(kind: Kind): void {
    if (kind.taskCount > 0 || this.#kinds[kind.index] !== kind) return;
    this.#kinds[kind.index] = undefined;
    this.#free.push(kind.index);
    this.#byKey.delete(kind.key);
    kind.queue.kindCount--;
    if (--kind.group.kindCount === 0) kind.queue.dropGroup(kind.group);
    kind.timeoutClass.kindCount--;
    if (this.timeoutClasses.size > IDLE_CLASSES_MAX) this.#dropIdleClass(kind.timeoutClass);
  }

  #timeoutClass(timeoutMs: number): TimeoutClass {
    let timeoutClass = this.timeoutClasses.get(timeoutMs);
    if (timeoutClass === undefined) {
      timeoutClass = { timeoutMs, head: NONE, tail: NONE, kindCount: 0 };
      this.timeoutClasses.set(timeoutMs, timeoutClass);
    }
    return timeoutClass;
  }

  #dropIdleClass(timeoutClass: TimeoutClass): void {
    if (timeoutClass.kindCount === 0 && timeoutClass.head === NONE) this.timeoutClasses.delete(timeoutClass.timeoutMs);
  }
}
