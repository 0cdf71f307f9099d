import { jsonOrBase64 } from './json-text.ts';
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
  return `${head.slice(0, -1)},${jsonOrBase64('payload', run.bytes(index))}}`;
}
