// @ts-check
import { markdownTable } from '../../dist/bench/document.js';
import { spread } from '../../dist/bench/numbers.js';
import { formatCount } from '../../dist/cli/units.js';
import { renderLosses, renderTables } from './tables.mjs';

/**
 * @typedef {import('./sitting.mjs').Sitting} Sitting
 * @typedef {import('./tables.mjs').Standing} Standing
 */

/** A pace that was kept less well than this is told. */
const PACE_KEPT = 0.95;

/** The part of the page, in Markdown. @param {Sitting} sitting */
export function renderSitting(sitting) {
  const standings = standingsOf(sitting);
  const losses = renderLosses(standings);
  return [
    '## Against other queues',
    ...(sitting.quick ? ['**Made with `--quick`: it shows that the bench works, its figures mean nothing.**'] : []),
    about(sitting),
    ...renderTables(standings),
    KEY,
    ...(losses.length === 0 ? [] : ['### Where another is better than Millrace', losses.join('\n')]),
    '### Remarks',
    remarks(sitting).join('\n'),
    '### Systems and settings',
    systemsTable(sitting),
    '### How it is measured',
    method(sitting),
  ].join('\n\n');
}

/** All that went wrong, for people. @param {Pick<Sitting, 'done'>} sitting */
export function problemsOf({ done }) {
  return done.flatMap(({ system, run, problems }) => problems.map((one) => `${system}, run ${run + 1}: ${one}`));
}

/** @param {Sitting} sitting @returns {Standing[]} */
export function standingsOf({ systems, done }) {
  return systems.map(({ name, title, syncs }) => {
    const runs = done.filter(({ system }) => system === name);
    const names = new Set(runs.flatMap(({ figures }) => Object.keys(figures)));
    /** @type {Standing['figures']} */
    const figures = {};
    for (const figure of names) {
      // JSON has no NaN: what could not be measured is null there.
      const values = runs.map((run) => run.figures[figure]).filter((value) => Number.isFinite(value));
      if (values.length > 0) figures[figure] = spread(values);
    }
    return { name, title, syncs, figures };
  });
}

const KEY = `Medians of the runs, in parentheses the least and the greatest. **Bold**: the best of those that sync before they
confirm. \\*: the best of all. ¹: what is confirmed may be lost with the power. Half of the maximum is another pace for each
system: no best is named there.`;

/** @param {Sitting} sitting */
function about({ startedAt, machine, disk, node, payloadBytes, runs }) {
  const gib = (machine.memoryBytes / 2 ** 30).toFixed(1);
  const dsync =
    disk.zeroedDsyncP50Us === null ? '' : `, pre-zeroed \`O_DSYNC\` write ${disk.zeroedDsyncP50Us.toFixed(0)} µs`;
  return `${startedAt.slice(0, 10)}, ${runs} ${runs === 1 ? 'run' : 'runs'} each: ${machine.cpu} with ${machine.cores} cores, ${gib} GiB, ${machine.os}, ${machine.fileSystem};
4 KiB write and fdatasync ${disk.fdatasyncP50Us.toFixed(0)} µs${dsync}. Clients run in Node ${node}, tasks are JSON of ${payloadBytes} bytes.`;
}

/** @param {Sitting} sitting */
function remarks({ systems, leftOut, done, sizes }) {
  const lines = leftOut.map(({ title, reason }) => `- Left out: ${title} (${reason}).`);
  const boundS = sizes.backlogBoundMs / 1000;
  const backlogs = systems.flatMap(({ name, title }) => {
    const queued = medianNote(done, name, 'backlogTasks');
    const drained = medianNote(done, name, 'backlogDrained');
    if (queued === undefined || drained === undefined) return [];
    return [`${title} ${thousands(queued)}${drained < queued ? ` (${thousands(drained)} drained)` : ''}`];
  });
  if (backlogs.length > 0) {
    const all = thousands(sizes.backlogTasks);
    lines.push(
      `- Backlogs: ${all} tasks, or what was queued in ${boundS} s; drained for ${boundS} s at most. ${backlogs.join(', ')}.`,
    );
  }
  for (const { name, title } of systems) {
    const repeated = Math.max(0, ...notesOf(done, name, 'backlogRepeated'));
    if (repeated > 0) {
      lines.push(
        `- ${title}: after the crash ${thousands(repeated)} times a task was processed again, which it may be.`,
      );
    }
    const kept = medianNote(done, name, 'latency-half-pace');
    if (kept !== undefined && kept < PACE_KEPT) {
      lines.push(`- ${title}: its producer kept only ${Math.round(kept * 100)} % of that pace.`);
    }
  }
  for (const problem of problemsOf({ done })) {
    lines.push(`- **Wrong**: ${problem.split('\n')[0]}`);
  }
  if (problemsOf({ done }).length > 0) return lines;
  return [...lines, '- Without a crash every task was processed exactly once.', ...afterCrash(done)];
}

