import { readBook } from './book.ts';
import { DELAY_MS, FLOW_TASKS, MANNERS, type Manner } from './manners.ts';

/** The connections of this worker were cut, or it was killed: what it held may run again. */
export interface Disturbance {
  readonly worker: string;
  readonly atMs: number;
}

export interface Books {
  readonly producerBooks: readonly string[];
  /** By the name of the worker. */
  readonly workerBooks: Readonly<Record<string, string>>;
  readonly disturbances: readonly Disturbance[];
}

export interface Verdict {
  readonly counts: Readonly<Record<string, number>>;
  readonly problems: readonly string[];
  /** Of tasks that are ready at once: when a handler began, and how long after the call of `enqueue`. */
  readonly starts: readonly { readonly atMs: number; readonly latencyMs: number }[];
}

interface Start {
  readonly worker: string;
  readonly attempt: number;
  readonly atMs: number;
}

/** All that is known of one task. */
interface Entry {
  readonly manner: Manner;
  readonly attemptedMs: number;
  isAcknowledged: boolean;
  isRefused: boolean;
  /** What the answer to a cancel said. */
  cancel: string | undefined;
  result: string | undefined;
  readonly starts: Start[];
  readonly endsMs: number[];
}

/** Every acknowledged task ended as one of its kind does, as often as it should; nothing ran again without a reason. */
export async function check(books: Books): Promise<Verdict> {
  const problems: string[] = [];
  const entries = new Map<string, Entry>();
  for (const path of books.producerBooks) await readBook(path, (words) => noteProducer(entries, words, problems));
  const starts: { atMs: number; latencyMs: number }[] = [];
  for (const [worker, path] of Object.entries(books.workerBooks)) {
    await readBook(path, (words) => noteWorker(entries, worker, words, { problems, starts }));
  }
  const counts = {
    attempted: entries.size,
    acknowledged: 0,
    completed: 0,
    dead: 0,
    cancelled: 0,
    lost: 0,
    runs: 0,
    again: 0,
  };
  for (const [key, entry] of entries) {
    if (entry.isAcknowledged) counts.acknowledged++;
    counts.runs += entry.starts.length;
    checkOutcome(key, entry, counts, problems);
    counts.again += checkRuns(key, entry, books.disturbances, problems);
    checkOrder(key, entry, entries, problems);
  }
  return { counts, problems, starts: starts.sort((a, b) => a.atMs - b.atMs) };
}

function noteProducer(entries: Map<string, Entry>, [kind, key = '', ...rest]: string[], problems: string[]): void {
  if (kind === 'a') {
    const about = { isAcknowledged: false, isRefused: false, cancel: undefined, result: undefined };
    entries.set(key, { manner: rest[0] as Manner, attemptedMs: Number(rest[1]), ...about, starts: [], endsMs: [] });
    return;
  }
  const entry = entries.get(key) as Entry;
  if (kind === 'k') entry.isAcknowledged = true;
  else if (kind === 'c') entry.cancel = rest[0];
  else if (kind === 'r') entry.result = rest[0];
  else if (kind === 'n') {
    entry.isRefused = true;
    problems.push(`the enqueue of ${key} was refused: ${rest.join(' ')}`);
  }
}

function noteWorker(
  entries: Map<string, Entry>,
  worker: string,
  [kind, key = '', ...rest]: string[],
  { problems, starts }: { problems: string[]; starts: { atMs: number; latencyMs: number }[] },
): void {
  const entry = entries.get(key);
  if (entry === undefined) {
    problems.push(`${key} ran, which nobody enqueued`);
    return;
  }
  const numbers = rest.map(Number);
  if (kind === 'e') {
    entry.endsMs.push(numbers[0] as number);
    return;
  }
  const [attempt, atMs, latencyMs] = numbers as [number, number, number];
  entry.starts.push({ worker, attempt, atMs });
  if (entry.manner === 'plain' && attempt === 1) starts.push({ atMs, latencyMs });
}

