import { NONE, State } from './task-table.ts';

/**
 * What tasks have to do with each other: who waits for whom, and who has a unique key. Only tasks that have any of it are
 * here; all others cost nothing.
 *
 *   blocked ──last parent ended──► ready, or scheduled if its time has not come
 *      └── a parent died or was cancelled, and that ends it too ──► cancelled
 *
 * An ended task is held, that is not forgotten by retention, while a child of it has not ended (it reads its result), and
 * while its unique key holds for a time. Parents and children know each other by id: while a journal is loaded one may come
 * back long after the other.
 *
 * What follows from the end of a parent is journaled after it (`takeConsequences`): by the time of a replay the parent's own
 * records may be gone, and it may have run again since. What was not journaled because of a crash follows anew, and is then.
 */
export const ON_FAILURE = { cancel: 0, run: 1, wait: 2 } as const;
export type OnFailure = (typeof ON_FAILURE)[keyof typeof ON_FAILURE];

/** How a parent ended, as far as its child is concerned. */
export const PARENT_END = { open: 0, completed: 1, dead: 2, cancelled: 3 } as const;
export type ParentEnd = (typeof PARENT_END)[keyof typeof PARENT_END];

export interface Edge {
  readonly id: number;
  readonly onFailure: OnFailure;
}

/** What became of children since it was last taken. */
export interface Consequences {
  readonly unblocked: number[];
  readonly cancelled: number[];
  /** Triples of child, parent and how that ended for the child, though it runs again now. */
  readonly closed: number[];
}

/** For how long a task has its unique key. `time`: until `untilMs`. */
export type UniqueScope = 'waiting' | 'unfinished' | 'time';

export interface UniqueClaim {
  readonly queue: string;
  readonly key: string;
  readonly scope: UniqueScope;
  /** Steady time; 0 unless the scope is `time`. */
  readonly untilMs: number;
}

/** What a task that was just enqueued comes with. */
export interface NewRelations {
  readonly id: number;
  readonly edges: readonly Edge[];
  /** How the parents had ended by then. */
  readonly ends: readonly ParentEnd[];
  readonly unique: UniqueClaim | undefined;
}

/** All that is known of one task's relations, for a snapshot. */
export interface RelationsOf {
  readonly edges: readonly Edge[];
  readonly ends: readonly ParentEnd[];
  readonly dueMs: number;
  readonly unique: UniqueClaim | undefined;
  /** Whether another task has taken its key since. */
  readonly isKeyLost: boolean;
}

/** What the core does with tasks whose relations ask for it. */
export interface RelationsOwner {
  slotOf(id: number): number;
  stateOf(slot: number): State;
  queueOf(slot: number): string;
  /** It has relations: its end is to be told with `ended`. */
  related(slot: number): void;
  /** Takes it out of ready or scheduled; returns when it is due, 0 for at once. */
  block(slot: number): number;
  unblock(slot: number, dueMs: number, atMs: number): void;
  cancel(slot: number, atMs: number): void;
  /** An ended task is not to be forgotten, or may be again. */
  hold(slot: number): void;
  letGo(slot: number): void;
}

interface Parents {
  /** Of the child. */
  readonly queue: string;
  readonly ids: readonly number[];
  readonly onFailure: Uint8Array;
  readonly ends: Uint8Array;
  open: number;
  dueMs: number;
}

const BUCKET_MS = 1000;

export class Relations {
  readonly #owner: RelationsOwner;
  /** By child. */
  readonly #parents = new Map<number, Parents>();
  /** By parent: children that have not ended, with the place that it has among their parents. */
  readonly #children = new Map<number, Map<number, number>>();
  readonly #claims = new Map<number, UniqueClaim>();
  readonly #uniques = new Map<string, number>();
  /** Tasks whose key holds for a time, by the second in which that is over. */
  readonly #expiring = new Map<number, Set<number>>();
  #expiredTo = Number.POSITIVE_INFINITY;
  readonly #ended: { id: number; end: ParentEnd; atMs: number }[] = [];
  #settling = false;
  #consequences: Consequences | undefined;
  /** Of all children. */
  edgeCount = 0;
  /** By queue. */
  readonly #edgesOf = new Counts();
  readonly #uniquesOf = new Counts();

