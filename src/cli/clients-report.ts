import type { Percentiles } from '../broker/contract.ts';
import { formatBytes, formatCount, formatDuration, formatRate, plural } from './units.ts';

export interface ClientsReport {
  clients: number;
  /** Of each client. */
  tasks: number;
  batch: number;
  payloadBytes: number;
  queue: string;
  acknowledged: number;
  notAcknowledged: number;
  elapsedMs: number;
  /** Acknowledged tasks. */
  perSecond: number;
  /** From a call to its confirmation. */
  confirmMs: Percentiles;
  /** Calls that failed, by code. */
  errors: Record<string, number>;
}

export function describeReport(report: ClientsReport): string[] {
  const { clients, tasks, batch, payloadBytes, queue, acknowledged, elapsedMs, perSecond, confirmMs, errors } = report;
  const { p50, p95, p99, count } = confirmMs;
  const failures = Object.entries(errors).map(([code, calls]) => `${code} ${plural(calls, 'time')}`);
  return [
    `Producers     ${plural(clients, 'client')}, ${plural(tasks, 'task')} each, ${formatCount(batch)} a call, ${formatBytes(payloadBytes)} of payload each, queue ${queue}`,
    `Acknowledged  ${formatCount(acknowledged)} of ${formatCount(clients * tasks)} in ${formatDuration(elapsedMs)}`,
    `Throughput    ${formatRate(perSecond)}`,
    ...(count === 0
      ? []
      : [
          `Confirmation  p50 ${formatDuration(p50)}, p95 ${formatDuration(p95)}, p99 ${formatDuration(p99)} (${plural(count, 'call')})`,
        ]),
    ...(failures.length === 0 ? [] : [`Failed calls  ${failures.join(', ')}`]),
  ];
}