/** @param {Sitting['done']} done */
function afterCrash(done) {
  const backlogs = done.filter(({ notes }) => notes.backlogTasks !== undefined);
  if (backlogs.length === 0) return [];
  const whole = backlogs.every(({ notes }) => notes.backlogDrained === notes.backlogTasks);
  return [
    `- After the crash none was lost${whole ? '' : ' of a backlog that was drained whole; of the others nobody knows'}.`,
  ];
}

/** @param {Sitting['done']} done @param {string} name @param {string} note */
function notesOf(done, name, note) {
  return done.filter(({ system }) => system === name).flatMap(({ notes }) => notes[note] ?? []);
}

/** @param {Sitting['done']} done @param {string} name @param {string} note */
function medianNote(done, name, note) {
  const values = notesOf(done, name, note);
  return values.length === 0 ? undefined : spread(values).median;
}

/** @param {number} count */
function thousands(count) {
  return count >= 1000 ? `${formatCount(count / 1000)} k` : formatCount(count);
}

/** @param {Sitting} sitting */
function systemsTable({ systems }) {
  return markdownTable(
    ['system', 'versions', 'durability', 'settings'].map((title) => ({ title })),
    systems.map(({ title, syncs, versions, durability, settings }) => [
      `${title}${syncs ? '' : ' ¹'}`,
      Object.entries(versions)
        .map(([name, version]) => `${name} ${version}`)
        .join(', '),
      durability,
      settings.join('; '),
    ]),
  );
}

/** @param {Sitting} sitting */
function method({ sizes }) {
  const s = (/** @type {number} */ ms) => `${ms / 1000} s`;
  return `\`npm run bench:rivals\` starts private servers of what is installed (or what \`apt-get\` can install), on 127.0.0.1 with
their data on the same disk, and measures one system after the other, in each run in another order, with a fresh server.
Servers, producer and consumer are processes of their own; the payload is the one of the rows above, built one object at a
time; every producer may keep batches in flight and every consumer may fetch ahead, as its documentation advises for
throughput. Handlers are called once a task with the parsed JSON and return nothing; no system keeps results. What is
completed is forgotten at once where that can be set; pg-boss keeps it, and so does Millrace, the last 100,000 tasks of a queue
by default. The bench is a package of its own (\`bench/\`), whose dependencies reach no user; a Node that is too old for the newest
clients is replaced by one from npm, for all of them and for Millrace's server.

- **enqueue, bulk**: batches for ${s(sizes.bulkMs)}, from the first call to the last confirmation, after ${s(sizes.warmUpMs)} that do not count. **256 callers**:
  each awaits its call before it makes the next, ${s(sizes.callersMs)}. **One awaited enqueue**: the same with one caller.
- **drain**: a consumer comes when everything is queued; from when a sixth is processed to when the server has the last completion.
- **end to end**: producer and consumer at the same time, as many tasks as take ${s(sizes.endToEndMs)}, or more where twice as many
  go faster; from the first call to when the server has the last completion.
- **to the handler**: ${s(sizes.pacedMs)} of calls at an even pace, whatever became of those before, after ${s(sizes.pacedWarmUpMs)} at the same pace that
  do not count; from before the call to the first statement of the handler in another process. At half of the maximum (of end to end in the same run), what falls due in the same
  millisecond goes in one bulk call.
- **memory, disk**: what the server's processes hold (\`Pss\`, shared memory once) and what its directory takes on the disk, with
  what is allocated ahead and logs that are not removed yet, by how much it grew while the backlog was queued, a task.
  **Restart**: the server is killed with \`SIGKILL\`; from its start to the first statement of a handler. Then the backlog is
  drained.

A ledger checks every row: a task that was lost, that came twice without a crash, or that nobody enqueued, fails the command.
What a backlog still has when its time is over proves nothing.`;
}