  constructor(owner: RelationsOwner) {
    this.#owner = owner;
  }

  get uniqueCount(): number {
    return this.#uniques.size;
  }

  /** Of the tasks of a queue. */
  edgesOf(queue: string): number {
    return this.#edgesOf.of(queue);
  }

  uniquesOf(queue: string): number {
    return this.#uniquesOf.of(queue);
  }

  hasChildren(id: number): boolean {
    return this.#children.has(id);
  }

  childCount(id: number): number {
    return this.#children.get(id)?.size ?? 0;
  }

  /** In the order in which they came. */
  children(id: number, countMax: number): number[] {
    const ids: number[] = [];
    for (const child of this.#children.get(id)?.keys() ?? []) {
      if (ids.length >= countMax) break;
      ids.push(child);
    }
    return ids;
  }

  /** Undefined when the task has none. */
  of(id: number): RelationsOf | undefined {
    const parents = this.#parents.get(id);
    const unique = this.#claims.get(id);
    if (parents === undefined && unique === undefined) return undefined;
    return {
      edges: this.edges(id, 0, parents?.ids.length ?? 0),
      ends: Array.from(parents?.ends ?? []) as ParentEnd[],
      dueMs: parents?.dueMs ?? 0,
      unique,
      isKeyLost: unique !== undefined && !this.#hasKey(id, unique),
    };
  }

  /** What the task depends on, from the place `from` on; at most `countMax`. */
  edges(id: number, from: number, countMax: number): Edge[] {
    const { ids = [], onFailure = [] } = this.#parents.get(id) ?? {};
    return ids
      .slice(from, from + countMax)
      .map((parent, index) => ({ id: parent, onFailure: onFailure[from + index] as OnFailure }));
  }

  /** How many parents the task has that ended so. */
  endCounts(id: number): Record<keyof typeof PARENT_END, number> {
    const counts = [0, 0, 0, 0];
    for (const end of this.#parents.get(id)?.ends ?? []) counts[end]++;
    const [open = 0, completed = 0, dead = 0, cancelled = 0] = counts;
    return { open, completed, dead, cancelled };
  }

  parentCount(id: number): number {
    return this.#parents.get(id)?.ids.length ?? 0;
  }

  uniqueKey(id: number): string | undefined {
    return this.#claims.get(id)?.key;
  }

  // ── Dependencies ──────────────────────────────────────────────────────────────────────────────────────────────────

  /**
   * The tasks were just enqueued, together: takes their keys, blocks those with a parent that is open, and cancels those with
   * one that has ended so that they must be. All are known to their parents before any of them may end: what one of them
   * leaves behind is held for the others.
   */
  relate(tasks: readonly NewRelations[], atMs: number): void {
    for (const { id, edges, unique } of tasks) {
      if (unique !== undefined) this.#claim(id, unique);
      if (edges.length === 0) continue;
      this.#add(id, this.#owner.slotOf(id), edges);
      this.#enlist(id);
    }
    for (const { id, ends } of tasks) if (ends.length > 0) this.#begin(id, ends, atMs);
  }

  #begin(id: number, ends: readonly ParentEnd[], atMs: number): void {
    const slot = this.#owner.slotOf(id);
    const parents = this.#parents.get(id) as Parents;
    let mayLive = true;
    for (let index = 0; mayLive && index < ends.length; index++) {
      // One that was submitted with it may have been cancelled just now.
      const known = parents.ends[index] as ParentEnd;
      mayLive =
        known === PARENT_END.open ? this.#settle(parents, index, ends[index] as ParentEnd) : livesOn(parents, index);
    }
    if (!mayLive) this.#owner.cancel(slot, atMs);
    else if (parents.open > 0) parents.dueMs = this.#owner.block(slot);
  }

