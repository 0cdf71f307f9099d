import type { Core } from '../core/core.ts';
import type { Queue } from '../core/queue.ts';
import {
  EPOCH_TIME,
  FLAG_SUSPECT,
  KIND_MASK,
  KIND_STATE,
  NONE,
  OFFSET,
  SEGMENT_ATTEMPTS,
  TIME_LOW,
} from '../core/task-table.ts';
import type { CoreWorker } from '../core/worker.ts';
import type { Clock } from '../io/clock.ts';
import { writeRunHeader } from '../protocol/delivery.ts';
import { FRAME } from '../protocol/frames.ts';
import { taskBytes } from '../protocol/task-headers.ts';
import type { FrameWriter } from '../protocol/writer.ts';
import type { SegmentReader } from './segment-reader.ts';

/** Where a worker's deliveries go. */
export interface DeliveryTarget {
  readonly writer: FrameWriter;
  /** How many more bytes the link may be given; not above 0 while its reader does not keep up. */
  readonly roomBytes: number;
  revoke(id: number, token: number, reason: 'cancelled' | 'lease-lost'): void;
  /** Asks the worker for a sign of life; see `Engine.heard`. */
  probe(): void;
}

const TAKE_MAX = 4096;
/** What a run has in common of this word; that somebody waits for one of its tasks, or that one failed before, splits no run. */
const RUN_KIND_MASK = KIND_MASK | FLAG_SUSPECT;
/** A frame is ended soon after it has grown beyond this. */
const FRAME_BYTES = 1024 * 1024;
/** After so many the event loop has a turn: what has come meanwhile need not wait until all workers have their fill. */
const TURN_BYTES = 1024 * 1024;

/**
 * Hands ready tasks to workers, once a turn, and in pieces where it is much. Idle handlers are filled before anyone's
 * prefetch, and each worker gets its share of what is there, so that neither work nor latency depends on who connected
 * first. A contiguous run of one batch is copied as it lies in the journal.
 */
export class Dispatcher {
  readonly targets = new Map<number, DeliveryTarget>();
  readonly #core: Core;
  readonly #clock: Clock;
  readonly #reader: SegmentReader;
  readonly #unreadable: (queue: Queue, error: unknown, again: () => void) => void;
  readonly #again: () => void;
  readonly #slots = new Uint32Array(TAKE_MAX);
  readonly #loading = new Set<Queue>();
  /** Writers with a frame that this turn began: all queues of a worker go into one, which is one write to its link. */
  readonly #begun: FrameWriter[] = [];
  #deliveries = 0;
  #leftBytes = TURN_BYTES;
  #isResting = false;

  /** `again` asks for another `run`; `unreadable` gets what became of a page that holds the next task of a queue. */
  constructor(
    core: Core,
    clock: Clock,
    reader: SegmentReader,
    unreadable: (queue: Queue, error: unknown, again: () => void) => void,
    again: () => void,
  ) {
    this.#core = core;
    this.#clock = clock;
    this.#reader = reader;
    this.#unreadable = unreadable;
    this.#again = again;
  }

