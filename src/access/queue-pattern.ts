import { MillraceError } from '../errors.ts';
import { LIMITS } from '../limits.ts';

/** Which queues are meant: `*` stands for any characters, also none; everything else for itself. */
export interface QueuePattern {
  /** As it was written. */
  readonly text: string;
  matches(queue: string): boolean;
}

export const ALL_QUEUES = '*';

/** Throws INVALID_ARGUMENT that begins with `where`. */
export function parseQueuePattern(text: string, where: string): QueuePattern {
  const bytes = Buffer.byteLength(text);
  if (bytes > LIMITS.queueNameBytesMax) {
    const message = `${where}: a queue pattern has ${bytes} bytes; at most ${LIMITS.queueNameBytesMax} are allowed, as a queue's name has`;
    throw new MillraceError('INVALID_ARGUMENT', message);
  }
  const parts = text.split('*');
  return { text, matches: parts.length === 1 ? (queue) => queue === text : (queue) => fits(queue, parts) };
}

/** Taking each part at the first place where it stands leaves the most for those after it, so nothing is tried twice. */
function fits(queue: string, parts: readonly string[]): boolean {
  const first = parts[0] as string;
  const last = parts.at(-1) as string;
  if (queue.length < first.length + last.length || !queue.startsWith(first) || !queue.endsWith(last)) return false;
  const end = queue.length - last.length;
  let at = first.length;
  for (const part of parts.slice(1, -1)) {
    const found = queue.indexOf(part, at);
    if (found === -1 || found + part.length > end) return false;
    at = found + part.length;
  }
  return true;
}
