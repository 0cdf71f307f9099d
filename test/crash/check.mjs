import { DELAY_MS, MANNERS } from './workload.mjs';

/**
 * What must hold of the ledgers and of what the server says in the end.
 *
 * @typedef {import('./ledger.mjs').Entry} Entry
 * @typedef {{ id: string, state: string, attempt: number, maxAttempts: number, payload: import('./workload.mjs').Payload,
 *   result: unknown, failures: number }} Final
 * @typedef {{ clients: Entry[], workers: Entry[], finals: Final[], starts: { at: number, epoch: number }[],
 *   killedWorkers: Map<string, number>, thawedWorkers: Map<string, number> }} Evidence
 */
const TOKENS_PER_EPOCH = 2 ** 32;
/** A worker that was frozen hears within this that its tasks timed out meanwhile; until then it may begin one. */
const THAW_NS = 2e9;

/**
 * @param {Evidence} evidence
 * @returns {{ counters: Record<string, number>, problems: string[] }}
 */
export function check(evidence) {
  /** @type {string[]} */
  const problems = [];
  const finals = new Map(evidence.finals.map((task) => [task.id, task]));
  const enqueues = checkEnqueues(evidence, finals, problems);
  const ends = checkEnds(evidence.finals, enqueues.manners, problems);
  const runs = checkRuns(evidence, finals, problems);
  checkResults(evidence.clients, finals, problems);
  return { counters: { ...enqueues.counters, ...ends, ...runs, unexpected: problems.length }, problems };
}

/**
 * Everything acknowledged is there, under its own id and with its own payload; nothing is there twice.
 *
 * @param {Evidence} evidence
 * @param {Map<string, Final>} finals
 * @param {string[]} problems
 */
function checkEnqueues({ clients }, finals, problems) {
  const manners = new Map();
  const ids = new Map();
  let lost = 0;
  let refused = 0;
  for (const { kind, key, id, manner, error } of clients) {
    if (kind === 'attempt') manners.set(key, manner);
    if (kind === 'refused') {
      refused++;
      problems.push(`the enqueue of ${key} was refused: ${error}`);
    }
    if (kind !== 'acknowledged') continue;
    if (ids.has(id)) problems.push(`id ${id} was given to ${ids.get(id)} and to ${key}`);
    ids.set(id, key);
    const task = finals.get(id);
    if (task === undefined) {
      lost++;
      problems.push(`task ${id} (${key}) was acknowledged and is lost`);
    } else if (task.payload.key !== key) problems.push(`task ${id} is ${task.payload.key}, acknowledged as ${key}`);
  }
  /** @type {Map<string, string>} */
  const byKey = new Map();
  let doubled = 0;
  for (const { id, payload } of finals.values()) {
    const other = byKey.get(payload.key);
    if (other !== undefined) {
      doubled++;
      problems.push(`${payload.key} was enqueued as ${other} and as ${id}`);
    }
    byKey.set(payload.key, id);
    if (!manners.has(payload.key)) problems.push(`task ${id} is ${payload.key}, which nobody enqueued`);
  }
  return { manners, counters: { attempted: manners.size, acknowledged: ids.size, refused, lost, doubled } };
}

/**
 * Every task ended as one of its kind may.
 *
 * @param {readonly Final[]} finals
 * @param {Map<string, import('./workload.mjs').Manner>} manners
 * @param {string[]} problems
 */
function checkEnds(finals, manners, problems) {
  const counts = { completed: 0, dead: 0 };
  for (const { id, state, attempt, maxAttempts, payload, result } of finals) {
    const manner = manners.get(payload.key) ?? payload.manner;
    const { ends, options } = MANNERS[manner];
    if (state === 'completed' || state === 'dead') counts[state]++;
    if (!ends.includes(state)) problems.push(`task ${id} (${manner}) is ${state} after attempt ${attempt}`);
    if (attempt > maxAttempts || maxAttempts !== options.maxAttempts) {
      problems.push(`task ${id} had ${attempt} attempts of ${maxAttempts}, was enqueued with ${options.maxAttempts}`);
    }
    if (manner === 'doomed' && attempt !== maxAttempts) problems.push(`task ${id} is dead after attempt ${attempt}`);
    if (state === 'completed' && result !== payload.key) problems.push(`task ${id} (${payload.key}) gave ${result}`);
  }
  return counts;
}