  run(nowMs: number): void {
    const { marked } = this.#core.queues;
    if (marked.length === 0 || this.#isResting) return;
    this.#reader.refresh();
    // A queue may be marked again while it is served; that is for the next turn.
    const queues = marked.splice(0);
    // A queue that is filled up all the time must not take every free handler of a worker that has others.
    if (queues.length > 1) queues.sort((a, b) => a.servedAt - b.servedAt);
    for (const queue of queues) {
      queue.marked = false;
      if (!queue.paused && !this.#loading.has(queue)) this.#serve(queue, nowMs);
      if (this.#isResting) this.#core.queues.mark(queue);
    }
    for (const writer of this.#begun.splice(0)) {
      writer.end();
      // Not at the end of the turn: whoever waits for work has waited for this turn already.
      writer.flush();
    }
  }

  revoke(worker: CoreWorker, id: number, token: number, reason: 'cancelled' | 'lease-lost'): void {
    this.targets.get(worker.index)?.revoke(id, token, reason);
  }

  probe(worker: CoreWorker): void {
    this.targets.get(worker.index)?.probe();
  }

  #serve(queue: Queue, nowMs: number): void {
    // First the idle handlers, then what fits into the prefetch.
    if (!this.#isResting) this.#share(queue, nowMs, true);
    while (queue.ready > 0 && !this.#isResting && this.#share(queue, nowMs, false));
  }

  /** One round over the workers; returns whether anybody took anything and more may follow. */
  #share(queue: Queue, nowMs: number, idleOnly: boolean): boolean {
    const { workers } = queue;
    const count = workers.length;
    let takers = 0;
    for (let i = 0; i < count; i++) if (this.#room(workers[i], idleOnly) > 0) takers++;
    if (takers === 0) return false;
    // One at least: who takes nothing for want of a token makes the queue wait for it.
    const share = Math.max(1, Math.ceil(Math.min(queue.ready, queue.allowance(nowMs)) / takers));
    const first = queue.turn++ % count;
    let taken = false;
    for (let i = 0; i < count && queue.ready > 0 && !this.#isResting; i++) {
      const worker = workers[(first + i) % count];
      const room = Math.min(this.#room(worker, idleOnly), share, TAKE_MAX);
      if (room <= 0) continue;
      if (this.#deliver(worker, queue, room, nowMs) > 0) taken = true;
      // Where it stops it goes on: the next round does not begin with whoever has had his share.
      if (this.#isResting) queue.turn = first + i + 1;
      if (this.#core.missing !== NONE) {
        this.#load(queue, this.#core.missing);
        return false;
      }
    }
    return taken;
  }

  #room(worker: CoreWorker, idleOnly: boolean): number {
    const credit = idleOnly ? Math.min(worker.credit, worker.concurrency - worker.held) : worker.credit;
    if (credit <= 0) return 0;
    const target = this.targets.get(worker.index);
    return target !== undefined && target.roomBytes > 0 ? credit : 0;
  }

  /** The next task lies in a page that is not in memory: the queue waits for it. */
  #load(queue: Queue, slot: number): void {
    this.#loading.add(queue);
    const { table } = this.#core;
    const again = (): void => {
      this.#loading.delete(queue);
      this.#core.queues.mark(queue);
      this.#again();
    };
    this.#reader
      .load(table.segment(slot), table.offset(slot))
      .then(again, (error: unknown) => this.#unreadable(queue, error, again));
  }

  #deliver(worker: CoreWorker, queue: Queue, countMax: number, nowMs: number): number {
    const target = this.targets.get(worker.index) as DeliveryTarget;
    const bytesMax = Math.min(target.roomBytes, this.#leftBytes);
    const count = this.#core.take(worker, queue, countMax, bytesMax, this.#reader, nowMs, this.#slots);
    if (count === 0) return 0;
    queue.servedAt = ++this.#deliveries;
    this.#write(target.writer, count, this.#core.firstToken);
    this.#leftBytes -= this.#core.takenBytes;
    if (this.#leftBytes <= 0) this.#rest();
    return count;
  }

  #rest(): void {
    this.#isResting = true;
    this.#clock.deferPastInput(() => {
      this.#isResting = false;
      this.#leftBytes = TURN_BYTES;
      this.#again();
    });
  }

  #write(writer: FrameWriter, count: number, firstToken: number): void {
    if (!writer.insideFrame) {
      writer.begin(FRAME.DELIVER, 0);
      this.#begun.push(writer);
    }
    for (let from = 0; from < count; ) {
      if (writer.bodyBytes > FRAME_BYTES) {
        writer.end();
        writer.begin(FRAME.DELIVER, 0);
      }
      from = this.#writeRun(writer, from, count, firstToken + from);
    }
  }

  /** Writes the run that begins at `from`; returns where the next one does. */
  #writeRun(writer: FrameWriter, from: number, count: number, firstToken: number): number {
    const { table } = this.#core;
    const first = this.#slots[from];
    const firstWords = table.words(first);
    const firstAt = table.at(first);
    const segmentAttempts = firstWords[firstAt + SEGMENT_ATTEMPTS];
    const kindState = firstWords[firstAt + KIND_STATE];
    const epochTime = firstWords[firstAt + EPOCH_TIME];
    const timeLow = firstWords[firstAt + TIME_LOW];
    const start = firstWords[firstAt + OFFSET];
    const extent = this.#reader.extent(segmentAttempts >>> 16, start) as { bytes: Buffer; base: number };
    const { bytes, base } = extent;
    let end = start + 4 + taskBytes(bytes, start - base);
    let next = from + 1;
    // Neighbours in the log with equal words are neighbours of one section, so their ids follow each other too.
    while (next < count && end - start < FRAME_BYTES) {
      const slot = this.#slots[next];
      const words = table.words(slot);
      const at = table.at(slot);
      if (
        words[at + OFFSET] !== end ||
        words[at + SEGMENT_ATTEMPTS] !== segmentAttempts ||
        ((words[at + KIND_STATE] ^ kindState) & RUN_KIND_MASK) !== 0 ||
        words[at + EPOCH_TIME] !== epochTime ||
        words[at + TIME_LOW] !== timeLow
      ) {
        break;
      }
      end += 4 + taskBytes(bytes, end - base);
      next++;
    }
    writeRunHeader(
      writer,
      {
        firstId: table.id(first),
        firstToken,
        count: next - from,
        attempt: (segmentAttempts & 0xffff) + 1,
        suspect: (kindState & FLAG_SUSPECT) !== 0,
        enqueuedAtMs: table.enqueuedAtMs(first),
        byteLength: end - start,
      },
      this.#core.kindOf(first).packed,
    );
    writer.bytes(bytes, start - base, end - base);
    return next;
  }
}
