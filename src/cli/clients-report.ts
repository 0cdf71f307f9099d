import type { Percentiles } from '../broker/contract.ts';
import { formatBytes, formatCount, formatDuration, formatPercentiles, formatRate, plural } from './units.ts';

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
  /** Producers whose call failed, by code. */
  errors: Record<string, number>;
}

export function describeReport(report: ClientsReport): string[] {
  const { clients, tasks, batch, payloadBytes, queue, acknowledged, elapsedMs, perSecond, confirmMs, errors } = report;
  const failures = Object.entries(errors).map(([code, calls]) => `${plural(calls, 'producer')} with ${code}`);
  return [
    `Producers     ${plural(clients, 'client')}, ${plural(tasks, 'task')} each, ${formatCount(batch)} a call, ${formatBytes(payloadBytes)} of payload each, queue ${queue}`,
    `Acknowledged  ${formatCount(acknowledged)} of ${formatCount(clients * tasks)} in ${formatDuration(elapsedMs)}`,
    `Throughput    ${formatRate(perSecond)}`,
    ...(confirmMs.count === 0
      ? []
      : [`Confirmation  ${formatPercentiles(confirmMs)} (${plural(confirmMs.count, 'call')})`]),
    ...(failures.length === 0 ? [] : [`Ended early   ${failures.join(', ')}`]),
  ];
}
