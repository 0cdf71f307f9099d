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
  for (const { name, dead } of deadest) {
    found.push({
      text: `${plural(dead, 'dead task')} in ${name}.`,
      to: href('dead', { queue: name }),
      link: 'See why',
    });
  }
  return found;
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
