import type { TaskSpec } from '../../src/broker/contract.ts';

/**
 * What must be true of each task, from what the server has said and was told: frames as they pass its end of each link.
 * It knows nothing of how the server keeps its tasks. The checkers compare; this only remembers.
 */
export type End = 'completed' | 'dead' | 'cancelled';

export interface TaskFacts {
  readonly id: number;
  readonly key: string;
  readonly spec: TaskSpec;
  /** Ready from the moment when it was enqueued. */
  readonly plain: boolean;
  /** The server has said that it has it; from then on it must not vanish. */
  confirmed: boolean;
  /** When that was; Infinity before. */
  confirmedStep: number;
  /** It was on nobody's disk when the server crashed. */
  vanished: boolean;
  deliveries: number;
  /** Of its newest lease, 0 before the first. */
  token: number;
  /** Who may settle it under that token. */
  holder: SessionFacts | undefined;
  /** Failed attempts are at least and at most so many, … */
  attemptsMin: number;
  attemptsMax: number;
  /** … and at least so many after a crash. */
  attemptsDurable: number;
  /** The server has said that it ended like this. */
  end: End | undefined;
  /** Somebody has tried to end it, or to remove it, and nobody knows yet whether that was taken. */
  mayHaveEnded: boolean;
  /** A worker has said that it is done. */
  mayHaveCompleted: boolean;
  mayBePurged: boolean;
  cancelAsked: boolean;
  /** Somebody has asked for it to be retried: from then on it may run again, without delay, and out of order. */
  revived: boolean;
  /** It must not be delivered before, by the server's steady clock … */
  notBeforeMs: number;
  /** The same after a crash, which takes what was not on disk. */
  notBeforeDurableMs: number;
  /** … and by its wall clock. */
  notBeforeWallMs: number;
}

/** A task as its client has sent it; it may get an id several times if crashes take the first ones. */
export interface Submission {
  readonly key: string;
  readonly spec: TaskSpec;
  readonly when: { kind: 'now' | 'delay' | 'at'; ms: number };
  /** The server's steady time when it came first. */
  firstReceivedMs: number;
  readonly ids: number[];
  mayBePurged: boolean;
  cancelAsked: boolean;
  /** What it depends on. */
  parents: readonly SubmittedParent[];
}

/** One that came with it is known by its key before it has an id. */
export interface SubmittedParent {
  readonly key: string | undefined;
  readonly id: number | undefined;
  readonly onFailure: string;
}

export interface SettleEntry {
  readonly id: number;
  readonly token: number;
  /** The lease was valid when it came. */
  readonly valid: boolean;
  readonly final: boolean;
  /** Failed attempts of its task, this one included. */
  readonly attempt: number;
}

export interface PendingSettlement {
  readonly kind: 'complete' | 'fail' | 'release';
  readonly entries: readonly SettleEntry[];
}

/** One connection, seen from the server. */
export interface SessionFacts {
  readonly name: string;
  readonly held: Set<number>;
  readonly batches: Map<number, readonly string[]>;
  readonly settlements: Map<number, PendingSettlement>;
  readonly calls: Map<number, { method: string; params: Record<string, unknown> }>;
  /** Tasks that had not ended when it began to wait for them; when it was seen that one had, since then. */
  readonly watched: Map<number, number | undefined>;
  closed: boolean;
}

export class Model {
  readonly tasks = new Map<number, TaskFacts>();
  readonly submissions = new Map<string, Submission>();
  /** Of the running server life. */
  readonly sessions = new Set<SessionFacts>();
  readonly #purgedStep = new Map<string, number>();
  readonly #cancelledStep = new Map<string, number>();

  task(id: number): TaskFacts | undefined {
    return this.tasks.get(id);
  }

  /** All that a parent may be; more than one when crashes took the first. */
  parentsNamed({ key, id }: SubmittedParent): TaskFacts[] {
    const ids = id === undefined ? (this.submissions.get(key ?? '')?.ids ?? []) : [id];
    return ids.flatMap((each) => this.tasks.get(each) ?? []);
  }

