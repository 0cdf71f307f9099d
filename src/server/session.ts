import { type Grant, NOTHING } from '../access/grant.ts';
import { shareOf } from '../access/share.ts';
import { NONE } from '../core/task-table.ts';
import type { CoreWorker } from '../core/worker.ts';
import type { DeliveryTarget } from '../engine/dispatcher.ts';
import type { Engine } from '../engine/engine.ts';
import type { StoredOutcome } from '../engine/segment-reader.ts';
import { MillraceError } from '../errors.ts';
import { formatTaskId } from '../ids.ts';
import type { Link, LinkHandler } from '../io/net.ts';
import { LIMITS } from '../limits.ts';
import {
  describeForeignBytes,
  errorBody,
  FRAME,
  FrameReader,
  frameName,
  PROTOCOL_VERSION,
  readJson,
} from '../protocol/frames.ts';
import { RESULT_STATE, REVOKE_REASON, readIds, readToken } from '../protocol/settlement.ts';
import { FrameWriter } from '../protocol/writer.ts';
import { Admission } from './admission.ts';
import { CallQueue } from './call-queue.ts';
import type { Call } from './calls.ts';
import {
  type Hello,
  type Progress,
  parseHello,
  parseLog,
  parseProgress,
  parseSubscription,
  parseUnwatch,
  parseWatch,
} from './messages.ts';
import { type ResultSink, Results } from './results.ts';
import { TaskProgress } from './task-progress.ts';
import { Watches } from './watches.ts';

/**
 * One connection.
 *
 *   greeting ──HELLO──► open ──SUBSCRIBE──► open, with a worker
 *       └── timeout, wrong bytes ──► closed ◄── end of the link, bad frame, stop
 *
 * A worker's host that is cut off while bytes are on their way to it is noticed by TCP only after many minutes, because
 * keepalive probes are for idle connections. So a worker opens a second connection that stays idle, its lifeline; when
 * either ends, both do.
 *
 * An answer waits until everything that was appended to the journal before it is durable, so nobody is told what a crash
 * could take back; deliveries do not wait. Answers of one connection keep their order, but for results, which also wait
 * while their reader does not keep up.
 */
export interface SessionOwner {
  readonly engine: Engine;
  readonly serverVersion: string;
  /** The session that was given this key. */
  sessionOfLifeline(key: string): Session | undefined;
  /** The session whose worker has the task under this token. */
  holder(id: number, token: number): Session | undefined;
  /** A batch of the session's producer was taken, or a log of a task was written to: who may use some queues only has a share of these. */
  tookBatch(session: Session, producer: string): void;
  tookLog(session: Session, id: number): void;
  /** The session has answers to send once more is durable. */
  awaiting(session: Session): void;
  /** More than a little of what the session, no worker's, has sent waits for the disk, or no longer. */
  sendsMuch(session: Session, much: boolean): void;
  /** How much of what it has sent may wait for the disk before it is not read from. */
  windowOf(session: Session): number;
  /** So much has come: whether the session is to rest until it is told to read on. */
  hasRead(session: Session, bytes: number): boolean;
  /** It has none any more. */
  answered(session: Session): void;
  closed(session: Session): void;
  /** What who says HELLO with this token may do. Throws UNAUTHENTICATED, and CONNECTION_LIMIT when he has too many. */
  admit(session: Session, token: string | undefined): Grant;
  /** Of all connections with these credentials. */
  sumOf(grant: Grant, of: (session: Session) => number): number;
  /** Throws FORBIDDEN, and what the method throws. */
  call(request: Call, grant: Grant): unknown;
  /** Someone came who is no client: one line for the log. */
  refused(session: Session, error: MillraceError): void;
}

interface PendingAnswer {
  sequence: number;
  send: () => void;
}

const NO_HANDLER: LinkHandler = { data: () => {}, drain: () => {}, close: () => {} };