function checkOutcome(key: string, entry: Entry, counts: Record<string, number>, problems: string[]): void {
  const { manner, isAcknowledged, isRefused, cancel, result, starts, endsMs } = entry;
  if (!isAcknowledged) {
    if (!isRefused) problems.push(`the enqueue of ${key} was never answered`);
    return;
  }
  // Without that answer, for which a lost connection is enough, it may be cancelled or not.
  if (cancel === 'cancelled' || (cancel !== undefined && starts.length === 0)) {
    counts.cancelled++;
    if (starts.length > 0) problems.push(`${key} was cancelled before it was due, and ran`);
    return;
  }
  if (manner === 'doomed') {
    counts.dead++;
    if (starts.length === 0) problems.push(`${key} was acknowledged and never ran`);
    if (endsMs.length > 0) problems.push(`${key} was to fail, and did not`);
    if (result !== undefined && result !== 'TASK_DEAD') problems.push(`who waited for ${key} was told ${result}`);
    return;
  }
  if (endsMs.length === 0) {
    counts.lost++;
    problems.push(
      `${key} (${manner}) was acknowledged, and no handler got through with it; it began ${starts.length} times`,
    );
  } else counts.completed++;
  // A result that is asked for after retention has forgotten it is not there.
  if (result !== undefined && result !== 'completed' && result !== 'NOT_FOUND') {
    problems.push(`who waited for ${key} was told ${result}`);
  }
}

/** Returns how often it ran again with a reason: the worker that ran it before was cut off or killed meanwhile. */
function checkRuns(
  key: string,
  { manner, starts }: Entry,
  disturbances: readonly Disturbance[],
  problems: string[],
): number {
  if (starts.length < 2) return 0;
  const inTime = starts.toSorted((a, b) => a.atMs - b.atMs);
  let again = 0;
  for (const [index, start] of inTime.entries()) {
    if (start.attempt > (MANNERS[manner].options.maxAttempts as number)) {
      problems.push(`${key} ran in attempt ${start.attempt}, which it did not have`);
    }
    const before = inTime[index - 1];
    if (before === undefined || isNextByItself(manner, before, start)) continue;
    again++;
    const hasReason = disturbances.some(
      ({ worker, atMs }) => worker === before.worker && atMs >= before.atMs - SLACK_MS && atMs <= start.atMs,
    );
    if (!hasReason) {
      problems.push(
        `${key} (${manner}) ran in attempt ${before.attempt} on ${before.worker} and ${start.attempt} on ${start.worker}, and nothing had happened to the first`,
      );
    }
  }
  return again;
}

/** A cut is noted just before it is made, a start just after it has begun. */
const SLACK_MS = 50;

/** The attempt before was one that fails. */
function isNextByItself(manner: Manner, before: Start, start: Start): boolean {
  if (start.attempt !== before.attempt + 1) return false;
  return manner === 'doomed' || (manner === 'flaky' && before.attempt === 1);
}

/** Not before its time, and not before what it depends on. */
function checkOrder(
  key: string,
  { manner, attemptedMs, starts }: Entry,
  entries: Map<string, Entry>,
  problems: string[],
): void {
  const firstMs = Math.min(...starts.map(({ atMs }) => atMs));
  if (manner === 'delayed' && firstMs < attemptedMs + DELAY_MS) {
    problems.push(`${key} ran ${(firstMs - attemptedMs).toFixed(1)} ms after its enqueue, too early`);
  }
  if (manner !== 'flow') return;
  const [producer, number] = key.split('.') as [string, string];
  for (const parent of parentsOf(entries, producer, Number(number))) {
    const endMs = Math.min(...(entries.get(parent)?.endsMs ?? []));
    if (firstMs < endMs) problems.push(`${key} began before ${parent}, on which it depends, had ended`);
  }
}

/** The tasks of a flow have keys that follow on. */
function parentsOf(entries: Map<string, Entry>, producer: string, number: number): string[] {
  let first = number;
  // Flows may stand next to each other: each has FLOW_TASKS.
  while (entries.get(`${producer}.${first - 1}`)?.manner === 'flow') first--;
  const place = (number - first) % FLOW_TASKS;
  if (place < 2) return [];
  return place === 2 ? [`${producer}.${number - 2}`, `${producer}.${number - 1}`] : [`${producer}.${number - 1}`];
}