  /** It may have ended by itself, or because of what it depends on. */
  mayBeOver(key: string): boolean {
    const submission = this.submissions.get(key);
    if (submission === undefined) return false;
    if (submission.mayBePurged) return true;
    for (const id of submission.ids) {
      const task = this.tasks.get(id) as TaskFacts;
      if (task.mayHaveEnded || task.mayBePurged || task.end !== undefined) return true;
    }
    return submission.parents.some((parent) => {
      const parentKey = parent.key ?? this.tasks.get(parent.id ?? -1)?.key;
      return parentKey === undefined || this.mayBeOver(parentKey);
    });
  }

  openSession(name: string): SessionFacts {
    const session: SessionFacts = {
      name,
      held: new Set(),
      batches: new Map(),
      settlements: new Map(),
      calls: new Map(),
      watched: new Map(),
      closed: false,
    };
    this.sessions.add(session);
    return session;
  }

  /** What it held may be charged with an attempt, or not. */
  closeSession(session: SessionFacts): void {
    if (session.closed) return;
    session.closed = true;
    this.sessions.delete(session);
    for (const id of session.held) {
      const task = this.tasks.get(id);
      if (task === undefined || task.holder !== session) continue;
      task.holder = undefined;
      task.attemptsMax++;
      task.mayHaveEnded ||= task.attemptsMax >= task.spec.maxAttempts || task.cancelAsked;
    }
    session.held.clear();
  }

  /** Waiting tasks of the queue go, also those of whose ids nobody has heard, and those that come with it. */
  purge(queue: string, step: number): void {
    this.#purgedStep.set(queue, step);
    for (const task of this.tasks.values()) task.mayBePurged ||= task.spec.queue === queue;
    for (const submission of this.submissions.values()) submission.mayBePurged ||= submission.spec.queue === queue;
  }

  cancel(task: TaskFacts): void {
    task.mayHaveEnded = true;
    task.cancelAsked = true;
  }

  /** As a purge; and those that run are asked to end. */
  cancelAll(queue: string, step: number): void {
    this.purge(queue, step);
    this.#cancelledStep.set(queue, step);
    for (const task of this.tasks.values()) if (task.spec.queue === queue) this.cancel(task);
    for (const submission of this.submissions.values()) submission.cancelAsked ||= submission.spec.queue === queue;
  }

  /** Also one that nobody knows by more than its id. */
  mayBePurged(id: number, queue: string): boolean {
    return this.tasks.get(id)?.mayBePurged ?? this.#purgedStep.has(queue);
  }

  submit(key: string, spec: TaskSpec, when: Submission['when'], steadyMs: number, step: number): Submission {
    let submission = this.submissions.get(key);
    if (submission === undefined) {
      submission = {
        key,
        spec,
        when,
        firstReceivedMs: steadyMs,
        ids: [],
        mayBePurged: false,
        cancelAsked: false,
        parents: [],
      };
      this.submissions.set(key, submission);
    }
    // A call is made when everything that came with it has been read.
    submission.mayBePurged ||= this.#purgedStep.get(spec.queue) === step;
    submission.cancelAsked ||= this.#cancelledStep.get(spec.queue) === step;
    return submission;
  }

  /** The task that has this id, known by its key from a confirmation or a delivery. */
  identify(id: number, submission: Submission): TaskFacts {
    const { key, spec, when, firstReceivedMs } = submission;
    submission.ids.push(id);
    const task: TaskFacts = {
      id,
      key,
      spec,
      plain: when.kind === 'now' && submission.parents.length === 0 && spec.concurrencyKey === undefined,
      confirmed: false,
      confirmedStep: Number.POSITIVE_INFINITY,
      vanished: false,
      deliveries: 0,
      token: 0,
      holder: undefined,
      attemptsMin: 0,
      attemptsMax: 0,
      attemptsDurable: 0,
      end: undefined,
      mayHaveEnded: submission.cancelAsked,
      mayHaveCompleted: false,
      mayBePurged: submission.mayBePurged,
      cancelAsked: submission.cancelAsked,
      revived: false,
      notBeforeMs: when.kind === 'delay' ? firstReceivedMs + when.ms : 0,
      notBeforeDurableMs: when.kind === 'delay' ? firstReceivedMs + when.ms : 0,
      notBeforeWallMs: when.kind === 'at' ? when.ms : 0,
    };
    this.tasks.set(id, task);
    return task;
  }

