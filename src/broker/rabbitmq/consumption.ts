import { MillraceError } from '../../errors.ts';
import { type Clock, setPatientTimer } from '../../io/clock.ts';
import { DEFAULTS, LIMITS } from '../../limits.ts';
import type { ConsumeOptions, Consumer, Consumption, FailOptions, Payload, TaskError } from '../contract.ts';
import type { Verdict } from '../store.ts';
import { DeadlineTimer } from '../tcp/deadlines.ts';
import { Acknowledgements } from './acknowledgements.ts';
import { Arrivals } from './arrivals.ts';
import type { TaskEnd } from './ends.ts';
import { HeldRun, type HeldTask } from './held-task.ts';
import { Link } from './link.ts';
import { backoffMs, MessageReader } from './message.ts';
import { Recorder } from './recorder.ts';
import type { Shared } from './shared.ts';
import { Subscription } from './subscription.ts';
import { Topology } from './topology.ts';
import { WaitingTasks } from './waiting-tasks.ts';
import { type WorkerFigures, WorkerMemory } from './worker-memory.ts';

/**
 * One worker's deliveries, over a connection of its own: when it is lost, exactly this worker's messages go back.
 *
 *   opening ──consumers taken──▶ consuming ◀──consumers taken──┐
 *                                    │ channel or connection lost
 *                                    └──────────▶ lost ────────┘
 *
 * Messages are read once a turn (Arrivals), wait here in the order of their priorities, and are handed out when the worker
 * has a slot for them. What it settles in one turn is recorded together (Recorder) and then acknowledged. While lost, handlers
 * run on; when the broker gives the same task to this worker again, it goes on under the new delivery tag. What does not
 * come back in time is revoked.
 */
type State = 'opening' | 'consuming' | 'lost' | 'closed';

const CLOSE_TIMEOUT_MS = 2000;

export class RabbitConsumption implements Consumption {
  readonly #shared: Shared;
  readonly #clock: Clock;
  readonly #options: ConsumeOptions;
  readonly #consumer: Consumer;
  readonly #onClosed: () => void;
  readonly #link: Link;
  readonly #subscription: Subscription;
  readonly #arrivals: Arrivals;
  /** Undefined without a store. */
  readonly #memory: WorkerMemory | undefined;
  readonly #recorder: Recorder;
  #acks = new Acknowledgements();
  readonly #waiting = new WaitingTasks();
  /** Everything that is not gone, by id. */
  readonly #tasks = new Map<string, HeldTask>();
  /** Those of which a later attempt is here. */
  readonly #superseded = new Set<HeldTask>();
  /** Settled in this turn. */
  #ended: TaskEnd[] = [];
  #state: State = 'opening';
  #opened: { resolve: () => void; reject: (error: Error) => void } | undefined;
  /** Handed out and not settled. */
  #outstanding = 0;
  /** Settled and not acknowledged. */
  #unanswered = 0;
  #paused: ReadonlySet<string> = new Set();
  /** The caller of `consume` has no answer yet, or not all is known that came before the consumers were taken. */
  #early = true;
  #handingOut = false;
  #flushing = false;
  #stopping = false;
  /** The broker has said that it delivers no more, or has had its time for that. */
  #stopped = false;
  /** Counts what was handed out; handlers have begun up to `#begun`. */
  #handedOut = 0;
  #begun = 0;
  readonly #adoption: DeadlineTimer;
  #settledWaits: (() => void)[] = [];

