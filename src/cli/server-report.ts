import type { Percentiles, QueueStatus, Status, WorkerStatus } from '../broker/contract.ts';
import type { OpenReport } from '../journal/journal.ts';
import {
  formatBytes,
  formatCount,
  formatDuration,
  formatPercentiles,
  formatRate,
  formatShare,
  plural,
} from './units.ts';

/** What the server says of itself in its log, in single lines. */
const STATES = ['ready', 'active', 'scheduled', 'blocked', 'completed', 'dead', 'cancelled'] as const;
const WAITING = ['ready', 'active', 'scheduled', 'blocked', 'dead'] as const;
const NAMED_MAX = 4;

export function describeJournal(report: OpenReport): string {
  if (report.segments === 0) return 'the journal is new';
  const ending = report.cleanlyClosed ? '' : ', after a run that did not end in order';
  const { recordCount, segments, ms } = report;
  return `replayed ${plural(recordCount, 'record')} of ${plural(segments, 'segment')} in ${formatDuration(ms)}${ending}`;
}

/** Undefined when nothing was cut off. */
export function describeTorn({ tornBytes, torn }: OpenReport): string | undefined {
  if (torn === undefined) return undefined;
  return (
    `cut off a torn tail of ${formatBytes(tornBytes)} in ${torn.file} at offset ${torn.offset}: ` +
    'it was being written when the last run ended, and had not been confirmed'
  );
}

export function describeFound(queues: readonly QueueStatus[]): string {
  const counts = WAITING.map((state) => ({ state, count: sum(queues, state) })).filter(({ count }) => count > 0);
  if (counts.length === 0) return 'no tasks are waiting';
  const states = counts.map(({ state, count }) => `${formatCount(count)} ${state}`).join(', ');
  return `found ${states} in ${plural(queues.length, 'queue')}`;
}

/** Two lines with the same key would say the same: nothing moved. */
export function trafficKey({ queues, workers }: Status): string {
  return JSON.stringify([
    queues.map((queue) => [queue.name, queue.paused, queue.totals, STATES.map((state) => queue[state])]),
    workers.map(({ id, running, held }) => [id, running, held]),
  ]);
}

export function describeTraffic({ throughput, latencyMs, queues, workers }: Status): string {
  const { enqueued, completed, failed } = throughput;
  return [
    `in ${formatRate(enqueued)}, out ${formatRate(completed)}, failed ${formatRate(failed)}`,
    ...describeLatency('start', latencyMs.start),
    ...describeLatency('total', latencyMs.total),
    describeQueues(queues),
    describeWorkers(workers),
  ].join(' | ');
}

function describeLatency(name: string, percentiles: Percentiles): string[] {
  return percentiles.count === 0 ? [] : [`${name} ${formatPercentiles(percentiles)}`];
}

/** Each by name while they are few, else all together. */
function describeQueues(queues: readonly QueueStatus[]): string {
  if (queues.length === 0) return 'no queues';
  if (queues.length <= NAMED_MAX) {
    return queues
      .map((queue) => `${queue.name}${queue.paused ? ' (paused)' : ''}: ${describeSizes([queue])}`)
      .join(' | ');
  }
  return `${plural(queues.length, 'queue')}: ${describeSizes(queues)}`;
}

function describeSizes(queues: readonly QueueStatus[]): string {
  const sizes = STATES.flatMap((state) => {
    const count = sum(queues, state);
    return count === 0 ? [] : [`${formatCount(count)} ${state}`];
  });
  return sizes.length === 0 ? 'empty' : sizes.join(', ');
}

function describeWorkers(workers: readonly WorkerStatus[]): string {
  if (workers.length === 0) return 'no workers';
  const named = workers.slice(0, NAMED_MAX).map(({ name, utilisation }) => `${name} ${formatShare(utilisation)}`);
  const others = workers.slice(NAMED_MAX);
  if (others.length > 0) {
    const mean = others.reduce((total, { utilisation }) => total + utilisation, 0) / others.length;
    named.push(`${others.length} more ${formatShare(mean)} each`);
  }
  return `busy: ${named.join(', ')}`;
}

export function sum(queues: readonly QueueStatus[], state: (typeof STATES)[number]): number {
  return queues.reduce((total, queue) => total + queue[state], 0);
}