  delivered(task: TaskFacts, session: SessionFacts, token: number, attempt: number): void {
    this.leased(task, session, token);
    task.deliveries++;
    // It was due once; a clock that is set back, and a server that begins anew with it, do not take that back.
    task.notBeforeMs = 0;
    task.notBeforeDurableMs = 0;
    task.notBeforeWallMs = 0;
    task.attemptsMin = attempt - 1;
    task.attemptsMax = attempt - 1;
  }

  /** A worker that came back keeps it; a loss that was counted is taken back. */
  kept(task: TaskFacts, session: SessionFacts, token: number): void {
    this.leased(task, session, token);
    task.attemptsMin = Math.max(0, task.attemptsMin - 1);
    task.attemptsDurable = Math.max(0, task.attemptsDurable - 1);
  }

  leased(task: TaskFacts, session: SessionFacts, token: number): void {
    task.holder?.held.delete(task.id);
    task.token = token;
    task.holder = session;
    session.held.add(task.id);
  }

  /** The lease is over; what that leads to is not certain before the answer. */
  settleReceived(task: TaskFacts, kind: PendingSettlement['kind'], final: boolean, notBeforeMs: number): void {
    task.holder?.held.delete(task.id);
    task.holder = undefined;
    if (kind === 'complete') {
      task.mayHaveEnded = true;
      task.mayHaveCompleted = true;
    }
    if (kind !== 'fail') return;
    task.attemptsMax++;
    task.attemptsMin++;
    // A retry that was asked for may come now, or have come before.
    if (!task.revived) task.notBeforeMs = notBeforeMs;
    task.mayHaveEnded ||= final || task.attemptsMax >= task.spec.maxAttempts || task.cancelAsked;
  }

  /** `attempt`: how many had failed with this one. */
  settleConfirmed(task: TaskFacts, kind: PendingSettlement['kind'], final: boolean, attempt: number): void {
    if (kind === 'complete') task.end = 'completed';
    if (kind !== 'fail' || task.revived) return;
    task.attemptsDurable = Math.max(task.attemptsDurable, attempt);
    task.notBeforeDurableMs = task.notBeforeMs;
    if (final || attempt >= task.spec.maxAttempts) task.end = task.cancelAsked ? undefined : 'dead';
  }

  /** It ran longer than it may. */
  expired(task: TaskFacts, session: SessionFacts): void {
    session.held.delete(task.id);
    task.holder = undefined;
    task.attemptsMax++;
    task.mayHaveEnded ||= task.attemptsMax >= task.spec.maxAttempts || task.cancelAsked;
  }

  /** Someone asks for a dead task to run again, or for a scheduled one to run now. */
  revive(task: TaskFacts): void {
    task.revived = true;
    task.attemptsMin = 0;
    task.attemptsDurable = 0;
    task.notBeforeMs = 0;
    task.notBeforeDurableMs = 0;
    task.notBeforeWallMs = 0;
    if (task.end === 'dead') task.end = undefined;
  }

  /** The server's process is over, and with it all leases. */
  serverEnded(): void {
    for (const session of [...this.sessions]) this.closeSession(session);
  }

  /** A new one has read what was on disk: from now on that is what counts. */
  recovered(task: TaskFacts, attempts: number): void {
    task.confirmed = true;
    // A failure that went with the crash delays nothing.
    task.notBeforeMs = task.notBeforeDurableMs;
    task.attemptsMin = attempts;
    task.attemptsMax = attempts;
    task.attemptsDurable = attempts;
  }
}
