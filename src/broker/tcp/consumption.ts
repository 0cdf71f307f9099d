import { errorFromJSON, MillraceError, shown } from '../../errors.ts';
import type { TaskNumber } from '../../ids.ts';
import { type Clock, setPatientTimer, type Timer } from '../../io/clock.ts';
import { DEFAULTS, LIMITS } from '../../limits.ts';
import { DeliveryReader } from '../../protocol/delivery.ts';
import { FRAME, frameName, readJson } from '../../protocol/frames.ts';
import { REVOKE_REASON, readIds, readRevocations } from '../../protocol/settlement.ts';
import { encodeTaskError } from '../../protocol/settlement-writer.ts';
import type { ConsumeOptions, Consumer, Consumption, FailOptions, Payload, TaskError } from '../contract.ts';
import { idIn, pairsIn } from './answers.ts';
import { Connection, type Dialing, isFatal } from './connection.ts';
import { HeldRun } from './held-run.ts';
import { HeldRuns } from './held-runs.ts';
import { Lifeline } from './lifeline.ts';
import { Remarks } from './remarks.ts';
import { groupByFrame, type Settlement, SettlementList, writeGroup } from './settlements.ts';

/**
 * One worker's deliveries, over a connection of its own: when it closes, for whatever reason, exactly this worker's tasks
 * go back.
 *
 *   opening ──REPLY to SUBSCRIBE──▶ consuming ◀──REPLY to SUBSCRIBE──┐
 *                                      │ connection lost             │
 *                                      └──────────▶ lost ──ready──▶ resuming
 *
 * While lost, handlers run on and their settlements gather. SUBSCRIBE then names every task that is held or settled without
 * an answer; what the server still keeps for us goes on under the token it gives, the rest is dropped and revoked.
 * `stop` ends deliveries and nothing else; `close` and the end of the connection end everything.
 */
type State = 'opening' | 'consuming' | 'lost' | 'resuming' | 'closed';

/** How long `close` waits for the answer to what it hands back. */
const CLOSE_TIMEOUT_MS = 2000;

export class RemoteConsumption implements Consumption {
  readonly #clock: Clock;
  readonly #options: ConsumeOptions;
  readonly #consumer: Consumer;
  readonly #onClosed: () => void;
  readonly #dialing: Dialing;
  readonly #connection: Connection;
  #lifeline: Lifeline | undefined;
  readonly #reader = new DeliveryReader(HeldRun);
  #state: State = 'opening';
  #opened: { resolve: () => void; reject: (error: Error) => void } | undefined;
  #subscribeId = 0;
  /** Until SUBSCRIBE is answered. */
  #subscribeTimer: Timer | undefined;
  #unsubscribeId = 0;
  #stopping = false;
  #stopped: (() => void)[] = [];
  readonly #runs = new HeldRuns();
  /** What the consumer is to be told that came before the caller of `consume` could have its answer. */
  #early: (() => void)[] | undefined = [];
  readonly #gathered = new SettlementList();
  readonly #remarks = new Remarks();
  /** Sent on this connection, by request id. */
  readonly #unanswered = new Map<number, Settlement[]>();
  #flushing = false;
  /** The last task with which a handler has begun, and whether the server knows. */
  #begunRun: HeldRun | undefined;
  #begunIndex = 0;
  #begunTold = true;
  #settledWaits: (() => void)[] = [];