  constructor(shared: Shared, options: ConsumeOptions, consumer: Consumer, onClosed: () => void) {
    this.#shared = shared;
    this.#clock = shared.clock;
    this.#options = options;
    this.#consumer = consumer;
    this.#onClosed = onClosed;
    this.#link = new Link(shared.dialing, {
      ready: (model) => this.#subscription.open(model),
      lost: (reason) => this.#subscription.disconnected(reason),
      blocked: () => {
        // Nothing is published over this connection: acknowledgements go on.
      },
      ended: (error) => this.#endedBy(error),
    });
    const topology = new Topology(shared.clock, shared.names, shared.queueType, () => this.#link.model);
    this.#arrivals = new Arrivals(shared, {
      find: (id) => this.#tasks.get(id),
      take: (tasks) => this.#take(tasks),
      adopt: (task, tag) => this.#adopt(task, tag),
      acknowledge: (tag, generation) => this.#acknowledge(tag, generation),
      refused: (error) => this.#endedBy(error),
    });
    this.#memory =
      shared.store === undefined ? undefined : new WorkerMemory(shared.store, shared, options, () => this.#figures());
    this.#recorder = new Recorder(shared, this.#memory, {
      done: (task) => this.#done(task),
      giveBack: (task) => this.#giveBack(task),
      refused: ({ run, index }) => {
        if (run !== undefined) this.#consumer.revoke(run, index, 'lease-lost');
      },
      failed: (error) => this.#endedBy(error),
    });
    const newId = shared.newId;
    const nowMs = (): number => this.#clock.wallMs();
    this.#subscription = new Subscription(
      shared.clock,
      this.#link,
      topology,
      shared.names,
      options.queues.map((queue) => ({ queue, reader: new MessageReader(queue, newId, nowMs) })),
      options.prefetch,
      {
        arrived: (message, source) => {
          this.#acks.delivered(message.fields.deliveryTag);
          this.#arrivals.push(message, source);
        },
        opened: () => this.#subscribed(),
        lost: (reason) => this.#lost(reason),
        refused: (error) => this.#endedBy(error),
      },
    );
    this.#adoption = new DeadlineTimer(shared.clock, (now) => this.#giveUpLate(now));
  }

  /** Resolves when the broker has taken all consumers; rejects with its refusal, or like `connect`. */
  start(): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#opened = { resolve, reject };
      this.#link.start();
    });
  }

  complete(run: HeldRun, index: number, result: Payload | undefined): void {
    this.#settleOne(run, index, (task) => ({ kind: 'completed', task, result }));
  }

  completeMany(run: HeldRun, from: number, to: number): void {
    for (let index = from; index < to; index++) this.complete(run, index, undefined);
  }

  fail(run: HeldRun, index: number, error: TaskError, options: FailOptions, startedAtMs: number): void {
    this.#settleOne(run, index, (task) => {
      const atMs = Math.floor(this.#clock.wallMs());
      const { maxAttempts, backoff } = task.spec;
      if (options.final || task.attempt >= maxAttempts) return { kind: 'dead', task, error, atMs, startedAtMs };
      const delayMs = options.retryDelayMs ?? backoffMs(backoff, task.attempt, this.#shared.random.float());
      return { kind: 'failed', task, error, atMs, delayMs, startedAtMs };
    });
  }

  release(run: HeldRun, index: number): void {
    this.#settleOne(run, index, (task) => ({ kind: 'released', task }));
  }

  begun(run: HeldRun, index: number): void {
    const before = this.#begun;
    this.#begun = Math.max(before, (run.tasks[index] as HeldTask).order);
    if (this.#memory === undefined) return;
    const startedAtMs = Math.round(this.#clock.wallMs());
    for (let at = index; at >= 0; at--) {
      const task = run.tasks[at] as HeldTask;
      if (task.order <= before) return;
      task.startedAtMs = startedAtMs;
      if (task.state === 'held' && this.#memory.watched) this.#memory.started(task.message.id, task.attempt);
    }
  }

  /** Without a store there is nobody to tell. */
  progress(run: HeldRun, index: number, progress: string): void {
    if ((run.tasks[index] as HeldTask).state === 'held') this.#memory?.progress(run.id(index), progress);
  }

  log(run: HeldRun, index: number, text: string): void {
    const task = run.tasks[index] as HeldTask;
    if (task.state === 'held') this.#memory?.log(run.id(index), task.attempt, text);
  }

  /** Somebody watches events, who may not have heard of what runs. */
  watched(): void {
    for (const task of this.#tasks.values()) {
      if (task.state === 'held' && task.order <= this.#begun) this.#memory?.started(task.message.id, task.attempt);
    }
  }

  /** Tells the store how the worker does. */
  beat(): void {
    this.#memory?.beat();
  }

  /** Nothing of these queues is started until they are no longer among those paused. */
  paused(queues: ReadonlySet<string>): void {
    this.#paused = queues;
    void this.#subscription.pause(queues).then(() => this.#returnPaused());
  }

  /** Of the tasks with these ids, those that are here. */
  cancelRequested(ids: readonly string[]): void {
    for (const id of ids) {
      const task = this.#tasks.get(id);
      if (task?.state === 'held') this.#consumer.revoke(task.run as HeldRun, task.index, 'cancelled');
      else if (task?.state === 'waiting') {
        // Its end says that it is cancelled.
        if (this.#waiting.remove((each) => each === task).length > 0) this.#settle({ kind: 'released', task });
        else task.cancelRequested = true;
      }
    }
  }

  async stop(): Promise<void> {
    this.#stopping = true;
    this.#recorder.postponeReleases();
    await this.#subscription.stop();
    if (this.#state === 'closed') return;
    this.#stopped = true;
    this.#recorder.recordPostponed();
    this.#returnWaiting();
  }

  async settled(timeoutMs: number): Promise<void> {
    const deadlineMs = this.#clock.steadyMs() + timeoutMs;
    await this.#answered(timeoutMs);
    if (this.#state !== 'consuming') return;
    // Acknowledgements have no answer: what is asked after them is answered after them.
    const leftMs = Math.max(deadlineMs - this.#clock.steadyMs(), 1);
    await within(this.#clock, leftMs, this.#subscription.seen(), settleTimeout(timeoutMs, this.#link.ready));
  }

  /** What its tasks need cannot be had any more. Those that it has go back with its connection. */
  end(error: MillraceError): void {
    if (this.#state !== 'closed') this.#endedBy(error);
  }

  async close(): Promise<void> {
    if (this.#state === 'closed') return;
    this.#stopping = true;
    this.#stopped = true;
    this.#opened?.reject(new MillraceError('CLOSED', 'the client was closed while the worker was starting'));
    this.#returnWaiting();
    for (const task of this.#tasks.values()) {
      if (task.state === 'held') this.#settle({ kind: 'released', task });
    }
    if (this.#state === 'consuming') {
      await this.settled(CLOSE_TIMEOUT_MS).catch(() => {
        // What is not given back in time the broker takes back when the connection ends.
      });
    }
    this.#finish();
    await this.#link.close();
  }

  // ── Deliveries ────────────────────────────────────────────────────────────────────────────────────────────────────

  #take(tasks: readonly HeldTask[]): void {
    for (const task of tasks) {
      const older = this.#tasks.get(task.message.id);
      if (older !== undefined) this.#supersede(older);
      // It may still end, and its tag is that of this channel only.
      if (older !== undefined && older.state !== 'gone') this.#superseded.add(older);
      this.#tasks.set(task.message.id, task);
    }
    if (this.#memory === undefined) this.#enter(tasks);
    else this.#memory.begin(tasks, (begun, verdicts) => this.#begunInStore(begun, verdicts));
  }

  #begunInStore(tasks: readonly HeldTask[], verdicts: readonly Verdict[] | MillraceError): void {
    if (verdicts instanceof MillraceError) {
      for (const task of tasks) this.#cannotBegin(task, verdicts);
      return;
    }
    const entering: HeldTask[] = [];
    tasks.forEach((task, index) => {
      // Lost with its channel meanwhile: it comes again.
      if (task.state === 'gone') return;
      if (verdicts[index] === 'run') {
        entering.push(task);
        return;
      }
      this.#acks.finished(task.tag);
      this.#forget(task);
      this.#schedule();
    });
    this.#enter(entering);
  }

  /** The store will never take it. */
  #cannotBegin(task: HeldTask, error: MillraceError): void {
    if (task.state === 'gone') return;
    task.state = 'settled';
    this.#unanswered++;
    this.#recorder.bury(task, error);
  }

  #enter(tasks: readonly HeldTask[]): void {
    for (const task of tasks) {
      if (task.fatal !== undefined) {
        this.#settle({ kind: 'dead', task, error: task.fatal, atMs: Math.floor(this.#clock.wallMs()) });
      } else if (task.cancelRequested) this.#settle({ kind: 'released', task });
      else this.#waiting.push(task);
    }
    if (this.#stopped) this.#returnWaiting();
    if (this.#paused.size > 0) this.#returnPaused();
    this.#handOut();
  }

  #handOut(): void {
    if (this.#handingOut || this.#early || this.#state !== 'consuming') return;
    this.#handingOut = true;
    while (!this.#stopping && this.#outstanding < this.#options.concurrency) {
      const tasks = this.#waiting.take(this.#options.concurrency - this.#outstanding, this.#paused);
      if (tasks === undefined) break;
      for (const task of tasks) {
        task.state = 'held';
        task.order = ++this.#handedOut;
      }
      this.#outstanding += tasks.length;
      this.#memory?.changed(this.#outstanding, tasks);
      this.#consumer.deliver(new HeldRun(tasks));
    }
    this.#handingOut = false;
  }

  /** What was not handed out goes back. */
  #returnWaiting(): void {
    for (const task of this.#waiting.takeAll()) this.#settle({ kind: 'released', task });
  }

  #returnPaused(): void {
    const paused = this.#waiting.remove((task) => this.#paused.has(task.spec.queue));
    for (const task of paused) this.#settle({ kind: 'released', task });
  }

  /** A later attempt is here: an earlier one that was lost with its channel does not come again. */
  #supersede(older: HeldTask): void {
    if (older.tag !== 0) return;
    if (older.state === 'held') this.#revoke(older);
    else if (older.recorded) this.#answer(older);
  }

  #adopt(task: HeldTask, tag: number): void {
    if (task.tag !== 0) this.#acks.answered(task.tag);
    task.tag = tag;
    if (task.recorded) this.#done(task);
  }

  #lost(_reason: string): void {
    this.#acks = new Acknowledgements();
    this.#arrivals.forget();
    this.#waiting.takeAll();
    if (this.#state === 'consuming') {
      this.#state = 'lost';
      this.#early = true;
      this.#consumer.connection('lost');
    }
    for (const task of this.#superseded) task.tag = 0;
    for (const task of [...this.#tasks.values()]) {
      task.tag = 0;
      if (task.state === 'waiting') {
        this.#forget(task);
        continue;
      }
      task.adoptUntilMs = Number.POSITIVE_INFINITY;
      // Nobody has begun with it: whoever gets it may.
      if (task.state === 'held' && task.order > this.#begun) this.#revoke(task);
    }
  }

  #subscribed(): void {
    const wasLost = this.#state === 'lost';
    this.#state = 'consuming';
    this.#memory?.open();
    const untilMs = this.#clock.steadyMs() + DEFAULTS.amqp.adoptMs;
    for (const task of this.#tasks.values()) if (task.tag === 0) task.adoptUntilMs = untilMs;
    this.#adoption.need(untilMs);
    if (wasLost) {
      this.#consumer.connection('restored');
      this.#beginHandingOut();
      return;
    }
    this.#opened?.resolve();
    this.#opened = undefined;
    this.#clock.deferPastInput(() => this.#beginHandingOut());
  }

  /** Of what a queue held already the highest priority goes first, though the store is asked in several portions. */
  #beginHandingOut(): void {
    const handOut = (): void => {
      this.#early = false;
      this.#handOut();
    };
    if (this.#memory === undefined) handOut();
    else this.#memory.afterBegun(handOut);
  }

  /** Tasks that the broker did not give to this worker again: another has them, or will. */
  #giveUpLate(nowMs: number): number {
    let nextMs = Number.POSITIVE_INFINITY;
    for (const task of [...this.#tasks.values()]) {
      if (task.tag !== 0) continue;
      if (task.adoptUntilMs > nowMs) nextMs = Math.min(nextMs, task.adoptUntilMs);
      else if (task.state === 'held') this.#revoke(task);
      else if (task.recorded) this.#answer(task);
    }
    return nextMs;
  }

  #revoke(task: HeldTask): void {
    this.#outstanding--;
    this.#forget(task);
    this.#consumer.revoke(task.run as HeldRun, task.index, 'lease-lost');
  }

  #forget(task: HeldTask): void {
    task.state = 'gone';
    this.#superseded.delete(task);
    if (this.#tasks.get(task.message.id) === task) this.#tasks.delete(task.message.id);
  }

  // ── Settlements ───────────────────────────────────────────────────────────────────────────────────────────────────

  #settleOne(run: HeldRun, index: number, end: (task: HeldTask) => TaskEnd): void {
    const task = run.tasks[index] as HeldTask;
    if (task.state === 'held') this.#settle(end(task));
  }

  #settle(end: TaskEnd): void {
    const { task } = end;
    if (task.state === 'held') this.#outstanding--;
    else this.#tasks.set(task.message.id, task);
    task.state = 'settled';
    this.#unanswered++;
    this.#ended.push(end);
    this.#schedule();
  }

  #schedule(): void {
    if (this.#flushing) return;
    this.#flushing = true;
    this.#clock.defer(() => {
      this.#flushing = false;
      const ended = this.#ended;
      this.#ended = [];
      if (ended.length > 0) {
        this.#memory?.changed(this.#outstanding, []);
        this.#recorder.record(ended);
      }
      this.#flushAcks();
      this.#handOut();
    });
  }

  #flushAcks(): void {
    if (this.#acks.empty) return;
    this.#acks.flush((tag, multiple) => this.#subscription.ack(tag, multiple));
  }

  /** Everything that must come before its acknowledgement is done. */
  #done(task: HeldTask): void {
    task.recorded = true;
    if (task.state === 'gone') return;
    if (task.tag === 0) {
      // It waits until the broker gives it to us again, or its time is over.
      const isLate = this.#clock.steadyMs() >= task.adoptUntilMs;
      if (isLate || this.#tasks.get(task.message.id) !== task) this.#answer(task);
      return;
    }
    this.#acks.finished(task.tag);
    this.#answer(task);
    this.#schedule();
  }

  #giveBack(task: HeldTask): void {
    if (task.tag !== 0) {
      this.#acks.answered(task.tag);
      this.#subscription.giveBack(task.tag);
    }
    this.#answer(task);
  }

  #acknowledge(tag: number, generation: number): void {
    if (generation !== this.#arrivals.generation) return;
    this.#acks.finished(tag);
    this.#schedule();
  }

  #figures(): WorkerFigures {
    return {
      held: this.#tasks.size,
      running: this.#outstanding,
      completed: this.#recorder.completed,
      failed: this.#recorder.failed,
      started: this.#started(),
    };
  }

  /** What was begun first runs longest. */
  #started(): Record<string, number> {
    const started: Record<string, number> = {};
    let count = 0;
    for (const [id, { state, startedAtMs }] of this.#tasks) {
      if (state !== 'held' || startedAtMs === 0) continue;
      started[id] = startedAtMs;
      if (++count >= LIMITS.storeBeatTasksMax) break;
    }
    return started;
  }

  #answer(task: HeldTask): void {
    this.#forget(task);
    this.#unanswered--;
    this.#checkSettled();
  }

  #checkSettled(): void {
    if (this.#unanswered > 0 && this.#state !== 'closed') return;
    for (const resolve of this.#settledWaits.splice(0)) resolve();
  }

  #answered(timeoutMs: number): Promise<void> {
    if (this.#unanswered === 0 || this.#state === 'closed') {
      this.#flushAcks();
      return Promise.resolve();
    }
    const done = new Promise<void>((resolve) => this.#settledWaits.push(resolve)).then(() => this.#flushAcks());
    return within(this.#clock, timeoutMs, done, settleTimeout(timeoutMs, this.#link.ready));
  }

  // ── Ends ──────────────────────────────────────────────────────────────────────────────────────────────────────────

  #endedBy(error: MillraceError): void {
    const opened = this.#opened;
    const isOver = this.#state === 'closed';
    this.#finish();
    void this.#link.close();
    if (opened !== undefined) opened.reject(error);
    else if (!isOver) this.#consumer.ended(error);
  }

  #finish(): void {
    this.#state = 'closed';
    this.#opened = undefined;
    this.#adoption.cancel();
    this.#memory?.close();
    this.#arrivals.forget();
    this.#waiting.takeAll();
    this.#tasks.clear();
    this.#superseded.clear();
    this.#ended = [];
    this.#unanswered = 0;
    this.#checkSettled();
    this.#onClosed();
  }
}

/** Rejects with `error` when the promise does not settle in time. */
function within(clock: Clock, ms: number, promise: Promise<void>, error: MillraceError): Promise<void> {
  return new Promise((resolve, reject) => {
    const timer = setPatientTimer(clock, ms, () => reject(error));
    const settle = (): void => {
      timer.cancel();
      resolve();
    };
    // A channel that is lost meanwhile takes its tasks back: nothing is left to wait for.
    promise.then(settle, settle);
  });
}

function settleTimeout(timeoutMs: number, ready: boolean): MillraceError {
  const state = ready ? 'the broker did not answer' : 'there is no connection';
  return new MillraceError(
    'TIMEOUT',
    `settlements were not acknowledged within ${timeoutMs} ms (${state}): their tasks may run again`,
    { details: { timeoutMs } },
  );
}
