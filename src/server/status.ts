import type { Grant } from '../access/grant.ts';
import type { Queue } from '../core/queue.ts';
import { PRIORITY_COUNT } from '../core/ready-lists.ts';
import { NONE } from '../core/task-table.ts';
import type { Engine } from '../engine/engine.ts';
import { NO_LIMITS } from '../limits.ts';
import type { Session } from './session.ts';

export interface StatusParts {
  engine: Engine;
  /** Of whoever asks: what he may not see costs nothing. */
  grant: Grant;
  sessions: Iterable<Session>;
  sessionCount: number;
  supervisors: readonly object[];
  version: string;
  durability: string;
  volatile: boolean;
  process: { pid: number; rssBytes: number; heapBytes: number };
}

/** The contract's Status. */
export function buildStatus(parts: StatusParts): Record<string, unknown> {
  const { engine } = parts;
  const steadyMs = engine.clock.steadyMs();
  const { rssBytes, heapBytes, pid } = parts.process;
  return {
    server: {
      version: parts.version,
      pid,
      startedAtMs: Math.round(engine.startedAtMs),
      uptimeMs: Math.round(steadyMs - engine.startedAtMs),
      durability: parts.durability,
      connections: parts.sessionCount,
      stopping: engine.stopping,
    },
    queues: [...engine.core.queues.values()]
      .filter(({ name }) => parts.grant.covers(name))
      .map((queue) => describeQueue(engine, queue, steadyMs)),
    workers: [...parts.sessions].flatMap((session) => describeWorker(engine, session, steadyMs)),
    supervisors: parts.supervisors,
    throughput: engine.stats.throughput(),
    latencyMs: { start: engine.stats.start.percentiles(), total: engine.stats.total.percentiles() },
    journal: parts.volatile ? null : journalStatus(engine),
    memory: { rssBytes, heapBytes },
  };
}

function journalStatus(engine: Engine): Record<string, number> {
  const { segments, bytes, syncs, appendedBytes } = engine.journal.stats();
  return { segments, bytes, syncs, appendedBytes };
}

function describeQueue(engine: Engine, queue: Queue, steadyMs: number): Record<string, unknown> {
  let oldestMs = 0;
  for (const lists of queue.readyLists()) {
    if (lists.occupied === 0) continue;
    for (let priority = 0; priority < PRIORITY_COUNT; priority++) {
      const head = lists.head(priority);
      if (head !== NONE) oldestMs = Math.max(oldestMs, steadyMs - engine.core.table.enqueuedAtMs(head));
    }
  }
  const { name, paused, ready, active, scheduled, blocked, totals, retention, cancelledKept, endedCount } = queue;
  return {
    name,
    paused,
    ready,
    active,
    scheduled,
    blocked,
    completed: endedCount.finished - cancelledKept,
    dead: endedCount.dead,
    cancelled: cancelledKept,
    oldestReadyMs: Math.round(oldestMs),
    totals: { ...totals },
    retention: { ...retention },
    limits: queue.limits ?? NO_LIMITS,
    ...(ready === 0 ? {} : heldUpBy(queue, steadyMs)),
  };
}

function heldUpBy(queue: Queue, steadyMs: number): { heldUpBy?: 'paused' | 'concurrency' | 'rate' } {
  const { paused, limits, bucket, active } = queue;
  if (paused) return { heldUpBy: 'paused' };
  if (limits?.concurrency != null && active >= limits.concurrency) return { heldUpBy: 'concurrency' };
  return bucket !== undefined && bucket.available(steadyMs) === 0 ? { heldUpBy: 'rate' } : {};
}

function describeWorker(engine: Engine, session: Session, steadyMs: number): Record<string, unknown>[] {
  const { worker, hello } = session;
  if (worker === undefined || hello === undefined) return [];
  return [
    {
      id: session.id,
      name: session.workerName,
      host: hello.host,
      pid: hello.pid,
      queues: worker.queues.map((queue) => queue.name),
      concurrency: worker.concurrency,
      prefetch: worker.prefetch,
      held: worker.held,
      running: worker.busy,
      utilisation: engine.stats.utilisation(worker, steadyMs),
      completed: worker.completed,
      failed: worker.failed,
      connectedAtMs: Math.round(session.openedAtMs),
      ...(hello.version === undefined ? {} : { version: hello.version }),
      lastSeenMs: Math.round(steadyMs - session.heardMs),
    },
  ];
}
