import { invariant, MillraceError } from '../../errors.ts';
import { formatTaskId } from '../../ids.ts';
import type { Clock } from '../../io/clock.ts';
import { LIMITS } from '../../limits.ts';
import { readConfirm } from '../../protocol/batch.ts';
import { keepCalls, takenAlone } from '../../protocol/batch-calls.ts';
import { BatchWriter, manyBytesBound } from '../../protocol/batch-writer.ts';
import { payloadBytesBound } from '../../protocol/payloads.ts';
import { packTrailer } from '../../protocol/submission.ts';
import { packHeaders } from '../../protocol/task-headers.ts';
import { sharedPool } from '../../protocol/writer.ts';
import type { Payload, RelatedTask, SubmittedTask, TaskHeaders, TaskIds, TaskSpec, When } from '../contract.ts';
import { idIn, pairsIn } from './answers.ts';
import type { Connection } from './connection.ts';
import { DeadlineTimer } from './deadlines.ts';
import { relationsOf, submissionBytesBound } from './submission.ts';

/**
 * Enqueues of one client. A batch moves
 *
 *   gathering ──turn ends, or full──▶ sealed ──window has room──▶ sent ──CONFIRM──▶ confirmed
 *                                        ▲                          │
 *                                        ├────── connection lost ───┤
 *                                        └── one queue refused ─────┘   what is not of it, as a batch of its own
 *
 * A batch gets its number when it is sealed and keeps its bytes until it is confirmed, so that it can be sent again after
 * a reconnect; the server knows the number and does not enqueue twice. While the window is full the batch that gathers
 * just grows. A caller whose time is over is told so; its batch goes on.
 */
interface Waiter {
  /** One of the three is there. */
  readonly one: ((id: string) => void) | undefined;
  readonly many: ((ids: TaskIds) => void) | undefined;
  readonly submitted?: (tasks: readonly SubmittedTask[]) => void;
  readonly reject: (error: Error) => void;
  /** Index in the batch of the first of its tasks. */
  readonly offset: number;
  readonly count: number;
}

interface Batch {
  readonly writer: BatchWriter;
  readonly waiters: Waiter[];
  /** Nobody joins it later. */
  readonly joinUntilMs: number;
  readonly deadlineMs: number;
  /** Behind its tasks: it is a submission, and nobody joins it. */
  readonly trailer: Uint8Array | undefined;
  /** 0 while gathering. */
  number: number;
  frame: Buffer | undefined;
  /** How often it was sent, once on a connection. */
  sendings: number;
  /** Writes that a link has not finished with. */
  writing: number;
  done: boolean;
}

/** A gathering batch is sealed beyond this: larger ones gain nothing and delay their first task. */
const BATCH_BYTES = 1024 * 1024;
/** How long a batch that cannot be sent gathers: its tasks share one deadline. */
const JOIN_MS_MAX = 1000;

export class Producer {
  readonly #clock: Clock;
  readonly #connection: Connection;
  readonly #timeoutMs: number;
  readonly #deadlines: DeadlineTimer;
  #gathering: Batch | undefined;
  #flushing = false;
  #lastNumber = 0;
  /** Sealed and unconfirmed, in order of their numbers. */
  readonly #unconfirmed = new Map<number, Batch>();
  /** The request ids of sent batches on this connection. */
  readonly #sent = new Map<number, Batch>();
  /** Sealed batches that this connection has not been given, in order. */
  #unsent: Batch[] = [];
  #taskCount = 0;
  #byteCount = 0;
  #idle: (() => void)[] = [];
  #closed: MillraceError | undefined;

  constructor(clock: Clock, connection: Connection, enqueueTimeoutMs: number) {
    this.#clock = clock;
    this.#connection = connection;
    this.#timeoutMs = enqueueTimeoutMs;
    this.#deadlines = new DeadlineTimer(clock, (nowMs) => this.#due(nowMs));
  }

  enqueue(spec: TaskSpec, payload: Payload, when: When, headers?: TaskHeaders): Promise<string> {
    return new Promise((resolve, reject) => {
      const prefix = headers === undefined ? undefined : packHeaders(headers);
      const batch = this.#room(1, payloadBytesBound(payload) + (prefix?.length ?? 0));
      const offset = batch.writer.taskCount;
      batch.writer.add(spec, when, payload, prefix);
      this.#taskCount++;
      batch.waiters.push({ one: resolve, many: undefined, reject, offset, count: 1 });
    });
  }