/**
 * Nothing ran beyond its attempts or after its end was known, and nothing ran again without a reason.
 *
 * @param {Evidence} evidence
 * @param {Map<string, Final>} finals
 * @param {string[]} problems
 */
function checkRuns({ clients, workers, starts, killedWorkers, thawedWorkers }, finals, problems) {
  const endedAt = new Map();
  for (const { kind, id, at } of clients) if (kind === 'result') endedAt.set(id, at);
  const attemptedAt = new Map();
  for (const { kind, key, at } of clients) if (kind === 'attempt') attemptedAt.set(key, at);
  const runs = new Map();
  const finished = new Set();
  let duplicatedRuns = 0;
  let runCount = 0;
  for (const entry of workers.toSorted((a, b) => a.at - b.at)) {
    if (entry.kind === 'end') finished.add(entry.id);
    if (entry.kind !== 'start') continue;
    const { id, key, attempt, maxAttempts, token, worker, at } = entry;
    const thawedAt = thawedWorkers.get(worker) ?? Number.NEGATIVE_INFINITY;
    const isThawing = at >= thawedAt - THAW_NS / 20 && at <= thawedAt + THAW_NS;
    runCount++;
    // One that was never confirmed may have run and be gone.
    const task = finals.get(id);
    if (task !== undefined && task.payload.key !== key)
      problems.push(`task ${id} ran as ${key}, is ${task.payload.key}`);
    if (task?.payload.manner === 'delayed' && at - attemptedAt.get(key) < DELAY_MS * 1e6)
      problems.push(`task ${id} ran ${(at - attemptedAt.get(key)) / 1e6} ms after its enqueue, too early`);
    if (attempt > maxAttempts) problems.push(`task ${id} ran in attempt ${attempt} of ${maxAttempts}`);
    const epoch = Math.floor(token / TOKENS_PER_EPOCH);
    const known = runs.get(`${id} ${attempt}`) ?? [];
    if (known.length > 0) duplicatedRuns++;
    for (const other of known) {
      // An attempt is repeated by a server that lost the one before with its memory, or when a worker is killed so soon
      // after it began a task that the server was never told what made room for it: then that is charged in its place.
      const killedAt = killedWorkers.get(other.worker) ?? Number.POSITIVE_INFINITY;
      if (other.epoch === epoch && at < killedAt && !isThawing) {
        problems.push(`task ${id} ran twice in attempt ${attempt}, by ${other.worker} and ${worker}, and nobody died`);
      }
    }
    known.push({ epoch, worker, at });
    runs.set(`${id} ${attempt}`, known);
    const ended = endedAt.get(id);
    // A worker that has not noticed yet that its server was killed may still begin what that gave it.
    if (ended !== undefined && at > ended && !isThawing && epoch >= epochAt(starts, ended)) {
      problems.push(`task ${id} ran ${(at - ended) / 1e6} ms after its end was known`);
    }
  }
  for (const { id, state } of finals.values()) {
    if (state === 'completed' && !finished.has(id)) problems.push(`task ${id} is completed, and no handler got so far`);
  }
  return { runs: runCount, duplicatedRuns };
}

/**
 * What clients were told is what is.
 *
 * @param {readonly Entry[]} clients
 * @param {Map<string, Final>} finals
 * @param {string[]} problems
 */
function checkResults(clients, finals, problems) {
  for (const { kind, id, key, state, result } of clients) {
    if (kind !== 'result') continue;
    const task = finals.get(id);
    if (task?.state !== state) problems.push(`task ${id} is ${task?.state}, and its client was told ${state}`);
    if (state === 'completed' && result !== key) problems.push(`the client of ${key} was told ${result}`);
  }
}

/**
 * The epoch of the server that was the last one ready then.
 *
 * @param {readonly { at: number, epoch: number }[]} starts
 * @param {number} at
 */
function epochAt(starts, at) {
  return Math.max(0, ...starts.filter((start) => start.at <= at).map((start) => start.epoch));
}
