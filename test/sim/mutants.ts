/** Bugs to plant, as changes of the source text: one that no longer applies must be written anew, never skipped. */
export interface Mutant {
  readonly name: string;
  /** What is wrong with it. */
  readonly bug: string;
  readonly file: string;
  /** Occurs exactly once. */
  readonly find: string;
  readonly replace: string;
}

export const MUTANTS: readonly Mutant[] = [
  {
    name: 'no-fsync',
    bug: 'enqueues and completions are confirmed before the disk has them',
    file: 'src/journal/recover.ts',
    find: "synced: options.fsync === 'always',",
    replace: 'synced: false,',
  },
  {
    name: 'token-not-compared',
    bug: 'a settlement under an old token is taken',
    file: 'src/core/leases.ts',
    find: 'this.#words[at + TOKEN_HIGH] * TWO_32 + this.#words[at + TOKEN_LOW] === token',
    replace: 'token >= 0',
  },
  {
    name: 'torn-tail-accepted',
    bug: 'a record that was written in parts is replayed',
    file: 'src/journal/scan.ts',
    find: '    if (!isIntact(window.bytes, at, header)) return;\n    fill(',
    replace: '    fill(',
  },
  {
    name: 'heap-off-by-one',
    bug: 'the timer heap overlooks every fourth child',
    file: 'src/core/timer-heap.ts',
    find: 'Math.min(first + 4, this.#size)',
    replace: 'Math.min(first + 3, this.#size)',
  },
  {
    name: 'page-freed-early',
    bug: 'a full page of the journal is given up before its bytes are written',
    file: 'src/journal/writer.ts',
    find: 'while (this.#pages[0]?.sealed && this.#pages[0].written === this.#pages[0].filled) {',
    replace: 'while (this.#pages[0]?.sealed) {',
  },
  {
    name: 'buffer-reused-early',
    bug: 'an output buffer is used again before its link has sent it',
    file: 'src/protocol/writer.ts',
    find: 'this.#sink.write(buffer.subarray(0, used), () => this.#pool.give(buffer));',
    replace: 'this.#sink.write(buffer.subarray(0, used));\n    this.#pool.give(buffer);',
  },
  {
    name: 'resend-enqueues-twice',
    bug: 'a batch that is sent again is enqueued again',
    file: 'src/engine/engine.ts',
    find: 'if (known >= 0) return { batch, firstId: known, count: taskCount };',
    replace: 'if (known > Number.MAX_SAFE_INTEGER) return { batch, firstId: known, count: taskCount };',
  },
  {
    name: 'lost-worker-not-counted',
    bug: 'a worker that is lost costs its tasks no attempt',
    file: 'src/engine/settlements.ts',
    find: '(lost && hasBegun ? running : waiting).push(leases.slot(lease));',
    replace: '(lost && !lost && hasBegun ? running : waiting).push(leases.slot(lease));',
  },
  {
    name: 'priority-reversed',
    bug: 'the lowest priority goes first',
    file: 'src/core/ready-lists.ts',
    find: 'return 31 - Math.clz32(this.occupied);',
    replace: 'return 31 - Math.clz32(this.occupied & -this.occupied);',
  },
  {
    name: 'completion-confirmed-early',
    bug: 'SETTLED goes out before the completion is durable',
    file: 'src/server/session.ts',
    find: '    this.#answer(() => {\n      this.#unconfirmedBytes -= bytes;\n      const wasHeldUp',
    replace:
      '    ((send: () => void) => send())(() => {\n      this.#unconfirmedBytes -= bytes;\n      const wasHeldUp',
  },
  {
    name: 'waited-result-dropped',
    bug: 'who waits for a result is not told when the retention is full',
    file: 'src/core/core.ts',
    find: '      this.#effects.finished(this.table.id(slot), slot, state);\n    }',
    replace:
      '      if ((dead ? queue.dead : queue.finished).count <= queue.retention.completedCountMax) this.#effects.finished(this.table.id(slot), slot, state);\n    }',
  },
  {
    name: 'one-attempt-too-many',
    bug: 'a task dies one attempt late',
    file: 'src/core/views.ts',
    find: 'if (options.final || attempt >= spec.maxAttempts)',
    replace: 'if (options.final || attempt > spec.maxAttempts)',
  },
  {
    name: 'child-started-early',
    bug: 'a task starts when all but one of those that it depends on have ended',
    file: 'src/core/relations.ts',
    find: 'else if (parents.open === 0) this.#unblock(slot, child, parents, atMs);',
    replace: 'else if (parents.open <= 1) this.#unblock(slot, child, parents, atMs);',
  },
  {
    name: 'parents-not-held',
    bug: 'retention forgets tasks though others depend on them',
    file: 'src/core/core.ts',
    find: 'if (related && this.relations.isHeld(this.table.id(slot), atMs)) this.ended.markHeld(slot);',
    replace: '',
  },
  {
    name: 'epoch-not-synced',
    bug: 'ids are given out before their epoch is on disk',
    file: 'src/journal/journal.ts',
    find: 'await Promise.all([this.#writer.flush(), checkLock(this.#lock, this.#options.directory)]);',
    replace: 'await Promise.resolve();',
  },
  {
    name: 'last-in-first-out',
    bug: 'what is enqueued goes to the front of its queue',
    file: 'src/core/core.ts',
    find: 'if (listed) queue.pushBack(slot, group, priority);',
    replace: 'if (listed) queue.pushFront(slot, group, priority);',
  },
  {
    name: 'no-backoff',
    bug: 'a failed task is tried again at once',
    file: 'src/engine/settlements.ts',
    find: 'dueMs: nowMs + delayMs, lost: false',
    replace: 'dueMs: nowMs + delayMs * 0, lost: false',
  },
  {
    name: 'segment-given-up-early',
    bug: 'a segment is used again while a few tasks in it are live',
    file: 'src/journal/journal.ts',
    find: 'segment.liveCount === 0;',
    replace: 'segment.liveCount <= 3;',
  },
  {
    name: 'failed-sync-believed',
    bug: 'a start takes for durable what the kernel only shows after a sync that failed',
    file: 'src/journal/segment-files.ts',
    find: 'await rewrite(this.#active.file, found.active.syncedEnd, found.active.end);',
    replace: 'await this.#active.file.sync();',
  },
  {
    name: 'firing-not-replayed',
    bug: 'a start enqueues again what a schedule had fired, and does not move the schedule on',
    file: 'src/engine/state.ts',
    find: '  core.schedules.fired(name, {',
    replace: '  if (!core.loading) core.schedules.fired(name, {',
  },
  {
    name: 'missed-time-skipped',
    bug: 'a schedule that makes up for what it missed leaves one time out',
    file: 'src/schedule/plan.ts',
    find: '  let nextMs = nextDueMs(timing, firstMs);',
    replace: '  let nextMs = nextDueMs(timing, nextDueMs(timing, firstMs) ?? firstMs);',
  },
  {
    name: 'event-told-early',
    bug: 'events go out before what they tell is on disk',
    file: 'src/server/watches.ts',
    find: 'if (sequence > durableSequence) break;',
    replace: 'if (sequence > durableSequence + 1000) break;',
  },
  {
    name: 'event-overtakes',
    bug: 'events that need no disk go before those that do',
    file: 'src/server/watches.ts',
    find: 'this.#entries.push({ text, sequence });',
    replace: "this.#entries[sequence === 0 ? 'unshift' : 'push']({ text, sequence });",
  },
  {
    name: 'dropped-untold',
    bug: 'a stream that had no room goes on as if nothing were missing',
    file: 'src/server/watches.ts',
    find: "this.#add(JSON.stringify({ type: 'dropped', count: this.#dropped }), 0);",
    replace: '',
  },
  {
    name: 'gap-untold',
    bug: 'a stream goes on over a reconnect without a word',
    file: 'src/broker/tcp/watches.ts',
    find: "if (opening === undefined) watch.watcher.event({ type: 'dropped', count: null }, 1);\n    else {",
    replace: 'if (opening !== undefined) {',
  },
  {
    name: 'watching-ends-early',
    bug: 'when one stream ends, the others are told no more',
    file: 'src/engine/events.ts',
    find: 'if (--this.#count > 0) return;',
    replace: 'this.#count--;',
  },
];
