import { EVERYTHING, type Grant } from '../access/grant.ts';
import { KeptShare } from '../access/kept-share.ts';
import { Keyring } from '../access/keyring.ts';
import { Refusals } from '../access/refusals.ts';
import { beyondBound, shareOf } from '../access/share.ts';
import type { RetentionPolicy } from '../core/queue.ts';
import { asStorageError, Engine } from '../engine/engine.ts';
import { MillraceError } from '../errors.ts';
import { AddressCounts } from '../io/address-counts.ts';
import { type Clock, SystemClock, type Timer } from '../io/clock.ts';
import type { Disk } from '../io/disk.ts';
import type { Link } from '../io/net.ts';
import { NodeDisk } from '../io/node-disk.ts';
import { type Random, SystemRandom } from '../io/random.ts';
import type { Durations, Telemetry } from '../io/telemetry.ts';
import type { FsyncPolicy, OpenReport } from '../journal/journal.ts';
import { DEFAULTS, LIMITS, parseRetention } from '../limits.ts';
import { VERSION } from '../version.ts';
import { checkCall, visibleTo } from './call-access.ts';
import { type Call, createMethods, runMethod } from './calls.ts';
import { checkHostOptions } from './host-options.ts';
import { type ProcessUsage, usageOfThisProcess } from './process-usage.ts';
import { ReadingTurns } from './reading-turns.ts';
import { Session, type SessionOwner } from './session.ts';
import { buildStatus } from './status.ts';
import { Supervisors } from './supervisors.ts';

export interface HostOptions {
  /** null: memory only. */
  directory: string | null;
  /** Default `always`. */
  fsync?: FsyncPolicy;
  /** With `interval`; default 100. */
  fsyncIntervalMs?: number;
  segmentBytes?: number;
  cacheBytes?: number;
  connectionsMax?: number;
  /** Of one address, or network of 64 bits of IPv6. Default: as many as there may be. */
  connectionsPerAddressMax?: number | undefined;
  /** Refused connections that may wait for the other side to close. */
  refusedConnectionsMax?: number;
  retention?: Partial<RetentionPolicy>;
  timeoutGraceMs?: number;
  /** How long a task whose worker was lost in its last attempt waits for that one to come back. Default 5,000. */
  lostGraceMs?: number;
  clock?: Clock;
  disk?: Disk;
  random?: Random;
  /** What status says of the process that it runs in. */
  usage?: () => ProcessUsage;
  /** Who may do what. Default: whoever has a link may do everything. */
  keyring?: Keyring;
  /** Storage has failed: nothing is confirmed any more and every connection was told. The process should end. */
  onFailure?: (error: MillraceError) => void;
  /** One line for the log. */
  onNotice?: (level: 'info' | 'warn', message: string) => void;
}

const SWEEP_MS = 1000;

/** An engine with the sessions that use it, whatever their links are: what a server and an embedded client hold. */
export class Host implements SessionOwner, Telemetry {
  readonly engine: Engine;
  readonly report: OpenReport;
  readonly serverVersion = VERSION;
  readonly #options: HostOptions;
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #sessions = new Set<Session>();
  /** Those from within this process, with what they may do. */
  readonly #inside = new Map<Session, Grant>();
  readonly #addresses: AddressCounts;
  /** Of the sessions that are counted for an address: how to end that. */
  readonly #counted = new Map<Session, () => void>();
  readonly #awaiting = new Set<Session>();
  /** Producers over a connection, of whom more than a little waits for the disk. */
  readonly #sendMuch = new Set<Session>();
  /** The links that were refused last, for want of room. */
  readonly #turnedAway: Link[] = [];
  readonly #refused = new Refusals('connection');
  #notAccepted: { count: number; last: Error } | undefined;
  readonly #keyring: Keyring;
  readonly #forgetKeyring: () => void;
  readonly #reading: ReadingTurns;
  readonly #supervisors: Supervisors;
  readonly #producers: KeptShare<string>;
  readonly #logs: KeptShare<number>;
  readonly #methods: ReturnType<typeof createMethods>;
  #sessionCount = 0;
  #sweep: Timer | undefined;
  #stopped: Promise<MillraceError | undefined> | undefined;
  #idle: (() => void) | undefined;

