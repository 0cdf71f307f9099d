import { PRIORITY_COUNT, ReadyLists } from './ready-lists.ts';
import type { TaskTable } from './task-table.ts';

/** The tasks of a queue with the same concurrency key, or all those without one. */
export class KeyGroup {
  readonly key: string;
  readonly lists: ReadyLists;
  /** Counted for groups with a key only, whose queue has a rotation. */
  active = 0;
  /** Kinds of its tasks. */
  kindCount = 0;
  /** Bit p is set when it stands in the round of priority p. */
  rounds = 0;

  constructor(key: string, table: TaskTable) {
    this.key = key;
    this.lists = new ReadyLists(table);
  }
}

/** Who is next at one priority. */
class Round {
  #groups: KeyGroup[] = [];
  #head = 0;

  get first(): KeyGroup | undefined {
    return this.#groups[this.#head];
  }

  push(group: KeyGroup): void {
    this.#groups.push(group);
  }

  shift(): void {
    if (++this.#head < this.#groups.length) {
      // Half of it has had its turn.
      if (this.#head * 2 < this.#groups.length) return;
      this.#groups = this.#groups.slice(this.#head);
    } else this.#groups = [];
    this.#head = 0;
  }
}

/**
 * Turns among the keys of a queue: at each priority one task of each key that may go, and around again, so that nobody waits
 * longer for others having more. A group that has nothing, or runs as much as it may, drops out when its turn comes, and is
 * enlisted again when that changes.
 */
export class KeyRotation {
  readonly #rounds = Array.from({ length: PRIORITY_COUNT }, () => new Round());
  /** At most so many tasks of a key run at the same time. */
  activeMax = Number.POSITIVE_INFINITY;
  /** Of the task that `next` speaks of. */
  priority = -1;

  /** The group whose turn it is, which stays so until `taken`; undefined when none may go. */
  next(): KeyGroup | undefined {
    for (let priority = PRIORITY_COUNT - 1; priority >= 0; priority--) {
      const round = this.#rounds[priority] as Round;
      for (let group = round.first; group !== undefined; group = round.first) {
        if ((group.lists.occupied & (1 << priority)) !== 0 && this.#mayGo(group)) {
          this.priority = priority;
          return group;
        }
        round.shift();
        group.rounds &= ~(1 << priority);
      }
    }
    return undefined;
  }

  /** One task of the group that `next` gave was taken. */
  taken(group: KeyGroup): void {
    (this.#rounds[this.priority] as Round).shift();
    group.rounds &= ~(1 << this.priority);
    this.enlist(group);
  }

  /** It has more tasks, or may run more, than before. */
  enlist(group: KeyGroup): void {
    let missing = group.lists.occupied & ~group.rounds;
    if (missing === 0 || !this.#mayGo(group)) return;
    group.rounds |= missing;
    for (; missing !== 0; missing &= missing - 1) {
      (this.#rounds[31 - Math.clz32(missing & -missing)] as Round).push(group);
    }
  }

  #mayGo(group: KeyGroup): boolean {
    return group.key === '' || group.active < this.activeMax;
  }
}
