import type { Backoff, TaskSpec } from '../../src/broker/contract.ts';
import { NONE, STATE_NAMES, State } from '../../src/core/task-table.ts';
import type { Engine } from '../../src/engine/engine.ts';
import { formatTaskId, parseTaskId } from '../../src/ids.ts';
import type { EventChecker } from './events.ts';
import type { Model, PendingSettlement, SessionFacts, Submission, SubmittedParent, TaskFacts } from './model.ts';
import { type Scheduler, Violation } from './scheduler.ts';
import type { ScheduleChecker } from './schedules.ts';
import { FIRED, type Settled } from './tap.ts';

/** Rounding of times on their way through the journal and the task table. */
const CLOCK_SLACK_MS = 1;
/** How long an outcome may be held back by a server that is free and has nothing to write. */
const WAITER_MS_MAX = 5000;

interface Delivery {
  readonly id: number;
  readonly token: number;
  readonly attempt: number;
  readonly key: string;
}

/** What has gone out of one queue. */
interface QueueOrder {
  /** The newest first delivery of each priority. */
  readonly first: Map<number, { id: number; token: number }>;
  /** When the last task of each priority was delivered. */
  readonly last: Map<number, { step: number; id: number }>;
}

/** Every promise that can be judged from what passes the server's links, checked the moment it is broken. */
export class Checkers {
  readonly model: Model;
  readonly schedules: ScheduleChecker;
  readonly events: EventChecker;
  /** Whether finished tasks may be forgotten soon. */
  readonly forgets: boolean;
  readonly #scheduler: Scheduler;
  readonly #order = new Map<string, QueueOrder>();
  /** Taken from one session and given to another: both hear of it in the same event, in any order. */
  #overlaps: { task: TaskFacts; from: SessionFacts; to: SessionFacts }[] = [];
  #deliveries: { task: TaskFacts; delivery: Delivery; isFirst: boolean }[] = [];
  #waits: { session: SessionFacts; id: number; engine: Engine }[] = [];
  readonly counts = {
    confirmed: 0,
    delivered: 0,
    completed: 0,
    failed: 0,
    refused: 0,
    kept: 0,
    lost: 0,
    expired: 0,
    overtaken: 0,
  };

  constructor(
    model: Model,
    scheduler: Scheduler,
    { forgets, schedules, events }: { forgets: boolean; schedules: ScheduleChecker; events: EventChecker },
  ) {
    this.model = model;
    this.schedules = schedules;
    this.events = events;
    this.#scheduler = scheduler;
    this.forgets = forgets;
  }

  submitted(key: string, spec: TaskSpec, when: Submission['when'], steadyMs: number): void {
    this.model.submit(key, spec, when, steadyMs, this.#scheduler.steps);
  }

  related(key: string, parents: readonly SubmittedParent[]): void {
    (this.model.submissions.get(key) as Submission).parents = parents;
  }

  // ── Enqueues ──────────────────────────────────────────────────────────────────────────────────────────────────────

  confirmed(session: SessionFacts, requestId: number, firstId: number, count: number): void {
    const keys = session.batches.get(requestId);
    session.batches.delete(requestId);
    check(keys?.length === count, 'confirm-mismatch', `request ${requestId} of ${session.name}: ${count} ids`);
    for (const [i, key] of (keys as readonly string[]).entries()) {
      const task = this.#identify(firstId + i, key);
      check(!task.vanished, 'ack-of-vanished', `${nameOf(task)} was confirmed though a crash took it`);
      this.#scheduler.note(`${nameOf(task)} is confirmed`);
      if (!task.confirmed) this.counts.confirmed++;
      task.confirmed = true;
      task.confirmedStep = Math.min(task.confirmedStep, this.#scheduler.steps);
      this.#checkAlone(task);
      this.events.confirmed(task.id, 'enqueued');
    }
  }

  #identify(id: number, key: string): TaskFacts {
    const known = this.model.task(id);
    if (known !== undefined) {
      check(known.key === key, 'id-names-two', `${formatTaskId(id)} is ${known.key} and ${key}`);
      return known;
    }
    const submission = this.model.submissions.get(key);
    if (submission === undefined) throw new Violation('invented-task', `${formatTaskId(id)} is ${key}, never enqueued`);
    return this.model.identify(id, submission);
  }

  /** One enqueue became one task, unless a crash has taken the others. */
  #checkAlone(task: TaskFacts): void {
    const { ids } = this.model.submissions.get(task.key) as { ids: number[] };
    for (const id of ids) {
      const other = this.model.task(id) as TaskFacts;
      const both = other !== task && other.confirmed && task.confirmed && !other.vanished;
      check(!both, 'enqueued-twice', `${nameOf(task)} is also ${formatTaskId(id)}`);
    }
  }