  /** How a task has ended, as far as one can see. */
  endOf(id: number): ParentEnd {
    const slot = this.#owner.slotOf(id);
    return slot === NONE ? PARENT_END.open : endOf(this.#owner.stateOf(slot));
  }

  /** A task as it stood when it was copied forward. One that is blocked is in that state already. */
  restore(slot: number, id: number, known: RelationsOf, atMs: number): void {
    if (known.edges.length > 0) {
      const parents = this.#add(id, slot, known.edges);
      parents.ends.set(known.ends);
      parents.open = 0;
      for (const end of known.ends) if (end === PARENT_END.open) parents.open++;
      parents.dueMs = known.dueMs;
    }
    if (known.unique !== undefined) {
      if (known.isKeyLost) this.#claims.set(id, known.unique);
      else this.#claim(id, known.unique);
    }
    this.#owner.related(slot);
    const state = this.#owner.stateOf(slot);
    if (state === State.BLOCKED) this.#settleAll(slot, id, atMs);
    else if (state < State.COMPLETED) this.#enlist(id);
  }

  /** A dead task runs again: its parents are wanted again, those that are still there, and its death is not seen any more. */
  reopened(id: number): void {
    this.#enlist(id);
    for (const [child, index] of this.#children.get(id) ?? []) {
      const parents = this.#parents.get(child);
      if (parents === undefined || parents.open === 0 || parents.ends[index] === PARENT_END.open) continue;
      this.#noted().closed.push(child, id, parents.ends[index] as number);
    }
  }

  #add(id: number, slot: number, edges: readonly Edge[]): Parents {
    this.#removeEdges(id);
    const queue = this.#owner.queueOf(slot);
    const parents: Parents = {
      queue,
      ids: edges.map((edge) => edge.id),
      onFailure: Uint8Array.from(edges, (edge) => edge.onFailure),
      ends: new Uint8Array(edges.length),
      open: edges.length,
      dueMs: 0,
    };
    this.edgeCount += edges.length;
    this.#edgesOf.add(queue, edges.length);
    this.#parents.set(id, parents);
    return parents;
  }

