import { mkdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import type { Command } from 'commander';
import { GROWTH_SERIES, type GrowthSeries } from '../bench/growth-points.ts';
import { runGrowth } from '../bench/growth-scenes.ts';
import { summarizeProfiles } from '../bench/profile.ts';
import { RABBIT_ROWS, RABBIT_STORE_ROWS } from '../bench/scenarios.ts';
import { type LedgerReport, runSuite } from '../bench/suite.ts';
import { checkDocument, documentGrowth, formatGrowth } from './bench-growth.ts';
import { formatBench, formatProfiles, ledgerProblem } from './bench-report.ts';
import { addCommand } from './command.ts';
import { CommandFailed, UsageError } from './failure.ts';
import { choice, flag, integer, list, text, toggle, type Values } from './flags.ts';
import { print, printJson, printNote } from './output.ts';
import { catchStopSignals } from './signals.ts';

const ENCRYPTED_ROWS = [1, 2, 3, 4, 5, 6, 7];
const SERVER_ROWS = [...ENCRYPTED_ROWS, 12, 13, 14, 15];
const ROWS = [...SERVER_ROWS, ...RABBIT_ROWS, ...RABBIT_STORE_ROWS];

const FLAGS = {
  rows: flag(list('1,2,…'), 'which rows of the table, see docs/benchmarks.md; by default all that can be measured'),
  url: flag(text('url'), 'measure Millrace on this RabbitMQ, amqp://HOST: rows 8 and 9'),
  store: flag(text('url'), 'and with this PostgreSQL, postgres://HOST/DATABASE: rows 10 and 11'),
  runs: flag(integer(1, 100), 'runs of each row, of which the median is shown (--quick: 1)'),
  tasks: flag(
    integer(1000, 100_000_000),
    'tasks of a run in rows 1 to 3, 6, 7, 9, 11 and 13, instead of their own number',
  ),
  data: flag(text('dir'), 'where the throwaway data directories go: the disk that is measured', tmpdir()),
  fsync: flag(choice('always', 'interval', 'never'), 'the server’s durability', 'always'),
  quick: toggle('a few tasks in each row: shows that everything works, its figures mean nothing'),
  observed: toggle('with HTTP on: each second metrics are scraped, and what an open dashboard asks for is asked'),
  encrypted: toggle('producer and worker encrypt and decrypt payloads and results, see docs/encryption.md'),
  growth: toggle(
    'instead of rows: what becomes of the cost of a task with more tasks queued, queues, connections, bytes',
  ),
  series: flag(list('name,…'), `with --growth: only these of ${GROWTH_SERIES.join(', ')}`),
  document: flag(text('dir'), 'with --growth: draw growth.svg there and put the figures into its benchmarks.md'),
  profile: flag(text('dir'), 'write a CPU profile of each process there and print what costs most'),
  json: toggle('print JSON'),
};

export function register(program: Command): void {
  addCommand(program, {
    usage: 'bench',
    summary: 'measure this machine: throughput, latency, memory, restart',
    details:
      'Server, producer and worker run in a process each. Every run is checked with a ledger: a task that was lost or ' +
      'processed twice fails the command. All rows take about ten minutes and 5 GB of disk, --growth about five minutes.',
    flags: FLAGS,
    examples: [
      'millrace bench',
      'millrace bench --rows 1,4 --runs 5 --data /mnt/ssd',
      'millrace bench --url amqp://127.0.0.1 --store postgres://127.0.0.1/millrace',
      'millrace bench --growth --document docs',
      'millrace bench --quick --json',
    ],
    run: bench,
  });
}

async function bench(values: Values<typeof FLAGS>): Promise<void> {
  const { profile, json, growth } = values;
  const measure = growth ? prepareGrowth(values) : prepareRows(values);
  if (profile !== undefined) mkdirSync(profile, { recursive: true });
  const stop = catchStopSignals(() => {});
  const interrupted = new AbortController();
  void stop.received.then((signal) =>
    interrupted.abort(new CommandFailed('INTERRUPTED', `${signal}: the benchmark was ended`)),
  );
  const progress = json ? undefined : showProgress();
  try {
    const { report, text, ledgers } = await measure({
      profileDirectory: profile,
      signal: interrupted.signal,
      onProgress: (line) => progress?.show(line),
    });
    progress?.clear();
    if (json) printJson(report);
    else print(text);
    if (profile !== undefined && !json) print(formatProfiles(summarizeProfiles(profile)));
    const problem = ledgerProblem(ledgers);
    if (problem !== undefined) throw new CommandFailed('LEDGER', problem);
  } finally {
    progress?.clear();
    stop.release();
  }
}

interface Watching {
  profileDirectory: string | undefined;
  signal: AbortSignal;
  onProgress: (line: string) => void;
}

interface Measured {
  report: object;
  text: string;
  ledgers: readonly LedgerReport[];
}

type Measure = (watching: Watching) => Promise<Measured>;

function prepareRows(values: Values<typeof FLAGS>): Measure {
  const { tasks, data, fsync, quick, observed, encrypted, store, series, document } = values;
  if (series !== undefined || document !== undefined) {
    throw new UsageError('--series and --document go with --growth');
  }
  if (encrypted && values.url !== undefined) throw new UsageError('--encrypted does not go with --url');
  const rabbit = values.url === undefined ? undefined : { url: checkUrl(values.url), store };
  const rows = chooseRows(values);
  const runs = values.runs ?? (quick ? 1 : 3);
  return async (watching) => {
    const how = { fsync, rows, runs, tasks, quick, observed, encrypted, rabbit };
    const report = await runSuite({ directory: data, ...how, ...watching });
    return { report, text: formatBench(report), ledgers: report.ledgers };
  };
}

function prepareGrowth(values: Values<typeof FLAGS>): Measure {
  const { data, fsync, quick, document } = values;
  for (const name of ['rows', 'runs', 'tasks', 'url', 'store'] as const) {
    if (values[name] !== undefined)
      throw new UsageError(`--${name} does not go with --growth, which has points of its own`);
  }
  for (const name of ['observed', 'encrypted'] as const) {
    if (values[name]) throw new UsageError(`--${name} does not go with --growth`);
  }
  if (document !== undefined && (quick || values.series !== undefined)) {
    throw new UsageError('--document needs the whole of --growth: neither --quick nor --series');
  }
  if (document !== undefined) refuseWrongDocument(document);
  const series = values.series === undefined ? GROWTH_SERIES : values.series.map(parseSeries);
  return async (watching) => {
    const report = await runGrowth({ directory: data, fsync, series, quick, ...watching });
    const ledgers = report.points.map(({ series: what, size, lost, duplicated }) => {
      return { name: `${what} ${size}`, lost, duplicated };
    });
    // What lost tasks is not to be read by anybody.
    if (document !== undefined && ledgerProblem(ledgers) === undefined) documentGrowth(document, report);
    return { report, text: formatGrowth(report), ledgers };
  };
}

function refuseWrongDocument(directory: string): void {
  try {
    checkDocument(directory);
  } catch (error) {
    throw new UsageError(`--document: ${error instanceof Error ? error.message : String(error)}`);
  }
}

function parseSeries(written: string): GrowthSeries {
  const series = GROWTH_SERIES.find((name) => name === written);
  if (series !== undefined) return series;
  throw new UsageError(`--series has ${JSON.stringify(written)}; there are ${GROWTH_SERIES.join(', ')}`);
}

/** Over a broker only its rows are measured, without one only those of our own server. */
function chooseRows({ rows, url, store, encrypted }: Values<typeof FLAGS>): number[] {
  const ours = encrypted ? ENCRYPTED_ROWS : SERVER_ROWS;
  const possible = url === undefined ? ours : [...RABBIT_ROWS, ...(store === undefined ? [] : RABBIT_STORE_ROWS)];
  if (rows === undefined) return possible;
  const chosen = rows.map(parseRow);
  const other = chosen.find((row) => !possible.includes(row));
  if (other === undefined) return chosen;
  const where = SERVER_ROWS.includes(other)
    ? `without --${encrypted ? 'encrypted' : 'url'}`
    : '--url amqp://HOST, those from 10 on --store as well';
  throw new UsageError(`row ${other} cannot be measured so: rows ${possible.join(', ')} can; it needs ${where}`);
}

function checkUrl(url: string): string {
  if (/^amqps?:/i.test(url)) return url;
  throw new UsageError(
    `--url is ${JSON.stringify(url)}; only amqp:// is measured: our own server is started by the bench`,
  );
}

function parseRow(written: string): number {
  const row = Number(written);
  if (ROWS.includes(row)) return row;
  throw new UsageError(`--rows has ${JSON.stringify(written)}; there are the rows ${ROWS.join(', ')}`);
}

/** One line that is written over on a terminal, else a line each. On standard error: the result alone may be piped. */
function showProgress(): { show: (line: string) => void; clear: () => void } {
  if (!process.stderr.isTTY) return { show: printNote, clear: () => {} };
  const CLEAR_LINE = '\r\u001b[K';
  return {
    show: (line) => process.stderr.write(`${CLEAR_LINE}${line} …`),
    clear: () => process.stderr.write(CLEAR_LINE),
  };
}