  // ── Deliveries ────────────────────────────────────────────────────────────────────────────────────────────────────

  /** A task that a schedule has enqueued is met for the first time when it is delivered. */
  fired(session: SessionFacts, engine: Engine, delivery: Delivery, spec: TaskSpec): void {
    check(delivery.key === FIRED + spec.queue, 'wrong-queue', `${delivery.key} is in the queue ${spec.queue}`);
    const key = `${delivery.key} ${formatTaskId(delivery.id)}`;
    this.submitted(key, spec, { kind: 'now', ms: 0 }, 0);
    this.delivered(session, engine, { ...delivery, key });
  }

  delivered(session: SessionFacts, engine: Engine, delivery: Delivery): void {
    const task = this.#identify(delivery.id, delivery.key);
    const { attempt, token } = delivery;
    const { maxAttempts } = task.spec;
    const what = `${nameOf(task)}, attempt ${attempt}`;
    this.#scheduler.note(`${what} is delivered to ${session.name}`);
    check(!task.vanished, 'vanished-runs', `${what}: a crash took it`);
    check(task.end === undefined, 'ended-runs-again', `${what} is delivered though it was confirmed as ${task.end}`);
    check(attempt <= maxAttempts, 'too-many-attempts', `${what} of ${maxAttempts}`);
    check(
      (attempt > task.attemptsMin || task.revived) && attempt <= task.attemptsMax + 1,
      'attempt-miscounted',
      `${what}; it has failed ${task.attemptsMin} to ${task.attemptsMax} times`,
    );
    check(token > task.token, 'token-repeats', `${what}: token ${token} after ${task.token}`);
    this.#checkParents(task, what);
    const { clock } = engine;
    const early = task.notBeforeMs - Math.max(this.steadyMaxMs, clock.steadyMs());
    check(early <= CLOCK_SLACK_MS, 'delay-early', `${what} is delivered ${early} ms early: ${describe(task)}`);
    const earlyWall = task.notBeforeWallMs - Math.max(this.wallMaxMs, clock.wallMs());
    check(earlyWall <= CLOCK_SLACK_MS, 'run-at-early', `${what} is delivered ${earlyWall} ms before its runAt`);
    if (task.holder !== undefined) this.#overlaps.push({ task, from: task.holder, to: session });
    this.#deliveries.push({ task, delivery, isFirst: task.deliveries === 0 && attempt === 1 && !task.revived });
    this.model.delivered(task, session, token, attempt);
    this.counts.delivered++;
  }

