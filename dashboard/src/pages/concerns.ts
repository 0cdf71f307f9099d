import type { QueueStatus, Status } from '../api/types.ts';
import { count, duration, plural } from '../format.ts';
import { href } from '../route.ts';

/** Something that a person on call would want to know of first. */
export interface Concern {
  text: string;
  to: string;
  link: string;
}

const WAIT_MS = 60_000;

/** The worst first: what stands still, then what waits long, then what has died. */
export function concerns({ server, queues, workers }: Status): Concern[] {
  const served = new Set(workers.flatMap((worker) => worker.queues));
  const found: Concern[] = [];
  if (server.stopping) found.push({ text: 'The server is stopping.', to: '#/workers', link: 'Workers' });
  const waiting = [...queues].sort((one, other) => other.oldestReadyMs - one.oldestReadyMs);
  for (const queue of waiting) {
    const text = standstill(queue, served) ?? longWait(queue);
    if (text !== undefined) found.push({ text, to: href('queues', { filter: queue.name }), link: 'See the queue' });
  }
  const deadest = queues.filter(({ dead }) => dead > 0).sort((one, other) => other.dead - one.dead);
  if (deadest.length > 0) found.push(deaths(deadest));
  return found;
}

const DEAD_QUEUES_NAMED_MAX = 3;

function deaths(deadest: readonly QueueStatus[]): Concern {
  const all = deadest.reduce((sum, { dead }) => sum + dead, 0);
  const named = deadest.slice(0, DEAD_QUEUES_NAMED_MAX).map(({ name, dead }) => `${count(dead)} in ${name}`);
  const more = deadest.length > named.length ? ', …' : '';
  const [only] = deadest;
  const text =
    deadest.length === 1
      ? `${plural(all, 'dead task')} in ${only?.name}.`
      : `${plural(all, 'dead task')}: ${named.join(', ')}${more}.`;
  return { text, to: href('dead', { queue: deadest.length === 1 ? only?.name : undefined }), link: 'See why' };
}

function standstill({ name, paused, ready }: QueueStatus, served: ReadonlySet<string>): string | undefined {
  if (paused) return `${name} is paused, ${count(ready)} ready.`;
  if (ready > 0 && !served.has(name)) return `No worker takes from ${name}, ${count(ready)} ready.`;
  return undefined;
}

function longWait({ name, ready, oldestReadyMs, heldUpBy }: QueueStatus): string | undefined {
  if (ready === 0 || oldestReadyMs < WAIT_MS) return undefined;
  const why = heldUpBy === 'rate' ? ', at its rate limit' : heldUpBy === 'concurrency' ? ', at its concurrency' : '';
  return `The oldest task in ${name} has waited ${duration(oldestReadyMs)}${why}.`;
}