  constructor(dialing: Dialing, options: ConsumeOptions, consumer: Consumer, onClosed: () => void) {
    this.#dialing = dialing;
    this.#clock = dialing.clock;
    this.#options = options;
    this.#consumer = consumer;
    this.#onClosed = onClosed;
    this.#connection = new Connection(dialing, {
      ready: () => {
        this.#subscribe();
        this.#openLifeline();
      },
      frame: (type, requestId, buffer, start, end) => this.#frame(type, requestId, buffer, start, end),
      drained: () => {
        if (!this.#remarks.empty) this.#schedule();
      },
      lost: () => this.#lost(),
      ended: (error) => this.#ended(error),
    });
  }

  /** Resolves when the server has taken the subscription; rejects with its refusal, with TIMEOUT, or like `connect`. */
  start(): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#opened = { resolve, reject };
      this.#connection.start();
    });
  }

  complete(run: HeldRun, index: number, result: Payload | undefined): void {
    if (!run.settle(index)) return;
    this.#gathered.complete(run, index, result);
    this.#schedule();
  }

  completeMany(run: HeldRun, from: number, to: number): void {
    let start = from;
    for (let index = from; index < to; index++) {
      if (run.settle(index)) continue;
      if (index > start) this.#gathered.completeMany(run, start, index);
      start = index + 1;
    }
    if (to > start) this.#gathered.completeMany(run, start, to);
    this.#schedule();
  }

  fail(run: HeldRun, index: number, error: TaskError, options: FailOptions, startedAtMs: number): void {
    if (!run.settle(index)) return;
    const json = encodeTaskError(error, { worker: this.#options.workerName, startedAtMs });
    this.#gathered.fail(run, index, json, options);
    this.#schedule();
  }

  release(run: HeldRun, index: number): void {
    if (!run.settle(index)) return;
    this.#gathered.release(run, index);
    this.#schedule();
  }

  begun(run: HeldRun, index: number, atOnce: boolean): void {
    this.#begunRun = run;
    this.#begunIndex = index;
    this.#begunTold = false;
    if (!atOnce) this.#schedule();
    else if (this.#state === 'consuming') {
      this.#tellBegun();
      this.#connection.writer.flush();
    }
  }

  progress(run: HeldRun, index: number, progress: string): void {
    if (!run.isHeld(index)) return;
    this.#remarks.progress(run, index, progress);
    this.#schedule();
  }

  log(run: HeldRun, index: number, text: string): void {
    if (!run.isHeld(index)) return;
    this.#remarks.log(run, index, Math.floor(this.#clock.wallMs()), text);
    this.#schedule();
  }

  stop(): Promise<void> {
    this.#stopping = true;
    // The next connection is told together with its SUBSCRIBE.
    if (this.#state !== 'consuming' && this.#state !== 'resuming') return Promise.resolve();
    return new Promise((resolve) => {
      // A server that does not answer must not hold the stop: what it delivers later is handed back unseen.
      const timer = setPatientTimer(this.#clock, DEFAULTS.callTimeoutMs, resolve);
      this.#stopped.push(() => {
        timer.cancel();
        resolve();
      });
      this.#unsubscribe();
    });
  }

  settled(timeoutMs: number): Promise<void> {
    return new Promise((resolve, reject) => {
      if (this.#allSettled) {
        resolve();
        return;
      }
      const timer = setPatientTimer(this.#clock, timeoutMs, () => {
        reject(settleTimeout(timeoutMs, this.#connection.ready));
      });
      this.#settledWaits.push(() => {
        timer.cancel();
        resolve();
      });
    });
  }

  async close(): Promise<void> {
    if (this.#state === 'closed') return;
    this.#stopping = true;
    this.#opened?.reject(new MillraceError('CLOSED', 'the client was closed while the worker was starting'));
    for (const run of this.#runs) {
      for (let index = 0; index < run.length; index++) this.release(run, index);
    }
    if (this.#state === 'consuming') {
      await this.settled(CLOSE_TIMEOUT_MS).catch(() => {
        // Without an answer in time the server takes back what is left when the connection ends.
      });
    }
    this.#finish();
    this.#connection.close();
  }

  get #allSettled(): boolean {
    return this.#state === 'closed' || (this.#gathered.empty && this.#unanswered.size === 0);
  }

  #frame(type: number, requestId: number, buffer: Buffer, start: number, end: number): void {
    switch (type) {
      case FRAME.DELIVER:
        for (const run of this.#reader.read(buffer, start, end)) this.#deliver(run);
        return;
      case FRAME.SETTLED:
        this.#answered(requestId, buffer, start, end);
        return;
      case FRAME.REVOKE:
        readRevocations(buffer, start, end, (id, token, reason) => this.#revoked(id, token, reason));
        return;
      case FRAME.REPLY:
        if (requestId === this.#subscribeId) this.#subscribed(readJson(buffer, start, end));
        else if (requestId === this.#unsubscribeId) this.#unsubscribed();
        return;
      case FRAME.ERROR:
        this.#refused(errorFromJSON(readJson(buffer, start, end)));
        return;
      default:
        throw new MillraceError('PROTOCOL', `the server sent ${frameName(type)} to a consumer`);
    }
  }

  #openLifeline(): void {
    if (!this.#dialing.lifelines) return;
    this.#lifeline = new Lifeline(this.#dialing, this.#connection.lifelineKey, () => {
      this.#connection.reconnect(new MillraceError('DISCONNECTED', 'the connection to the server was cut'));
    });
  }

  #subscribe(): void {
    const { workerName, queues, concurrency, prefetch } = this.#options;
    const resume = this.#runs.resumable();
    if (this.#state === 'lost') this.#state = 'resuming';
    this.#subscribeId = this.#connection.nextRequestId();
    this.#connection.writer.json(FRAME.SUBSCRIBE, this.#subscribeId, {
      worker: workerName,
      queues,
      concurrency,
      prefetch,
      resume,
    });
    this.#subscribeTimer = setPatientTimer(this.#clock, DEFAULTS.callTimeoutMs, () => this.#subscribeUnanswered());
    if (this.#stopping) this.#unsubscribe();
  }

  /** A server that took the connection and says nothing: whoever starts a worker is told; one that runs tries again. */
  #subscribeUnanswered(): void {
    const message = `the server did not answer the worker's subscription within ${DEFAULTS.callTimeoutMs} ms`;
    this.#giveUp(new MillraceError('TIMEOUT', message, { details: { timeoutMs: DEFAULTS.callTimeoutMs } }));
  }

  #subscribed(reply: Record<string, unknown>): void {
    const resumed = this.#state === 'resuming';
    this.#subscribeTimer?.cancel();
    this.#state = 'consuming';
    if (!resumed) {
      this.#opened?.resolve();
      this.#opened = undefined;
      this.#clock.deferPastInput(() => this.#tellEarly());
      return;
    }
    const unsent = [...this.#unanswered.values()].flat();
    this.#unanswered.clear();
    this.#runs.sort(readKept(reply), (run, index) => this.#revoke(run, index, 'lease-lost'));
    this.#tell(() => this.#consumer.connection('restored'));
    this.#tellRemarks();
    this.#send([...unsent, ...this.#gathered.take()]);
    if (this.#begunRun !== undefined) this.#writeBegun(this.#runs.lastHeldToken(this.#begunRun, this.#begunIndex));
  }

  #tellEarly(): void {
    const early = this.#early ?? [];
    this.#early = undefined;
    for (const tell of early) tell();
  }

  #tell(tell: () => void): void {
    if (this.#early === undefined) tell();
    else this.#early.push(tell);
  }

  #revoke(run: HeldRun, index: number, reason: 'cancelled' | 'lease-lost'): void {
    this.#tell(() => this.#consumer.revoke(run, index, reason));
  }

  #deliver(run: HeldRun): void {
    this.#runs.add(run);
    if (this.#early === undefined) this.#handOver(run);
    else this.#early.push(() => this.#handOver(run));
  }

  #handOver(run: HeldRun): void {
    if (this.#state === 'closed') return;
    if (!this.#stopping) {
      this.#consumer.deliver(run);
      return;
    }
    for (let index = 0; index < run.length; index++) this.release(run, index);
  }

  #answered(requestId: number, buffer: Buffer, start: number, end: number): void {
    const settlements = this.#unanswered.get(requestId);
    if (settlements === undefined) return;
    this.#unanswered.delete(requestId);
    readIds(buffer, start, end, (id) => {
      const [run, index] = this.#runs.find(id, 'settled');
      if (run !== undefined) this.#revoke(run, index, 'lease-lost');
    });
    for (const { run, from, to } of settlements) {
      for (let index = from; index < to; index++) run.drop(index);
      this.#runs.forgetIfGone(run);
    }
    this.#checkSettled();
  }

  #revoked(id: TaskNumber, token: number, reason: number): void {
    const [run, index] = this.#runs.find(id, 'held');
    // Settled here, or delivered anew, while the message was on its way.
    if (run === undefined || run.token(index) !== token) return;
    if (reason === REVOKE_REASON.CANCELLED) {
      this.#revoke(run, index, 'cancelled');
      return;
    }
    run.drop(index);
    this.#runs.forgetIfGone(run);
    this.#revoke(run, index, 'lease-lost');
  }

  #schedule(): void {
    if (this.#flushing) return;
    this.#flushing = true;
    this.#clock.defer(() => {
      this.#flushing = false;
      if (this.#state !== 'consuming') return;
      this.#tellRemarks();
      this.#send(this.#gathered.take());
      this.#tellBegun();
    });
  }

  /** While a server does not read, lines are better counted here than sent; what is kept back goes when it has read. */
  #tellRemarks(): void {
    if (this.#remarks.empty || this.#connection.unsentBytes > LIMITS.unsentLogBytesMax) return;
    this.#remarks.write(this.#connection.writer);
  }

  #tellBegun(): void {
    const last = this.#begunRun;
    if (this.#begunTold || last === undefined) return;
    const known = last.whole || last.isHeld(this.#begunIndex);
    this.#writeBegun(known ? last.token(this.#begunIndex) : this.#runs.lastHeldToken(last, this.#begunIndex));
  }

  #writeBegun(token: number): void {
    this.#begunTold = true;
    if (token === 0) return;
    const { writer } = this.#connection;
    writer.begin(FRAME.BEGUN, 0);
    writer.u64(token);
    writer.end();
  }

  #send(settlements: readonly Settlement[]): void {
    for (const group of groupByFrame(settlements)) {
      const requestId = this.#connection.nextRequestId();
      if (writeGroup(this.#connection.writer, requestId, group)) this.#unanswered.set(requestId, group);
    }
    this.#checkSettled();
  }

  #checkSettled(): void {
    if (!this.#allSettled) return;
    for (const resolve of this.#settledWaits.splice(0)) resolve();
  }

  #unsubscribe(): void {
    this.#unsubscribeId = this.#connection.nextRequestId();
    this.#connection.writer.empty(FRAME.UNSUBSCRIBE, this.#unsubscribeId);
  }

  #unsubscribed(): void {
    for (const resolve of this.#stopped.splice(0)) resolve();
  }

  #lost(): void {
    this.#subscribeTimer?.cancel();
    this.#lifeline?.close();
    if (this.#state === 'closed' || this.#state === 'opening') return;
    const wasConsuming = this.#state === 'consuming';
    this.#state = 'lost';
    this.#unsubscribed();
    if (wasConsuming) this.#tell(() => this.#consumer.connection('lost'));
  }

  /** The server refused the subscription or a settlement. */
  #refused(error: MillraceError): void {
    // A server that is stopping comes back; until then a worker that starts waits like one that runs.
    if (error.code === 'STOPPING') this.#connection.reconnect(error);
    else this.#giveUp(error);
  }

  #giveUp(error: MillraceError): void {
    // What it may take is another matter than whether it may connect: asking again changes nothing.
    if (this.#opened === undefined && !isFatal(error) && error.code !== 'FORBIDDEN') {
      this.#connection.reconnect(error);
      return;
    }
    this.#connection.close();
    this.#ended(error);
  }

  #ended(error: MillraceError): void {
    const opened = this.#opened;
    this.#finish();
    if (opened !== undefined) opened.reject(error);
    else this.#tell(() => this.#consumer.ended(error));
  }

  #finish(): void {
    this.#state = 'closed';
    this.#subscribeTimer?.cancel();
    this.#lifeline?.close();
    this.#opened = undefined;
    this.#runs.clear();
    this.#unanswered.clear();
    this.#gathered.take();
    this.#remarks.clear();
    this.#unsubscribed();
    this.#checkSettled();
    this.#onClosed();
  }
}

function readKept(reply: Record<string, unknown>): Map<TaskNumber, number> {
  const what = 'what the answer to SUBSCRIBE says to be kept';
  const kept = new Map<TaskNumber, number>();
  for (const [id, token] of pairsIn(what, reply.kept)) {
    if (typeof token !== 'string') throw new MillraceError('PROTOCOL', `${what} has the token ${shown(token)}`);
    kept.set(idIn(what, id), Number(token));
  }
  return kept;
}

function settleTimeout(timeoutMs: number, ready: boolean): MillraceError {
  const state = ready ? 'the server did not answer' : 'there is no connection';
  return new MillraceError(
    'TIMEOUT',
    `settlements had no answer within ${timeoutMs} ms (${state}): their tasks may run again`,
    {
      details: { timeoutMs },
    },
  );
}