export class Session implements LinkHandler, DeliveryTarget, ResultSink {
  readonly id: string;
  readonly lifelineKey: string;
  readonly openedAtMs: number;
  readonly writer: FrameWriter;
  hello: Hello | undefined;
  /** What whoever is at the other end may do; nothing before HELLO. */
  grant: Grant = NOTHING;
  worker: CoreWorker | undefined;
  workerName = '';
  /** When anything came last; steady time. */
  heardMs: number;
  /** When the first byte of an unfinished frame was seen, or reading went on with one; 0 while nothing is read. */
  frameBeganMs = 0;
  /** See `ReadingTurns`. */
  uncountedBytes = 0;
  readonly #owner: SessionOwner;
  readonly #engine: Engine;
  readonly #link: Link;
  /** Who has not said who he is may not fill the memory. */
  readonly #reader = new FrameReader(
    (type, requestId, buffer, start, end) => this.#frame(type, requestId, buffer, start, end),
    { firstType: FRAME.HELLO },
  );
  readonly #answers: PendingAnswer[] = [];
  readonly #results: Results;
  readonly #calls: CallQueue;
  readonly #admission: Admission;
  /** Made when events are first asked for. */
  #watches: Watches | undefined;
  #eventsDeferred = false;
  readonly #progress = new TaskProgress();
  #unconfirmedBytes = 0;
  /** Its link is not read from: it is ahead of the disk, or does not read; or others have their turn. */
  #isBehind = false;
  /** It is no worker's, and more than a little of what it has sent waits for the disk. */
  #sendsMuch = false;
  #isResting = false;
  #paused = false;
  #first = true;
  /** The other one of a session and its lifeline. */
  #twin: Session | undefined;
  #handedBack = false;
  #ended = false;
  #closed = false;

  constructor(owner: SessionOwner, link: Link, id: string, lifelineKey: string) {
    this.id = id;
    this.lifelineKey = lifelineKey;
    this.#owner = owner;
    this.#engine = owner.engine;
    this.#link = link;
    this.openedAtMs = owner.engine.clock.steadyMs();
    this.heardMs = this.openedAtMs;
    this.writer = new FrameWriter(link, (flush) => owner.engine.clock.defer(flush));
    this.#admission = new Admission(owner.engine);
    this.#results = new Results(owner.engine, this, () => this.#checkAnswered());
    this.#calls = new CallQueue({
      run: (request) => owner.call(request, this.grant),
      reply: (requestId, body, written, urgent) => {
        if (urgent) this.#writeReply(requestId, body, written);
        else this.#reply(requestId, body, written);
      },
      refuse: (requestId, error) => this.#error(requestId, error),
      begun: () => this.#throttle(),
      room: () => this.roomBytes,
      turn: (begin) => owner.engine.turns.add(begin),
    });
    link.handler = this;
  }

  get remote(): string {
    return this.#link.remote;
  }

  /** Tokens of leases can be guessed; what a client has drawn for itself cannot. */
  isOfSameClient(other: Session): boolean {
    return this.hello?.producer === other.hello?.producer && this.grant.name === other.grant.name;
  }

  get roomBytes(): number {
    return LIMITS.sendBufferBytesMax - this.#link.bufferedBytes - this.writer.pendingBytes;
  }

  /** What its reader has not taken yet. */
  get bufferedBytes(): number {
    return this.#link.bufferedBytes;
  }

  /** Of the memory of the server. */
  get unsentBytes(): number {
    return (
      this.#link.bufferedBytes +
      this.writer.pendingBytes +
      this.#results.heldBytes +
      (this.#watches?.heldCharacters ?? 0)
    );
  }

  /** Results that are waited for, and event streams. */
  get waitCount(): number {
    return this.#results.count;
  }

  get watchCount(): number {
    return this.#watches?.count ?? 0;
  }

  get unfinishedFrameBytes(): number {
    return this.#reader.heldBytes;
  }

  get missingFrameBytes(): number {
    return this.#reader.missingBytes;
  }

  /** The oldest segment of the journal that is kept for results which its reader has no room for; infinite when none is. */
  get oldestSegment(): number {
    return this.#results.oldestSegment;
  }

  // ── Link ──────────────────────────────────────────────────────────────────────────────────────────────────────────

  data(chunk: Buffer): void {
    if (this.#closed) return;
    this.heardMs = this.#engine.clock.steadyMs();
    if (this.#first && this.#answerHttp(chunk)) return;
    this.#first = false;
    try {
      this.#reader.push(chunk);
    } catch (error) {
      if (!(error instanceof MillraceError)) throw error;
      this.refuse(error);
      return;
    }
    if (!this.#reader.insideFrame) this.frameBeganMs = 0;
    else if (this.frameBeganMs === 0 && !this.#paused) this.frameBeganMs = this.heardMs;
    this.#isResting = this.#owner.hasRead(this, chunk.length);
    this.#throttle();
  }

  /** Others have had their turn. */
  readOn(): void {
    this.#isResting = false;
    this.#pauseOrResume();
  }

  drain(): void {
    this.#throttle();
    this.#results.send();
    this.#calls.go();
    this.#watches?.send();
    this.#checkAnswered();
    if (this.worker !== undefined) this.#engine.workerReady(this.worker);
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.writer.close();
    this.#link.handler = NO_HANDLER;
    // A link that was ended closes by itself, after what it was given last has gone out.
    if (!this.#ended) this.#link.destroy();
    this.#results.close();
    this.#calls.close();
    this.#watches?.close();
    this.#answers.length = 0;
    if (this.worker !== undefined) {
      this.#engine.removeWorker(this.worker, !this.#handedBack && !this.#engine.stopping);
      this.worker = undefined;
    }
    this.#owner.closed(this);
    this.#twin?.close();
  }

  /** Says why, then closes. */
  refuse(error: MillraceError): void {
    if (this.#closed) return;
    this.#owner.refused(this, error);
    this.#reader.stop();
    this.#writeError(0, error);
    this.writer.flush();
    this.#endLink();
  }

  /** The server is stopping: the client should finish what it has. One that has not been welcomed yet has nothing. */
  goAway(reason: string): void {
    if (this.hello === undefined) this.refuse(new MillraceError('STOPPING', reason));
    else if (!this.#closed) this.writer.json(FRAME.GOAWAY, 0, { reason });
  }

  /** Hands back what the worker holds, uncharged, and closes in order. */
  end(): void {
    if (this.#closed) return;
    this.#handedBack = true;
    this.writer.flush();
    this.#endLink();
  }

  #endLink(): void {
    this.#ended = true;
    this.#link.end();
    this.close();
  }

  /** People point browsers at ports. */
  #answerHttp(chunk: Buffer): boolean {
    const foreign = describeForeignBytes(chunk.subarray(0, 9));
    if (foreign === undefined || !foreign.includes('speaks HTTP')) return false;
    const body = `Millrace: ${foreign}\n`;
    const head = `HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\ncontent-length: ${Buffer.byteLength(body)}\r\nconnection: close\r\n\r\n`;
    this.#owner.refused(this, new MillraceError('PROTOCOL', foreign));
    this.#link.write(Buffer.from(head + body));
    this.#endLink();
    return true;
  }

  // ── Answers ───────────────────────────────────────────────────────────────────────────────────────────────────────

  /** Sends once what is in the journal by now is durable, and after the answers before it. */
  #answer(send: () => void): void {
    const sequence = this.#engine.journal.appendedSequence;
    if (this.#answers.length === 0 && sequence <= this.#engine.journal.durableSequence) {
      send();
      return;
    }
    this.#answers.push({ sequence, send });
    this.#owner.awaiting(this);
  }

  /** Returns whether answers are left. */
  durable(sequence: number): boolean {
    const answers = this.#answers;
    let sent = 0;
    while (sent < answers.length && answers[sent].sequence <= sequence) answers[sent++].send();
    if (sent > 0) answers.splice(0, sent);
    this.#results.send();
    this.#calls.go();
    this.#watches?.send();
    this.#throttle();
    return this.#isOwing;
  }

  get #isOwing(): boolean {
    return this.#answers.length > 0 || this.#results.pending || this.#watches?.isOwing === true;
  }

  #checkAnswered(): void {
    if (this.#closed) return;
    if (this.#isOwing) this.#owner.awaiting(this);
    else this.#owner.answered(this);
  }

  #reply(requestId: number, body: string, written: () => void): void {
    this.#answer(() => this.#writeReply(requestId, body, written));
  }

  #writeReply(requestId: number, body: string, written: () => void): void {
    const { writer } = this;
    writer.begin(FRAME.REPLY, requestId);
    writer.text(body);
    writer.end();
    written();
  }

  #error(requestId: number, error: MillraceError): void {
    this.#answer(() => this.#writeError(requestId, error));
  }

  #writeError(requestId: number, error: MillraceError): void {
    this.writer.begin(FRAME.ERROR, requestId);
    this.writer.text(errorBody(error));
    this.writer.end();
  }

  /**
   * Who is ahead of the disk, with tasks or with results, is not read from for a while; nor is one that does not read, or whose
   * calls come faster than they can be worked on.
   */
  #throttle(): void {
    if (this.#closed) return;
    const sendsMuch = this.worker === undefined && this.#unconfirmedBytes > LIMITS.littleUnconfirmedBytes;
    if (sendsMuch !== this.#sendsMuch) {
      this.#sendsMuch = sendsMuch;
      this.#owner.sendsMuch(this, sendsMuch);
    }
    this.#isBehind =
      this.isAheadOfDisk ||
      this.#answers.length > LIMITS.answersPerConnectionMax ||
      this.#link.bufferedBytes > LIMITS.sendBufferBytesMax ||
      this.#calls.waitingBytes > LIMITS.waitingCallBytesPerConnectionMax;
    this.#pauseOrResume();
  }

  /** It is read from again when less of what it has sent waits for the disk. */
  get isAheadOfDisk(): boolean {
    const { journal } = this.#engine;
    const own = this.#unconfirmedBytes;
    const isAhead =
      (own > LIMITS.littleUnconfirmedBytes && own > this.#owner.windowOf(this)) ||
      (own > 0 && journal.unwrittenBytes > LIMITS.unconfirmedBytesMax);
    // Where no task can be taken, none adds to what waits: who enqueues is told so, and not kept waiting for the disk.
    return isAhead && (this.worker !== undefined || journal.hasRoom(0, 'task'));
  }

  /** Once a second. Who is not read from gets no answer, and would take that for silence. */
  look(): void {
    this.#throttle();
    if (this.isAheadOfDisk && this.hello !== undefined) this.probe();
  }

  #pauseOrResume(): void {
    const paused = this.#isBehind || this.#isResting;
    if (paused === this.#paused || this.#closed) return;
    this.#paused = paused;
    if (paused) this.#link.pause();
    else this.#link.resume();
    // What is not read cannot become whole.
    this.frameBeganMs = paused || !this.#reader.insideFrame ? 0 : this.#engine.clock.steadyMs();
  }

  // ── Frames ────────────────────────────────────────────────────────────────────────────────────────────────────────

  #frame(type: number, requestId: number, buffer: Buffer, start: number, end: number): void {
    if (this.#closed) return;
    // The time is that of one frame: whole ones coming in a stream begin it anew.
    this.frameBeganMs = 0;
    if (this.hello === undefined) {
      this.#greet(requestId, buffer, start, end);
      return;
    }
    try {
      this.#handle(type, requestId, buffer, start, end);
    } catch (error) {
      // What the caller did wrong is answered; a frame that is none, or one that wants no answer, ends the connection.
      if (!(error instanceof MillraceError) || error.code === 'PROTOCOL' || requestId === 0) throw error;
      // That the disk is full must not wait for it.
      if (error.code === 'DISK_FULL') this.#writeError(requestId, error);
      else this.#error(requestId, error);
    }
  }

  #greet(requestId: number, buffer: Buffer, start: number, end: number): void {
    const { hello, token } = parseHello(readJson(buffer, start, end));
    this.grant = this.#owner.admit(this, token);
    if (hello.lifelineOf !== undefined) this.#becomeLifeline(hello.lifelineOf);
    this.hello = hello;
    const { engine, serverVersion } = this.#owner;
    const { frameBytesMax, payloadBytesMax, headersMax, headersBytesMax, resultBytesMax, batchTasksMax } = LIMITS;
    this.writer.json(FRAME.WELCOME, requestId, {
      protocol: PROTOCOL_VERSION,
      server: serverVersion,
      session: this.id,
      lifelineKey: this.lifelineKey,
      epoch: engine.core.ids.epoch,
      limits: { frameBytesMax, payloadBytesMax, headersMax, headersBytesMax, resultBytesMax, batchTasksMax },
    });
  }

  #becomeLifeline(key: string): void {
    const session = this.#owner.sessionOfLifeline(key);
    if (session === undefined) throw new MillraceError('PROTOCOL', 'the connection that this lifeline is for is gone');
    this.#twin = session;
    session.#twin = this;
  }

  #handle(type: number, requestId: number, buffer: Buffer, start: number, end: number): void {
    switch (type) {
      case FRAME.ENQUEUE:
        this.#enqueue(requestId, buffer, start, end);
        break;
      case FRAME.SUBMIT:
        this.#submit(requestId, buffer, start, end);
        break;
      case FRAME.COMPLETE:
      case FRAME.FAIL:
      case FRAME.RELEASE:
        this.#settle(type, requestId, buffer, start, end);
        break;
      case FRAME.WAIT:
        this.#waitFor(buffer, start, end);
        break;
      case FRAME.UNWAIT:
        readIds(buffer, start, end, (id) => this.#results.drop(id));
        break;
      case FRAME.WATCH:
        this.#watch(requestId, readJson(buffer, start, end));
        break;
      case FRAME.UNWATCH:
        this.#watches?.remove(parseUnwatch(readJson(buffer, start, end)));
        break;
      case FRAME.SUBSCRIBE:
        this.#subscribe(requestId, readJson(buffer, start, end));
        break;
      case FRAME.UNSUBSCRIBE:
        if (this.worker !== undefined) this.worker.paused = true;
        this.#reply(requestId, '{}', () => {});
        break;
      case FRAME.BEGUN:
        this.#begun(readToken(buffer, start, end));
        break;
      case FRAME.PROGRESS:
        this.#setProgress(readJson(buffer, start, end));
        break;
      case FRAME.LOG:
        this.#log(readJson(buffer, start, end));
        break;
      case FRAME.CALL:
        this.#calls.add(requestId, readJson(buffer, start, end), end - start);
        break;
      case FRAME.PING:
        this.writer.empty(FRAME.PONG, requestId);
        break;
      case FRAME.PONG:
        if (this.worker !== undefined) this.#engine.heard(this.worker);
        break;
      default:
        throw new MillraceError('PROTOCOL', `a client does not send ${frameName(type)}`);
    }
  }

  #enqueue(requestId: number, buffer: Buffer, start: number, end: number): void {
    const producer = (this.hello as Hello).producer;
    this.#admission.checkEnqueue(this.grant, producer, buffer, start, end);
    const { batch, firstId, count } = this.#engine.enqueue(producer, buffer, start, end);
    this.#owner.tookBatch(this, producer);
    const bytes = end - start;
    this.#unconfirmedBytes += bytes;
    this.#answer(() => {
      this.#unconfirmedBytes -= bytes;
      const { writer } = this;
      writer.begin(FRAME.CONFIRM, requestId);
      writer.u48(batch);
      writer.u64(firstId);
      writer.u32(count);
      writer.end();
    });
  }

  #submit(requestId: number, buffer: Buffer, start: number, end: number): void {
    const producer = (this.hello as Hello).producer;
    this.#admission.checkSubmit(this.grant, producer, buffer, start, end);
    const { batch, firstId, count, existing } = this.#engine.submit(producer, buffer, start, end);
    this.#owner.tookBatch(this, producer);
    const bytes = end - start;
    this.#unconfirmedBytes += bytes;
    const known = existing.map(([index, id]) => [index, formatTaskId(id)]);
    const reply = JSON.stringify({ batch, firstId: formatTaskId(firstId), count, existing: known });
    this.#reply(requestId, reply, () => {
      this.#unconfirmedBytes -= bytes;
    });
  }

  #settle(type: number, requestId: number, buffer: Buffer, start: number, end: number): void {
    const { worker } = this;
    if (worker === undefined) throw new MillraceError('PROTOCOL', `${frameName(type)} came before SUBSCRIBE`);
    const refused: number[] = [];
    const { settlements } = this.#engine;
    const { held } = worker;
    if (worker.silent) this.#engine.heard(worker);
    if (type === FRAME.COMPLETE) settlements.complete(worker, buffer, start, end, refused);
    else if (type === FRAME.FAIL) settlements.fail(worker, buffer, start, end, refused);
    else settlements.release(worker, buffer, start, end, refused);
    const bytes = end - start;
    const count = held - worker.held;
    this.#unconfirmedBytes += bytes;
    worker.unanswered += count;
    this.#engine.workerReady(worker);
    this.#answer(() => {
      this.#unconfirmedBytes -= bytes;
      const wasHeldUp = worker.unanswered > LIMITS.unansweredTasksMax;
      worker.unanswered -= count;
      if (wasHeldUp) this.#engine.workerReady(worker);
      const { writer } = this;
      writer.begin(FRAME.SETTLED, requestId);
      for (const id of refused) writer.u64(id);
      writer.end();
    });
  }

  // ── Work ──────────────────────────────────────────────────────────────────────────────────────────────────────────

  #subscribe(requestId: number, message: Record<string, unknown>): void {
    if (this.worker !== undefined) throw new MillraceError('PROTOCOL', 'a connection subscribes once');
    if (this.#engine.stopping) throw new MillraceError('STOPPING', 'the server is stopping and gives out no tasks');
    const { workerName, queues, concurrency, prefetch, resume } = parseSubscription(message);
    this.#admission.checkSubscribe(this.grant, queues);
    this.workerName = workerName;
    const worker = this.#engine.addWorker(queues, concurrency, prefetch, this);
    worker.name = workerName;
    this.worker = worker;
    const own = resume.filter(({ id }) => this.#admission.covers(this.grant, id));
    // It is back before its old connection was seen to end: what that holds is taken from it without blame.
    for (const { id, token } of own) {
      const holder = this.#owner.holder(id, token);
      if (holder?.isOfSameClient(this) === true) holder.end();
    }
    const kept = this.#engine.resume(worker, own);
    const lost = resume.filter(({ id }) => !kept.has(id));
    // At once, because it must come before the first delivery; what it says needs no disk.
    this.writer.json(FRAME.REPLY, requestId, {
      kept: [...kept].map(([id, token]) => [formatTaskId(id), String(token)]),
      lost: lost.map(({ id }) => formatTaskId(id)),
    });
  }

  revoke(id: number, token: number, reason: 'cancelled' | 'lease-lost'): void {
    const { writer } = this;
    writer.begin(FRAME.REVOKE, 0);
    writer.u64(id);
    writer.u64(token);
    writer.u8(reason === 'cancelled' ? REVOKE_REASON.CANCELLED : REVOKE_REASON.LEASE_LOST);
    writer.end();
  }

  probe(): void {
    this.writer.empty(FRAME.PING, 1);
  }

  #begun(token: number): void {
    if (this.worker === undefined) throw new MillraceError('PROTOCOL', 'BEGUN came before SUBSCRIBE');
    if (this.worker.silent) this.#engine.heard(this.worker);
    this.#engine.begun(this.worker, token);
  }

  #setProgress(message: Record<string, unknown>): void {
    const { id, token, progress, bytes } = parseProgress(message);
    const { worker } = this;
    if (worker === undefined || !this.#engine.core.holds(worker, id, token)) return;
    const { prefetch } = worker;
    this.#progress.add(id, { token, progress, bytes }, prefetch * 2, (known, under) =>
      this.#engine.core.holds(worker, known, under),
    );
    const { events, core } = this.#engine;
    // A handler may say so before its worker has said that it has begun.
    if (!core.assignments.hasBegun(core.index.get(id))) this.#begun(token);
    if (events.isWatched) events.progressed(core.index.get(id), progress);
  }

  #log(message: Record<string, unknown>): void {
    const { id, token, lines, dropped } = parseLog(message);
    const { worker } = this;
    const { core, logs } = this.#engine;
    const slot = worker === undefined ? NONE : core.leased(worker, id, token);
    if (slot === NONE) return;
    const attempt = core.table.attempts(slot) + 1;
    logs.add(
      id,
      lines.map(([atMs, text]) => ({ atMs, attempt, text })),
      dropped,
    );
    this.#owner.tookLog(this, id);
  }

  progress(id: number): Progress | undefined {
    const known = this.#progress.of(id);
    if (known === undefined || this.worker === undefined) return undefined;
    return this.#engine.core.holds(this.worker, id, known.token) ? known.progress : undefined;
  }

  // ── Events ────────────────────────────────────────────────────────────────────────────────────────────────────────

  #watch(requestId: number, message: Record<string, unknown>): void {
    this.#watches ??= new Watches(this.#engine.events, {
      roomBytes: () => this.roomBytes,
      durableSequence: () => this.#engine.journal.durableSequence,
      send: (watch, events) => this.#writeEvents(watch, events),
      waiting: () => this.#sendEventsSoon(),
    });
    const filter = parseWatch(message);
    this.#admission.checkWatch(this.grant, filter);
    const full = this.#shareError('event streams', shareOf(LIMITS.watchesMax), (each) => each.watchCount);
    if (full !== undefined) throw full;
    this.#watches.add(requestId, filter);
    // At once, because it must come before the first of them; what it says needs no disk.
    this.writer.json(FRAME.REPLY, requestId, {});
  }

  #writeEvents(watch: number, events: readonly string[]): void {
    const { writer } = this;
    writer.begin(FRAME.EVENTS, watch);
    writer.text(`{"events":[${events.join(',')}]}`);
    writer.end();
  }

  #sendEventsSoon(): void {
    if (this.#eventsDeferred) return;
    this.#eventsDeferred = true;
    this.#engine.clock.defer(() => {
      this.#eventsDeferred = false;
      if (this.#closed) return;
      this.#watches?.send();
      this.#checkAnswered();
    });
  }

  // ── Waiting for outcomes ──────────────────────────────────────────────────────────────────────────────────────────

  #waitFor(buffer: Buffer, start: number, end: number): void {
    const refusal =
      this.#admission.refuseWaits(this.grant) ??
      this.#shareError('results', LIMITS.resultWaitersPerCredentialMax, (each) => each.waitCount);
    // One for all that are refused: making many takes the time of others.
    let unseen: MillraceError | undefined;
    readIds(buffer, start, end, (id) => {
      this.#checkWaits();
      if (refusal !== undefined) this.#results.refuse(id, refusal);
      else if (this.#admission.covers(this.grant, id)) this.#results.ask(id);
      else {
        unseen ??= this.grant.unseen('the task');
        this.#results.refuse(id, unseen);
      }
    });
  }

  #checkWaits(): void {
    const { count } = this.#results;
    const bound = LIMITS.resultWaitersPerConnectionMax;
    if (count < bound) return;
    const message = `a connection waits for ${count} results; at most ${bound} are allowed: wait for some before more are asked for`;
    throw new MillraceError('PROTOCOL', message, { details: { bound } });
  }

  /** Of who may use some queues only, when all his connections together have the share that is for him. */
  #shareError(what: string, bound: number, of: (session: Session) => number): MillraceError | undefined {
    if (this.grant.ofAllQueues) return undefined;
    const count = this.#owner.sumOf(this.grant, of);
    if (count < bound) return undefined;
    const message = `${count} ${what} are waited for with these credentials, and at most ${bound} may be by those who may use some queues only: end some`;
    return new MillraceError('BUFFER_FULL', message, { details: { bound } });
  }

  send(id: number, outcome: StoredOutcome): void {
    const { writer } = this;
    const { state, bytes } = packOutcome(outcome);
    writer.begin(FRAME.RESULT, 0);
    writer.u64(id);
    writer.u8(state);
    writer.u32(bytes?.length ?? 0);
    if (bytes !== undefined) writer.bytes(bytes);
    writer.end();
  }
}

function packOutcome(outcome: StoredOutcome): { state: number; bytes: Buffer | undefined } {
  switch (outcome.state) {
    case 'completed':
      return outcome.result === undefined
        ? { state: RESULT_STATE.COMPLETED_EMPTY, bytes: undefined }
        : { state: RESULT_STATE.COMPLETED, bytes: outcome.result };
    case 'dead':
      return { state: RESULT_STATE.DEAD, bytes: outcome.error };
    case 'cancelled':
      return { state: RESULT_STATE.CANCELLED, bytes: undefined };
    case 'notFound':
      return { state: RESULT_STATE.NOT_FOUND, bytes: undefined };
    case 'unreadable':
      return { state: RESULT_STATE.UNREADABLE, bytes: Buffer.from(JSON.stringify(outcome.error)) };
    default:
      return outcome satisfies never;
  }
}