  static async start(options: HostOptions): Promise<Host> {
    checkHostOptions(options);
    const clock = options.clock ?? new SystemClock();
    const random = options.random ?? new SystemRandom();
    let host: Host | undefined;
    const { engine, report } = await Engine.open({
      directory: options.directory,
      fsync: options.fsync ?? 'always',
      fsyncIntervalMs: options.fsyncIntervalMs ?? DEFAULTS.fsyncIntervalMs,
      segmentBytes: options.segmentBytes ?? LIMITS.segmentBytes,
      cacheBytes: options.cacheBytes ?? LIMITS.cacheBytes,
      retention: { ...DEFAULTS.retention, ...parseRetention(options.retention ?? {}) },
      timeoutGraceMs: options.timeoutGraceMs ?? DEFAULTS.timeoutGraceMs,
      lostGraceMs: options.lostGraceMs ?? DEFAULTS.lostGraceMs,
      disk: options.disk ?? new NodeDisk(),
      clock,
      random,
      onDurable: (sequence) => host?.durable(sequence),
      onFailure: (error) => host?.fail(error),
      onNotice: options.onNotice ?? (() => {}),
    });
    host = new Host(options, engine, report, { clock, random });
    return host;
  }

  private constructor(options: HostOptions, engine: Engine, report: OpenReport, io: { clock: Clock; random: Random }) {
    this.#options = options;
    this.#addresses = new AddressCounts(options.connectionsPerAddressMax ?? Number.POSITIVE_INFINITY);
    this.engine = engine;
    this.report = report;
    this.#clock = io.clock;
    this.#random = io.random;
    this.#keyring = options.keyring ?? new Keyring();
    this.#forgetKeyring = this.#keyring.onReplaced(() => this.#revoke());
    this.#reading = new ReadingTurns(io.clock);
    this.#supervisors = new Supervisors(io.clock);
    const { producers } = engine.core;
    this.#producers = new KeptShare<string>({
      countMax: shareOf(LIMITS.producersMax),
      sizeMax: shareOf(LIMITS.rememberedBatchesMax),
      sizeOf: (producer) => producers.batchCountOf(producer),
      total: () => producers.batchCount,
      forget: (producer) => producers.forget(producer),
    });
    this.#logs = new KeptShare<number>({
      countMax: shareOf(LIMITS.taskLogsMax),
      sizeMax: shareOf(LIMITS.taskLogsBytesMax),
      sizeOf: (id) => engine.logs.bytesOf(id),
      total: () => engine.logs.bytes,
      forget: (id) => engine.logs.forget(id),
    });
    this.#methods = createMethods(
      engine,
      {
        worker: (index) => {
          const session = this.#sessionOf(index);
          return session === undefined ? undefined : { id: session.id, name: session.workerName };
        },
        workerIndex: (id) => [...this.#sessions].find((session) => session.id === id)?.worker?.index,
        progress: (id) =>
          [...this.#sessions].map((session) => session.progress(id)).find((value) => value !== undefined),
      },
      this.#supervisors,
      (grant) => this.status(grant),
    );
    this.#scheduleSweep();
  }

  /** Connections from outside this process. */
  get sessionCount(): number {
    return this.#sessions.size - this.#inside.size;
  }

  /** Why nothing is confirmed any more. */
  get failure(): MillraceError | undefined {
    return this.engine.failure;
  }

  /** Takes over a link that has just been made. */
  accept(link: Link): void {
    const { sessionCount } = this;
    const session = this.#open(link);
    if (session === undefined) return;
    try {
      this.#count(session, link, sessionCount);
    } catch (error) {
      if (!(error instanceof MillraceError)) throw error;
      session.refuse(error);
      this.#turnAway(link);
    }
  }

  /** Throws CONNECTION_LIMIT. */
  #count(session: Session, { address }: Link, others: number): void {
    const { connectionsMax = LIMITS.connectionsMax } = this.#options;
    if (others >= connectionsMax) {
      const message = `the server has ${connectionsMax} connections, as many as it may; close some, or raise --connections-max and the limit of open files (ulimit -n)`;
      throw new MillraceError('CONNECTION_LIMIT', message, { details: { bound: connectionsMax } });
    }
    this.#counted.set(session, this.#addresses.enter(address));
  }

  /** Says why to who has a link and no right to it. */
  refuse(link: Link, error: MillraceError): void {
    const session = this.#open(link);
    if (session === undefined) return;
    session.refuse(error);
    this.#turnAway(link);
  }

  /**
   * As `accept`, for a link from within this process: it is no connection, and none takes its room. `grant`: of whom it is for;
   * whoever is in this process has found out who asks him.
   */
  acceptInside(link: Link, grant: Grant = EVERYTHING): void {
    const session = this.#open(link);
    if (session !== undefined) this.#inside.set(session, grant);
  }

  #open(link: Link): Session | undefined {
    const session = new Session(this, link, (++this.#sessionCount).toString(36), this.#random.hex(16));
    this.#sessions.add(session);
    if (this.failure !== undefined) session.refuse(this.failure);
    else if (this.#stopped !== undefined) session.refuse(new MillraceError('STOPPING', 'the server is stopping'));
    else return session;
    return undefined;
  }

  /** The listener could not take one: it has no file for it, or the other side was gone already. */
  notAccepted(error: Error): void {
    this.#notAccepted = { count: (this.#notAccepted?.count ?? 0) + 1, last: error };
  }

  /** It has been told; whoever does not close then must not take the room of others. */
  #turnAway(link: Link): void {
    this.#turnedAway.push(link);
    if (this.#turnedAway.length > (this.#options.refusedConnectionsMax ?? LIMITS.refusedConnectionsMax)) {
      this.#turnedAway.shift()?.destroy();
    }
  }

  durations(): Durations {
    const { stats, journal } = this.engine;
    const { taskStart, taskRun, taskTotal } = stats;
    const fsync = this.#options.directory === null ? undefined : journal.syncDurations;
    return { taskStart, taskRun, taskTotal, fsync };
  }

  /** As whoever has the grant may see it. */
  status(grant: Grant = EVERYTHING): Record<string, unknown> {
    const usage = this.#options.usage ?? usageOfThisProcess;
    return buildStatus({
      engine: this.engine,
      grant,
      sessions: this.#sessions,
      sessionCount: this.sessionCount,
      supervisors: this.#supervisors.list(),
      version: VERSION,
      durability: this.#options.directory === null ? 'memory' : (this.#options.fsync ?? 'always'),
      volatile: this.#options.directory === null,
      process: usage(),
    });
  }

  // ── Sessions ──────────────────────────────────────────────────────────────────────────────────────────────────────

  awaiting(session: Session): void {
    this.#awaiting.add(session);
  }

  /** Who is in this process takes turns with it by himself. */
  hasRead(session: Session, bytes: number): boolean {
    return !this.#inside.has(session) && this.#reading.read(session, bytes);
  }

  sendsMuch(session: Session, much: boolean): void {
    if (much && !this.#inside.has(session)) this.#sendMuch.add(session);
    else this.#sendMuch.delete(session);
  }

  windowOf(session: Session): number {
    if (!this.#sendMuch.has(session)) return LIMITS.unconfirmedBytesPerConnectionMax;
    return Math.max(LIMITS.unconfirmedShareBytesMin, LIMITS.unconfirmedBytesShared / this.#sendMuch.size);
  }

  answered(session: Session): void {
    if (this.#awaiting.delete(session)) this.#checkIdle();
  }

  closed(session: Session): void {
    this.#sessions.delete(session);
    this.#inside.delete(session);
    this.#reading.leave(session);
    this.#counted.get(session)?.();
    this.#counted.delete(session);
    this.#awaiting.delete(session);
    this.#sendMuch.delete(session);
    this.#checkIdle();
  }

  sessionOfLifeline(key: string): Session | undefined {
    for (const session of this.#sessions) if (session.lifelineKey === key) return session;
    return undefined;
  }

  admit(session: Session, token: string | undefined): Grant {
    const inside = this.#inside.get(session);
    if (inside !== undefined) {
      this.#keyring.check(inside);
      return inside;
    }
    const grant = this.#keyring.admit(token);
    if (!grant.ofAllQueues) this.#checkConnections(grant);
    return grant;
  }

  #checkConnections(grant: Grant): void {
    const bound = shareOf(this.#options.connectionsMax ?? LIMITS.connectionsMax);
    const count = this.sumOf(grant, (session) => (this.#inside.has(session) ? 0 : 1));
    if (count < bound) return;
    const message = `these credentials have ${count} connections, as many as those may who may use some queues only; close some, or raise --connections-max and the limit of open files (ulimit -n)`;
    throw new MillraceError('CONNECTION_LIMIT', message, { details: { bound } });
  }

  tookBatch({ grant }: Session, producer: string): void {
    this.#producers.used(grant, producer);
  }

  tookLog({ grant }: Session, id: number): void {
    this.#logs.used(grant, id);
  }

  sumOf({ name }: Grant, of: (session: Session) => number): number {
    let sum = 0;
    for (const session of this.#sessions) if (session.grant.name === name) sum += of(session);
    return sum;
  }

  call(request: Call, grant: Grant): unknown {
    checkCall(grant, this.engine, request);
    return visibleTo(grant, request, runMethod(this.#methods, request, grant));
  }

  /** Ends what was let in by credentials that are gone, or say something else now. */
  #revoke(): void {
    for (const session of this.#sessions) {
      const reason = this.#keyring.revocation(session.grant);
      if (reason !== undefined) session.refuse(reason);
    }
  }

  holder(id: number, token: number): Session | undefined {
    const worker = this.engine.core.holder(id, token);
    return worker === undefined ? undefined : this.#sessionOf(worker.index);
  }

  refused(session: Session, error: MillraceError): void {
    this.#refused.add(session.remote, error);
  }

  durable(sequence: number): void {
    for (const session of this.#awaiting) {
      if (!session.durable(sequence)) this.#awaiting.delete(session);
    }
    this.#checkIdle();
  }

  fail(error: MillraceError): void {
    for (const session of this.#sessions) session.refuse(error);
    this.#options.onFailure?.(error);
  }

  #sessionOf(workerIndex: number): Session | undefined {
    for (const session of this.#sessions) if (session.worker?.index === workerIndex) return session;
    return undefined;
  }

  /** Looks once a second for those who say nothing, or too slowly, or do not read. */
  #scheduleSweep(): void {
    this.#sweep = this.#clock.setTimer(SWEEP_MS, () => {
      const nowMs = this.#clock.steadyMs();
      for (const session of this.#sessions) this.#examine(session, nowMs);
      this.#boundSum(LIMITS.unsentBytesMax, 'unsentBytes', 'all clients together leave unread');
      this.#boundSum(
        LIMITS.unfinishedFrameBytesMax,
        'unfinishedFrameBytes',
        'all clients together have begun frames of',
      );
      this.#reportRefused();
      this.#scheduleSweep();
    });
    this.#sweep.unref();
  }

  /** A line a second for each reason. */
  #reportRefused(): void {
    const notAccepted = this.#notAccepted;
    for (const line of this.#refused.report()) this.#options.onNotice?.('warn', line);
    if (notAccepted !== undefined) {
      const message = `${notAccepted.count} connections could not be accepted: ${notAccepted.last.message}`;
      this.#options.onNotice?.('warn', message);
    }
    this.#notAccepted = undefined;
  }

  #examine(session: Session, nowMs: number): void {
    if (session.hello === undefined && nowMs - session.openedAtMs > LIMITS.handshakeTimeoutMs) {
      const bound = LIMITS.handshakeTimeoutMs;
      const message = `no HELLO came within ${bound} ms: whoever connects says it first, and at once`;
      session.refuse(new MillraceError('HANDSHAKE_TIMEOUT', message, { details: { bound } }));
    } else if (session.frameBeganMs > 0 && nowMs - session.frameBeganMs > LIMITS.frameTimeoutMs) {
      const bound = LIMITS.frameTimeoutMs;
      const message = `a frame that was begun was not whole after ${bound} ms: ${session.unfinishedFrameBytes} bytes of it came; send smaller ones over a slow line`;
      session.refuse(new MillraceError('TOO_SLOW', message, { details: { bound } }));
    } else if (session.bufferedBytes > LIMITS.sendBufferBytesEvict) {
      session.refuse(tooSlow(session.bufferedBytes, LIMITS.sendBufferBytesEvict, 'has left'));
    } else if (this.#keptBytes(session) > LIMITS.keptForResultsBytesMax) {
      const kept = this.#keptBytes(session);
      session.refuse(tooSlow(kept, LIMITS.keptForResultsBytesMax, 'leaves results of which the journal keeps'));
    } else session.look();
  }

  /** Of the journal, for what the client has asked for and does not read. */
  #keptBytes(session: Session): number {
    const segments = this.engine.journal.lastSegment - session.oldestSegment;
    return Math.max(0, segments) * (this.#options.segmentBytes ?? LIMITS.segmentBytes);
  }

  /** Cuts off those that hold the most until the others fit; before them, of who may use some queues only what is beyond his share. */
  #boundSum(bytesMax: number, what: 'unsentBytes' | 'unfinishedFrameBytes', message: string): void {
    const { sum, largest } = beyondBound(this.#sessions, bytesMax, (session) => session[what]);
    let rest = sum;
    for (const session of largest) {
      const bytes = session[what];
      session.refuse(
        new MillraceError(
          'TOO_SLOW',
          `${message} ${rest} bytes, at most ${bytesMax} are allowed; this one, with ${bytes}, is cut off and may come back`,
          { details: { bytes, sum: rest, bound: bytesMax } },
        ),
      );
      rest -= bytes;
    }
  }

  // ── Stopping ──────────────────────────────────────────────────────────────────────────────────────────────────────

  /**
   * No more deliveries; waits up to `timeoutMs` for what runs, hands the rest back uncharged, closes everything. Always
   * resolves, soon after that: with the reason when the disk did not take everything.
   */
  stop({ timeoutMs }: { timeoutMs: number }): Promise<MillraceError | undefined> {
    this.#stopped ??= this.#stop(timeoutMs);
    return this.#stopped;
  }

  async #stop(timeoutMs: number): Promise<MillraceError | undefined> {
    this.engine.stop();
    for (const session of this.#sessions) session.goAway('the server is stopping');
    await new Promise<void>((resolve) => {
      const timer = this.#clock.setTimer(timeoutMs, resolve);
      this.#idle = () => {
        timer.cancel();
        resolve();
      };
      this.#clock.defer(() => this.#checkIdle());
    });
    this.#idle = undefined;
    this.#sweep?.cancel();
    this.#forgetKeyring();
    this.#reportRefused();
    for (const session of this.#sessions) session.end();
    return await this.engine.close().then(() => undefined, asStorageError);
  }

  /** Nothing runs any more and every answer is sent. */
  #checkIdle(): void {
    if (this.#idle === undefined) return;
    for (const { worker } of this.#sessions) if (worker !== undefined && worker.held > 0) return;
    if (this.#awaiting.size === 0) this.#idle();
  }
}

function tooSlow(bytes: number, bound: number, what: string): MillraceError {
  const message = `the client ${what} ${bytes} bytes unread, at most ${bound} may be: it is cut off, and may come back when it reads`;
  return new MillraceError('TOO_SLOW', message, { details: { bytes, bound } });
}