  #removeEdges(id: number): void {
    const parents = this.#parents.get(id);
    if (parents === undefined) return;
    this.#parents.delete(id);
    this.edgeCount -= parents.ids.length;
    this.#edgesOf.add(parents.queue, -parents.ids.length);
  }

  /** A blocked task that came back after parents of it did. */
  #settleAll(slot: number, id: number, atMs: number): void {
    const parents = this.#parents.get(id) as Parents;
    const owner = this.#owner;
    for (const [index, parent] of parents.ids.entries()) {
      const parentSlot = owner.slotOf(parent);
      if (parents.ends[index] !== PARENT_END.open || parentSlot === NONE) continue;
      if (this.#settle(parents, index, endOf(owner.stateOf(parentSlot)))) continue;
      this.#cancel(slot, id, atMs);
      return;
    }
    this.#enlist(id);
    if (parents.open === 0) this.#unblock(slot, id, parents, atMs);
  }

  #cancel(slot: number, id: number, atMs: number): void {
    this.#noted().cancelled.push(id);
    this.#owner.cancel(slot, atMs);
  }

  #unblock(slot: number, id: number, parents: Parents, atMs: number): void {
    this.#noted().unblocked.push(id);
    this.#owner.unblock(slot, parents.dueMs, atMs);
  }

  #noted(): Consequences {
    this.#consequences ??= { unblocked: [], cancelled: [], closed: [] };
    return this.#consequences;
  }

  /** What is to be journaled, once. */
  takeConsequences(): Consequences | undefined {
    const taken = this.#consequences;
    this.#consequences = undefined;
    return taken;
  }

  /** What was journaled: most of it has followed already. */
  applyConsequences({ unblocked, cancelled, closed }: Consequences, atMs: number): void {
    const owner = this.#owner;
    for (let at = 0; at < closed.length; at += 3) this.#close(closed[at], closed[at + 1], closed[at + 2] as ParentEnd);
    for (const id of cancelled) {
      const slot = owner.slotOf(id);
      if (slot !== NONE && owner.stateOf(slot) < State.COMPLETED) owner.cancel(slot, atMs);
    }
    for (const id of unblocked) {
      const slot = owner.slotOf(id);
      const parents = this.#parents.get(id);
      if (slot === NONE || parents === undefined || owner.stateOf(slot) !== State.BLOCKED) continue;
      // A parent that let it go and is not there, or not ended, was dead then.
      for (const [index, end] of parents.ends.entries())
        if (end === PARENT_END.open) parents.ends[index] = PARENT_END.dead;
      parents.open = 0;
      owner.unblock(slot, parents.dueMs, atMs);
    }
  }

  #close(child: number, parent: number, end: ParentEnd): void {
    const parents = this.#parents.get(child);
    const index = parents?.ids.indexOf(parent) ?? -1;
    if (parents === undefined || index === -1 || parents.ends[index] !== PARENT_END.open) return;
    parents.ends[index] = end;
    parents.open--;
  }

  /** Returns whether the child may live on. */
  #settle(parents: Parents, index: number, end: ParentEnd): boolean {
    const onFailure = parents.onFailure[index];
    if (end === PARENT_END.open) return true;
    if (end === PARENT_END.dead && onFailure === ON_FAILURE.wait) return true;
    parents.ends[index] = end;
    parents.open--;
    return livesOn(parents, index);
  }

  /** Its parents have a child more that has not ended. */
  #enlist(id: number): void {
    const parents = this.#parents.get(id);
    if (parents === undefined) return;
    const owner = this.#owner;
    for (const [index, parent] of parents.ids.entries()) {
      let children = this.#children.get(parent);
      if (children === undefined) {
        children = new Map();
        this.#children.set(parent, children);
        const slot = owner.slotOf(parent);
        if (slot !== NONE) {
          owner.related(slot);
          if (owner.stateOf(slot) >= State.COMPLETED) owner.hold(slot);
        }
      }
      children.set(id, index);
    }
  }

  /** The task has ended. What follows from that is done before this returns, however long the chain. */
  ended(id: number, state: State, atMs: number): void {
    this.#ended.push({ id, end: endOf(state), atMs });
    if (this.#settling) return;
    this.#settling = true;
    for (let next = this.#ended.pop(); next !== undefined; next = this.#ended.pop()) {
      this.#leaveParents(next.id, next.atMs);
      this.#tellChildren(next.id, next.end, next.atMs);
    }
    this.#settling = false;
  }

  #leaveParents(id: number, atMs: number): void {
    for (const parent of this.#parents.get(id)?.ids ?? []) {
      const children = this.#children.get(parent);
      if (children?.delete(id) !== true || children.size > 0) continue;
      this.#children.delete(parent);
      this.#letGo(parent, atMs);
    }
  }

  /** One of the things is over for which a task was held. */
  #letGo(id: number, nowMs: number): void {
    if (this.isHeld(id, nowMs)) return;
    const slot = this.#owner.slotOf(id);
    if (slot !== NONE && this.#owner.stateOf(slot) >= State.COMPLETED) this.#owner.letGo(slot);
  }

  #tellChildren(id: number, end: ParentEnd, atMs: number): void {
    const owner = this.#owner;
    for (const [child, index] of [...(this.#children.get(id) ?? [])]) {
      const slot = owner.slotOf(child);
      const parents = this.#parents.get(child);
      // While loading, a later record says that it went on.
      if (slot === NONE || parents === undefined || parents.ends[index] !== PARENT_END.open) continue;
      const mayLive = this.#settle(parents, index, end);
      if (owner.stateOf(slot) !== State.BLOCKED) continue;
      if (!mayLive) this.#cancel(slot, child, atMs);
      else if (parents.open === 0) this.#unblock(slot, child, parents, atMs);
    }
  }

  // ── Unique keys ───────────────────────────────────────────────────────────────────────────────────────────────────

  /** The task that has the key now, or -1. */
  holder(queue: string, key: string, nowMs: number): number {
    const id = this.#uniques.get(uniqueName(queue, key));
    if (id === undefined) return -1;
    const { scope, untilMs } = this.#claims.get(id) as UniqueClaim;
    if (scope === 'time') return nowMs < untilMs ? id : -1;
    const slot = this.#owner.slotOf(id);
    const state = slot === NONE ? State.COMPLETED : this.#owner.stateOf(slot);
    const holds = state < State.COMPLETED && (scope === 'unfinished' || state !== State.ACTIVE);
    return holds ? id : -1;
  }

  /** Takes the key, whoever had it. */
  #claim(id: number, unique: UniqueClaim): void {
    this.#claims.set(id, unique);
    const name = uniqueName(unique.queue, unique.key);
    if (!this.#uniques.has(name)) this.#uniquesOf.add(unique.queue, 1);
    this.#uniques.set(name, id);
    if (unique.scope !== 'time') return;
    const bucket = bucketOf(unique);
    const ids = this.#expiring.get(bucket);
    if (ids === undefined) this.#expiring.set(bucket, new Set([id]));
    else ids.add(id);
    this.#expiredTo = Math.min(this.#expiredTo, bucket);
  }

  #hasKey(id: number, { queue, key }: UniqueClaim): boolean {
    return this.#uniques.get(uniqueName(queue, key)) === id;
  }

  /** Whether an ended task is not to be forgotten. */
  isHeld(id: number, nowMs: number): boolean {
    if (this.#children.has(id)) return true;
    const claim = this.#claims.get(id);
    return claim?.scope === 'time' && claim.untilMs > nowMs && this.#hasKey(id, claim);
  }

  /** Keys whose time is over hold their tasks no longer, `countMax` of them at most. */
  expire(nowMs: number, countMax: number): void {
    const last = Math.floor(nowMs / BUCKET_MS);
    let left = countMax;
    for (; this.#expiring.size > 0 && this.#expiredTo <= last; this.#expiredTo++) {
      const ids = this.#expiring.get(this.#expiredTo);
      for (const id of ids ?? []) {
        if (left-- <= 0) return;
        ids?.delete(id);
        this.#letGo(id, nowMs);
      }
      this.#expiring.delete(this.#expiredTo);
    }
    if (this.#expiring.size === 0) this.#expiredTo = Number.POSITIVE_INFINITY;
  }

  #expireNoMore(id: number, claim: UniqueClaim): void {
    const bucket = bucketOf(claim);
    const ids = this.#expiring.get(bucket);
    ids?.delete(id);
    if (ids?.size === 0) this.#expiring.delete(bucket);
  }

  // ── The end ───────────────────────────────────────────────────────────────────────────────────────────────────────

  /** The task is gone; children that still name it are told apart by its absence. */
  forget(id: number): void {
    this.#removeEdges(id);
    const claim = this.#claims.get(id);
    if (claim === undefined) return;
    this.#claims.delete(id);
    if (claim.scope === 'time') this.#expireNoMore(id, claim);
    if (!this.#hasKey(id, claim)) return;
    this.#uniques.delete(uniqueName(claim.queue, claim.key));
    this.#uniquesOf.add(claim.queue, -1);
  }

  /** The journal has been read: what names tasks that are gone is put right. */
  loaded(atMs: number): void {
    const owner = this.#owner;
    for (const [parent, children] of [...this.#children]) {
      for (const child of [...children.keys()]) {
        const slot = owner.slotOf(child);
        if (slot === NONE || owner.stateOf(slot) >= State.COMPLETED) children.delete(child);
      }
      if (children.size === 0) {
        this.#children.delete(parent);
        this.#letGo(parent, atMs);
      } else if (owner.slotOf(parent) === NONE) this.ended(parent, State.CANCELLED, atMs);
    }
  }
}

/** How many there are of each name that has any. */
class Counts {
  readonly #counts = new Map<string, number>();

  of(name: string): number {
    return this.#counts.get(name) ?? 0;
  }

  add(name: string, more: number): void {
    const count = this.of(name) + more;
    if (count === 0) this.#counts.delete(name);
    else this.#counts.set(name, count);
  }
}

function endOf(state: State): ParentEnd {
  if (state === State.COMPLETED) return PARENT_END.completed;
  if (state === State.DEAD) return PARENT_END.dead;
  return state === State.CANCELLED ? PARENT_END.cancelled : PARENT_END.open;
}

/** Whether the child may live on after this parent's end. */
function livesOn({ ends, onFailure }: Parents, index: number): boolean {
  return ends[index] === PARENT_END.completed || onFailure[index] === ON_FAILURE.run;
}

function bucketOf({ untilMs }: UniqueClaim): number {
  return Math.ceil(untilMs / BUCKET_MS);
}

/** Of a unique key, which belongs to a queue. */
export function uniqueName(queue: string, key: string): string {
  return `${queue}\n${key}`;
}
