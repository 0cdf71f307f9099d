import { isUtf8 } from 'node:buffer';
import type { DeliveryRun } from '../broker/contract.ts';
import type { Lease } from './lease.ts';

/** The answer to a request for tasks. Payloads that are JSON stand in it as they are: numbers keep all their digits. */
export function leasesText(leases: readonly Lease[]): string {
  return `{"leases":[${leases.map(leaseText).join(',')}]}`;
}

function leaseText(lease: Lease): string {
  const { run, index } = lease;
  const { spec, attempt, enqueuedAtMs } = run;
  const head = JSON.stringify({
    lease: lease.id,
    id: run.id(index),
    queue: spec.queue,
    name: spec.name,
    attempt,
    maxAttempts: spec.maxAttempts,
    headers: run.headers(index),
    enqueuedAtMs: Math.round(enqueuedAtMs),
    leaseEndsAtMs: lease.wallMs(lease.endsAtMs),
    timesOutAtMs: lease.wallMs(lease.timesOutAtMs),
  });
  return `${head.slice(0, -1)},${payloadText(run, index)}}`;
}

function payloadText(run: DeliveryRun, index: number): string {
  const bytes = run.bytes(index);
  if (isUtf8(bytes)) {
    const text = run.text(index);
    if (isJson(text)) return `"payload":${text}`;
  }
  return `"payloadBase64":"${Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('base64')}"`;
}

function isJson(text: string): boolean {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}