  /** Everything that it depends on has ended, and so that it may run. */
  #checkParents(task: TaskFacts, what: string): void {
    for (const parent of this.model.submissions.get(task.key)?.parents ?? []) {
      const facts = this.model.parentsNamed(parent);
      const done =
        parent.onFailure === 'run'
          ? facts.length === 0 || facts.some(({ key }) => this.model.mayBeOver(key))
          : facts.some(({ mayHaveCompleted }) => mayHaveCompleted);
      const name = parent.key ?? formatTaskId(parent.id ?? 0);
      check(done, 'child-early', `${what} is delivered before ${name}, on which it depends (${parent.onFailure})`);
    }
  }

  /** The latest times that the server's clocks have shown: what was due once stays due when a clock is set back. */
  wallMaxMs = 0;
  steadyMaxMs = 0;

  /** Call after each event: only then is it certain what was decided before what. */
  afterEvent(): void {
    for (const { task, from, to } of this.#overlaps) {
      check(false, 'leased-twice', `${nameOf(task)} is held by ${from.name}, and given to ${to.name}`);
    }
    if (this.#deliveries.length > 0) {
      const deliveries = this.#deliveries.sort((a, b) => a.delivery.token - b.delivery.token);
      this.#deliveries = [];
      for (const { task, isFirst } of deliveries) this.#checkOrder(task, isFirst);
    }
    for (const { session, id, engine } of this.#waits.splice(0)) {
      const slot = engine.core.index.get(id);
      if (slot !== NONE && engine.core.table.state(slot) < State.COMPLETED) session.watched.set(id, undefined);
    }
    this.events.afterEvent();
  }

  #checkOrder(task: TaskFacts, isFirst: boolean): void {
    const { queue, priority } = task.spec;
    let order = this.#order.get(queue);
    if (order === undefined) {
      order = { first: new Map(), last: new Map() };
      this.#order.set(queue, order);
    }
    // One that was cancelled or purged, and is there again because a crash came first, lost its place.
    if (isFirst && task.plain && !task.cancelAsked && !task.mayBePurged) {
      const before = order.first.get(priority);
      check(
        before === undefined || before.id < task.id,
        'fifo',
        `${nameOf(task)} is delivered after ${before === undefined ? '' : formatTaskId(before.id)}, queue ${queue}, priority ${priority}`,
      );
      order.first.set(priority, { id: task.id, token: task.token });
      for (const [lower, last] of order.last) {
        const overtaken = lower < priority && last.step > task.confirmedStep;
        check(
          !overtaken,
          'priority',
          `${nameOf(task)} of priority ${priority} was there when ${formatTaskId(last.id)} of priority ${lower} was delivered`,
        );
      }
    }
    order.last.set(priority, { step: this.#scheduler.steps, id: task.id });
  }

  // ── Settlements ───────────────────────────────────────────────────────────────────────────────────────────────────

  settleReceived(
    session: SessionFacts,
    requestId: number,
    kind: PendingSettlement['kind'],
    settled: readonly Settled[],
  ): void {
    const entries = settled.map(({ id, token, final, retryDelayMs }) => {
      const task = this.model.task(id);
      const valid = task !== undefined && task.token === token && task.holder === session;
      if (!valid && task?.holder === session) this.counts.overtaken++;
      if (valid) {
        const delayMs = retryDelayMs ?? shortestBackoffMs(task.spec.backoff, task.attemptsMin + 1);
        this.model.settleReceived(task, kind, final, this.steadyMs() + delayMs);
      }
      return { id, token, valid, final, attempt: task?.attemptsMin ?? 0 };
    });
    session.settlements.set(requestId, { kind, entries });
  }

  /** The server's. */
  steadyMs: () => number = () => 0;

  /**
   * `refused` says how often each id was named. A task that expired and came again to the same worker may be in one frame
   * twice, under both its tokens: named once, it is the older that was refused.
   */
  settled(session: SessionFacts, requestId: number, refused: Map<number, number>): void {
    const pending = session.settlements.get(requestId);
    if (pending === undefined) throw new Violation('answer-unasked', `SETTLED ${requestId} to ${session.name}`);
    session.settlements.delete(requestId);
    const oldestFirst = [...pending.entries].sort((a, b) => a.token - b.token);
    for (const { id, token, valid, final, attempt } of oldestFirst) {
      const times = refused.get(id) ?? 0;
      this.#scheduler.note(`${pending.kind} of ${formatTaskId(id)}: ${times > 0 ? 'refused' : 'done'}`);
      if (times > 0) {
        refused.set(id, times - 1);
        this.counts.refused++;
        check(
          !valid,
          'valid-lease-refused',
          `${pending.kind} of ${formatTaskId(id)} under ${token} by ${session.name}`,
        );
        continue;
      }
      check(valid, 'old-token-wins', `${pending.kind} of ${formatTaskId(id)} under ${token} by ${session.name}`);
      this.model.settleConfirmed(this.model.task(id) as TaskFacts, pending.kind, final, attempt);
      if (pending.kind === 'complete') {
        this.counts.completed++;
        this.events.confirmed(id, 'completed');
      }
      if (pending.kind === 'fail') this.counts.failed++;
    }
  }

  expired(session: SessionFacts, id: number, token: number): void {
    const task = this.model.task(id);
    this.#overlaps = this.#overlaps.filter((overlap) => overlap.task !== task || overlap.from !== session);
    if (task?.token !== token) return;
    this.counts.expired++;
    this.model.expired(task, session);
  }

  kept(session: SessionFacts, id: number, token: number): void {
    const task = this.model.task(id);
    if (task === undefined) throw new Violation('kept-unknown', `${formatTaskId(id)} is kept by ${session.name}`);
    check(task.end === undefined, 'ended-runs-again', `${nameOf(task)} is kept though it was confirmed as ${task.end}`);
    check(token > task.token, 'token-repeats', `${nameOf(task)}: token ${token} after ${task.token}`);
    this.model.kept(task, session, token);
    this.events.kept(id);
    this.counts.kept++;
  }

  sessionClosed(session: SessionFacts): void {
    if (!session.closed) this.#scheduler.note(`${session.name} is gone, with ${session.held.size} tasks`);
    this.counts.lost += session.held.size;
    this.#overlaps = this.#overlaps.filter(({ from }) => from !== session);
    for (const call of session.calls.values()) this.schedules.forget(call);
    this.model.closeSession(session);
  }

  // ── Waits and calls ───────────────────────────────────────────────────────────────────────────────────────────────

  waitReceived(session: SessionFacts, id: number, engine: Engine): void {
    this.#scheduler.note(`${session.name} waits for ${formatTaskId(id)}`);
    this.#waits.push({ session, id, engine });
  }

  waitEnded(session: SessionFacts, id: number): void {
    this.#scheduler.note(`${session.name} waits no more for ${formatTaskId(id)}`);
    session.watched.delete(id);
    this.#waits = this.#waits.filter((wait) => wait.session !== session || wait.id !== id);
  }

  /** Whoever waits for a task that has ended is told, as soon as that is on disk. Call now and then. */
  checkWaiters(engine: Engine, busy: boolean): void {
    const { nowMs } = this.#scheduler;
    for (const session of this.model.sessions) {
      for (const id of session.watched.keys()) {
        const slot = engine.core.index.get(id);
        if (slot !== NONE && engine.core.table.state(slot) < State.COMPLETED) {
          session.watched.set(id, undefined);
          continue;
        }
        const sinceMs = busy ? nowMs : (session.watched.get(id) ?? nowMs);
        session.watched.set(id, sinceMs);
        const state = slot === NONE ? 'gone' : STATE_NAMES[engine.core.table.state(slot)];
        const task = this.model.task(id);
        const what = `${formatTaskId(id)}, ${state} since ${sinceMs}: ${task === undefined ? 'unknown' : describe(task)}`;
        check(nowMs - sinceMs < WAITER_MS_MAX, 'waiter-forgotten', `${session.name} was not told of ${what}`);
      }
    }
  }

  resultSent(session: SessionFacts, id: number, notFound: boolean): void {
    const watched = session.watched.delete(id);
    this.#scheduler.note(`${session.name} is told of ${formatTaskId(id)}${notFound ? ': not found' : ''}`);
    this.#waits = this.#waits.filter((wait) => wait.session !== session || wait.id !== id);
    if (!notFound) return;
    const task = this.model.task(id);
    const what = task === undefined ? formatTaskId(id) : describe(task);
    check(
      !watched || task?.mayBePurged === true,
      'waited-result-lost',
      `ended while ${session.name} waited, and is not found: ${what}`,
    );
    const excused =
      task === undefined || !task.confirmed || task.mayBePurged || (this.forgets && this.model.mayBeOver(task.key));
    check(excused, 'ack-lost', `${formatTaskId(id)} is not found by ${session.name}`);
  }

  callReceived(session: SessionFacts, requestId: number, method: string, params: Record<string, unknown>): void {
    const call = { method, params };
    session.calls.set(requestId, call);
    this.schedules.asked(call, method, params.name);
    this.#scheduler.note(`${session.name} calls ${method} ${JSON.stringify(params)}`);
    if (method === 'task.retry' || method === 'task.cancel') {
      const task = this.model.task(parseTaskId(String(params.id)));
      if (task === undefined) return;
      if (method === 'task.retry') this.model.revive(task);
      else this.model.cancel(task);
    } else if (typeof params.queue === 'string') this.#queueChanged(method, params.queue);
  }

  /** Of what belongs to the queue, whatever it is then, any part may be changed. */
  #queueChanged(method: string, queue: string): void {
    for (const task of this.model.tasks.values()) {
      if (task.spec.queue !== queue) continue;
      if (method === 'queue.redrive' || method === 'task.retryMany') this.model.revive(task);
    }
    if (method === 'queue.purge') this.model.purge(queue, this.#scheduler.steps);
    if (method === 'task.cancelMany') this.model.cancelAll(queue, this.#scheduler.steps);
  }

  replied(session: SessionFacts, requestId: number, reply: Record<string, unknown>): void {
    const call = session.calls.get(requestId);
    session.calls.delete(requestId);
    if (call !== undefined) this.schedules.answered(call, call.method, call.params.name, true);
    if (call?.method !== 'task.cancel' || reply.outcome !== 'cancelled') return;
    const id = parseTaskId(String(call.params.id));
    this.events.confirmed(id, 'cancelled');
    const task = this.model.task(id);
    // A dead task is not cancelled, so nothing but a purge comes after it.
    if (task !== undefined && task.holder === undefined) task.end = 'cancelled';
  }

  refused(session: SessionFacts, requestId: number, error: Record<string, unknown>): void {
    session.batches.delete(requestId);
    const call = session.calls.get(requestId);
    session.calls.delete(requestId);
    if (call !== undefined) this.schedules.answered(call, call.method, call.params.name, false);
    const { code, message } = error;
    const ended = code === 'PROTOCOL' && String(message).includes('lifeline is for is gone');
    check(
      ended || !['PROTOCOL', 'PROTOCOL_VERSION', 'INVALID_ARGUMENT'].includes(String(code)),
      'correct-client-refused',
      `${session.name}: ${String(code)}: ${String(message)}`,
    );
  }

  // ── Restarts ──────────────────────────────────────────────────────────────────────────────────────────────────────

  /** A server has read its disk: what was confirmed is there, as it was confirmed. */
  recovered(engine: Engine): void {
    const { core } = engine;
    this.schedules.check(engine);
    this.events.recovered(engine);
    const alive = new Map<string, number>();
    for (const task of this.model.tasks.values()) {
      const slot = core.index.get(task.id);
      if (slot === NONE) {
        this.#checkGone(task);
        continue;
      }
      check(!task.vanished, 'vanished-is-back', `${nameOf(task)} was gone after an earlier crash`);
      const state = core.table.state(slot);
      const name = STATE_NAMES[state];
      check(task.end === undefined || name === task.end, 'end-forgotten', `${nameOf(task)}: ${task.end}, now ${name}`);
      check(
        state >= State.COMPLETED ? this.model.mayBeOver(task.key) : true,
        'ended-by-nobody',
        `${nameOf(task)}: ${name}`,
      );
      const attempts = core.table.attempts(slot);
      // A retry that a crash took gives back the attempts that it had cleared.
      const attemptsMax = task.revived ? task.spec.maxAttempts : Math.max(task.attemptsMax, task.attemptsDurable);
      check(
        attempts >= task.attemptsDurable && attempts <= attemptsMax,
        'attempts-forgotten',
        `${nameOf(task)} has failed ${task.attemptsDurable} to ${task.attemptsMax} times, and ${attempts} after a restart`,
      );
      check(
        !alive.has(task.key),
        'enqueued-twice',
        `${nameOf(task)} is also ${formatTaskId(alive.get(task.key) ?? 0)}`,
      );
      alive.set(task.key, task.id);
      this.model.recovered(task, attempts);
    }
  }

  #checkGone(task: TaskFacts): void {
    const excused = task.mayBePurged || (this.forgets && this.model.mayBeOver(task.key));
    if (!task.confirmed) task.vanished = !excused;
    else
      check(excused, 'ack-lost', `${nameOf(task)} was confirmed and is not there after a restart: ${describe(task)}`);
  }
}

/** The shortest pause that the backoff may draw after so many failures. */
function shortestBackoffMs(backoff: Backoff, failures: number): number {
  const { type, delayMs, maxDelayMs, jitter } = backoff;
  const whole = type === 'fixed' ? delayMs : Math.min(delayMs * 2 ** (failures - 1), maxDelayMs);
  return jitter ? whole / 2 : whole;
}

export function nameOf(task: { id: number; key: string }): string {
  return `task ${formatTaskId(task.id)} (${task.key})`;
}

/** What is known of a task, for messages. */
export function describe(task: TaskFacts): string {
  return JSON.stringify({ ...task, holder: task.holder?.name });
}

export function check(holds: boolean, kind: string, message: string): asserts holds {
  if (!holds) throw new Violation(kind, message);
}