  enqueueMany(
    spec: TaskSpec,
    payloads: readonly Payload[],
    when: When,
    headers: TaskHeaders | undefined,
  ): Promise<TaskIds> {
    const count = payloads.length;
    return new Promise((resolve, reject) => {
      if (count === 0) {
        resolve(new BatchIds(0, 0));
        return;
      }
      const prefix = headers === undefined ? undefined : packHeaders(headers);
      const bytesBound = manyBytesBound(payloads, prefix?.length);
      const batch = this.#room(count, bytesBound);
      const offset = batch.writer.taskCount;
      batch.writer.addMany(spec, when, payloads, bytesBound, prefix);
      this.#taskCount += count;
      batch.waiters.push({ one: undefined, many: resolve, reject, offset, count });
    });
  }

  submit(tasks: readonly RelatedTask[]): Promise<readonly SubmittedTask[]> {
    return new Promise((resolve, reject) => {
      const trailer = packTrailer(relationsOf(tasks));
      const bound = submissionBytesBound(tasks, trailer);
      this.#checkRoom(tasks.length, bound);
      const before = this.#gathering;
      if (before !== undefined) this.#seal(before);
      const batch = this.#gather(trailer);
      try {
        for (const { spec, when, payload, headers, unique } of tasks) {
          if (unique !== undefined) batch.writer.separate();
          batch.writer.add(spec, when, payload, headers === undefined ? undefined : packHeaders(headers));
          if (unique !== undefined) batch.writer.separate();
        }
      } catch (error) {
        this.#gathering = undefined;
        batch.writer.release();
        throw error;
      }
      this.#taskCount += tasks.length;
      batch.waiters.push({
        one: undefined,
        many: undefined,
        submitted: resolve,
        reject,
        offset: 0,
        count: tasks.length,
      });
      this.#seal(batch);
    });
  }

  /** The answer to a submission. Returns false when the request was not one of ours. */
  submitted(requestId: number, reply: Record<string, unknown>): boolean {
    const batch = this.#sent.get(requestId);
    if (batch === undefined) return false;
    const what = 'the answer to SUBMIT';
    const known = new Map<unknown, string>();
    for (const [index, id] of pairsIn(what, reply.existing)) known.set(index, formatTaskId(idIn(what, id)));
    const first = idIn(what, reply.firstId);
    const tasks = Array.from({ length: batch.writer.taskCount }, (_, index): SubmittedTask => {
      const id = known.get(index);
      return id === undefined ? { id: formatTaskId(first + index), isNew: true } : { id, isNew: false };
    });
    this.#sent.delete(requestId);
    this.#finish(batch);
    for (const waiter of batch.waiters) waiter.submitted?.(tasks);
    this.#send();
    return true;
  }

  /** The connection is new: everything unconfirmed goes out again, in order. */
  ready(): void {
    this.#sent.clear();
    this.#unsent = [...this.#unconfirmed.values()];
    this.#send();
  }

  confirmed(requestId: number, buffer: Buffer, start: number, end: number): void {
    const batch = this.#sent.get(requestId);
    // A batch that was sent twice is confirmed once.
    if (batch === undefined) return;
    const { firstId, count } = readConfirm(buffer, start, end);
    if (count !== batch.writer.taskCount) {
      throw new MillraceError('PROTOCOL', `a batch of ${batch.writer.taskCount} tasks was confirmed with ${count} ids`);
    }
    this.#sent.delete(requestId);
    this.#finish(batch);
    for (const waiter of batch.waiters) {
      waiter.one?.(formatTaskId(firstId + waiter.offset));
      waiter.many?.(new BatchIds(firstId + waiter.offset, waiter.count));
    }
    this.#send();
  }

  /** The server refused a batch, whole. Returns false when the request was not one of ours. */
  refused(requestId: number, error: MillraceError): boolean {
    const batch = this.#sent.get(requestId);
    if (batch === undefined) return false;
    this.#sent.delete(requestId);
    // A stopping server took nothing: the batch goes to the one that comes after it.
    if (error.code === 'STOPPING') return true;
    const concerned = this.#sendOthersAgain(batch, error);
    this.#finish(batch);
    for (const waiter of concerned) waiter.reject(error);
    this.#send();
    return true;
  }

  /**
   * Callers who came together are answered as if each had come alone: those whom a refusal does not concern go on in a batch of
   * their own, before what was not sent yet. Returns the others.
   */
  #sendOthersAgain(batch: Batch, error: MillraceError): readonly Waiter[] {
    const { waiters, frame, trailer, deadlineMs } = batch;
    const isTaken = takenAlone(error);
    // What an earlier connection carried may yet come to the server, which would take those calls twice under two numbers.
    if (isTaken === undefined || waiters.length < 2 || trailer !== undefined || batch.sendings > 1) return waiters;
    const writer = new BatchWriter(sharedPool);
    const counts = waiters.map(({ count }) => count);
    const kept = keepCalls(frame as Buffer, counts, isTaken, writer);
    // A server that refuses nobody in particular has refused all.
    if (writer.taskCount === 0 || writer.taskCount === batch.writer.taskCount) {
      writer.release();
      return waiters;
    }
    let offset = 0;
    const others = waiters.flatMap((waiter, index) => {
      if (!kept[index]) return [];
      offset += waiter.count;
      return [{ ...waiter, offset: offset - waiter.count }];
    });
    const again = newBatch({ writer, waiters: others, joinUntilMs: 0, deadlineMs, trailer });
    this.#taskCount += writer.taskCount;
    this.#number(again);
    this.#unsent.unshift(again);
    this.#deadlines.need(deadlineMs);
    return waiters.filter((_, index) => !kept[index]);
  }

  /** Resolves when nothing is unconfirmed. */
  drained(): Promise<void> {
    if (this.#taskCount === 0) return Promise.resolve();
    return new Promise((resolve) => this.#idle.push(resolve));
  }

  /** Rejects everything that waits, and everything later, with `error`. */
  close(error: MillraceError): void {
    if (this.#closed !== undefined) return;
    this.#closed = error;
    this.#deadlines.cancel();
    const batches = [...this.#unconfirmed.values()];
    if (this.#gathering !== undefined) batches.push(this.#gathering);
    this.#gathering = undefined;
    for (const batch of batches) {
      for (const waiter of batch.waiters) waiter.reject(error);
      this.#finish(batch);
    }
  }

  /** The batch that takes `count` more tasks of together at most `bytesBound` bytes. */
  #room(count: number, bytesBound: number): Batch {
    this.#checkRoom(count, bytesBound);
    const gathering = this.#gathering;
    if (gathering === undefined) return this.#gather();
    const { taskCount } = gathering.writer;
    const fits = taskCount + count <= LIMITS.batchTasksMax && gathering.writer.bytes + bytesBound <= BATCH_BYTES;
    const late = !this.#flushing && this.#clock.steadyMs() > gathering.joinUntilMs;
    if (taskCount > 0 && fits && !late) return gathering;
    this.#seal(gathering);
    return this.#gather();
  }

  #checkRoom(count: number, bytesBound: number): void {
    if (this.#closed !== undefined) throw this.#closed;
    const tasks = this.#taskCount + count;
    const bytes = this.#byteCount + (this.#gathering?.writer.bytes ?? 0) + bytesBound;
    if (tasks > LIMITS.clientBufferTasksMax || bytes > LIMITS.clientBufferBytesMax) throw this.#full(tasks, bytes);
  }

  #full(tasks: number, bytes: number): MillraceError {
    const state = this.#connection.ready ? 'the server does not confirm as fast' : 'there is no connection';
    return new MillraceError(
      'BUFFER_FULL',
      `${tasks} tasks (${bytes} bytes) would wait unconfirmed and ${state}; at most ${LIMITS.clientBufferTasksMax} tasks and ${LIMITS.clientBufferBytesMax} bytes may: await earlier enqueues before adding more`,
      { details: { tasks, bytes } },
    );
  }

  #gather(trailer?: Uint8Array): Batch {
    const nowMs = this.#clock.steadyMs();
    const spanMs = Math.min(JOIN_MS_MAX, this.#timeoutMs / 10);
    // The last to join must not be told too early that its time is over.
    const deadlineMs = nowMs + this.#timeoutMs + spanMs;
    const writer = new BatchWriter(sharedPool);
    const batch = newBatch({ writer, waiters: [], joinUntilMs: nowMs + spanMs, deadlineMs, trailer });
    this.#gathering = batch;
    this.#deadlines.need(deadlineMs);
    if (!this.#flushing) {
      this.#flushing = true;
      this.#clock.defer(() => {
        this.#flushing = false;
        this.#send();
      });
    }
    return batch;
  }

  #seal(batch: Batch): void {
    this.#gathering = undefined;
    if (batch.writer.taskCount === 0) {
      // Its only task was refused when it was added.
      batch.writer.release();
      return;
    }
    this.#number(batch);
    this.#unsent.push(batch);
  }

  #number(batch: Batch): void {
    batch.number = ++this.#lastNumber;
    batch.frame = batch.writer.seal(batch.number, batch.trailer);
    this.#byteCount += batch.frame.length;
    this.#unconfirmed.set(batch.number, batch);
  }

  #send(): void {
    if (!this.#connection.open) return;
    let next = 0;
    while (this.#sent.size < LIMITS.unconfirmedBatchesMax) {
      // Not while more may still come in this turn.
      if (next === this.#unsent.length && this.#gathering !== undefined && !this.#flushing) this.#seal(this.#gathering);
      const batch = this.#unsent[next];
      if (batch === undefined) break;
      next++;
      this.#transmit(batch);
    }
    if (next > 0) this.#unsent.splice(0, next);
  }

  #transmit(batch: Batch): void {
    const requestId = this.#connection.nextRequestId();
    const [lowestUnconfirmed] = this.#unconfirmed.keys();
    batch.writer.address(requestId, lowestUnconfirmed as number);
    this.#sent.set(requestId, batch);
    batch.sendings++;
    batch.writing++;
    this.#connection.send(batch.frame as Buffer, () => {
      batch.writing--;
      if (batch.done && batch.writing === 0) batch.writer.release();
    });
  }

  #finish(batch: Batch): void {
    invariant(!batch.done, 'a batch was finished twice');
    batch.done = true;
    this.#unconfirmed.delete(batch.number);
    this.#taskCount -= batch.writer.taskCount;
    this.#byteCount -= batch.frame?.length ?? 0;
    if (batch.writing === 0) batch.writer.release();
    if (this.#taskCount > 0) return;
    for (const resolve of this.#idle.splice(0)) resolve();
  }

  /** Not in order: a batch that took over calls of another has its deadline. */
  #due(nowMs: number): number {
    let nextMs = Number.POSITIVE_INFINITY;
    const batches = [...this.#unconfirmed.values()];
    if (this.#gathering !== undefined) batches.push(this.#gathering);
    for (const batch of batches) {
      if (batch.deadlineMs > nowMs) nextMs = Math.min(nextMs, batch.deadlineMs);
      else this.#expire(batch);
    }
    return nextMs;
  }

  #expire(batch: Batch): void {
    for (const waiter of batch.waiters.splice(0)) waiter.reject(this.#timeout());
  }

  #timeout(): MillraceError {
    const state = this.#connection.ready ? 'the server did not answer' : 'there is no connection';
    return new MillraceError(
      'TIMEOUT',
      `the enqueue was not confirmed within ${this.#timeoutMs} ms (${state}): it may or may not have been enqueued, and this client goes on sending it until it is closed. To be sure, look for it with tasks.list; enqueueing it again can run it twice`,
      { details: { timeoutMs: this.#timeoutMs } },
    );
  }
}

function newBatch(parts: Pick<Batch, 'writer' | 'waiters' | 'joinUntilMs' | 'deadlineMs' | 'trailer'>): Batch {
  return { ...parts, number: 0, frame: undefined, sendings: 0, writing: 0, done: false };
}

class BatchIds implements TaskIds {
  readonly length: number;
  readonly #firstId: number;

  constructor(firstId: number, length: number) {
    this.#firstId = firstId;
    this.length = length;
  }

  at(index: number): string {
    if (!Number.isInteger(index) || index < 0 || index >= this.length) {
      const message = `there is no id ${index}: the batch has ${this.length} tasks, counted from 0`;
      throw new MillraceError('INVALID_ARGUMENT', message, { details: { value: index, length: this.length } });
    }
    return formatTaskId(this.#firstId + index);
  }

  *[Symbol.iterator](): Iterator<string> {
    for (let index = 0; index < this.length; index++) yield formatTaskId(this.#firstId + index);
  }
}
