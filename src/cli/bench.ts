import { mkdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import type { Command } from 'commander';
import { summarizeProfiles } from '../bench/profile.ts';
import { RABBIT_ROWS, RABBIT_STORE_ROWS } from '../bench/scenarios.ts';
import { type BenchReport, runSuite } from '../bench/suite.ts';
import { formatBench, formatProfiles } from './bench-report.ts';
import { addCommand } from './command.ts';
import { CommandFailed, UsageError } from './failure.ts';
import { choice, flag, integer, list, text, toggle, type Values } from './flags.ts';
import { print, printJson, printNote } from './output.ts';
import { catchStopSignals } from './signals.ts';

const SERVER_ROWS = [1, 2, 3, 4, 5, 6, 7, 14];
const ROWS = [...SERVER_ROWS, ...RABBIT_ROWS, ...RABBIT_STORE_ROWS];

const FLAGS = {
  rows: flag(list('1,2,…'), 'which rows of the table, see docs/benchmarks.md; by default all that can be measured'),
  url: flag(text('url'), 'measure Millrace on this RabbitMQ, amqp://HOST: rows 8 and 9'),
  store: flag(text('url'), 'and with this PostgreSQL, postgres://HOST/DATABASE: rows 10 and 11'),
  runs: flag(integer(1, 100), 'runs of each row, of which the median is shown (--quick: 1)'),
  tasks: flag(integer(1000, 100_000_000), 'tasks of a run in rows 1 to 3, 6 and 7, instead of their own number'),
  data: flag(text('dir'), 'where the throwaway data directories go: the disk that is measured', tmpdir()),
  fsync: flag(choice('always', 'interval', 'never'), 'the server’s durability', 'always'),
  quick: toggle('a few tasks in each row: shows that everything works, its figures mean nothing'),
  observed: toggle('with HTTP on: each second metrics are scraped, and what an open dashboard asks for is asked'),
  profile: flag(text('dir'), 'write a CPU profile of each process there and print what costs most'),
  json: toggle('print JSON'),
};

export function register(program: Command): void {
  addCommand(program, {
    usage: 'bench',
    summary: 'measure this machine: throughput, latency, memory, restart',
    details:
      'Server, producer and worker run in a process each. Every run is checked with a ledger: a task that was lost or ' +
      'processed twice fails the command. All rows take about ten minutes and 5 GB of disk.',
    flags: FLAGS,
    examples: [
      'millrace bench',
      'millrace bench --rows 1,4 --runs 5 --data /mnt/ssd',
      'millrace bench --url amqp://127.0.0.1 --store postgres://127.0.0.1/millrace',
      'millrace bench --quick --json',
    ],
    run: bench,
  });
}

async function bench(values: Values<typeof FLAGS>): Promise<void> {
  const { tasks, data, fsync, quick, observed, profile, json, store } = values;
  const rabbit = values.url === undefined ? undefined : { url: checkUrl(values.url), store };
  const rows = chooseRows(values);
  if (profile !== undefined) mkdirSync(profile, { recursive: true });
  const stop = catchStopSignals(() => {});
  const interrupted = new AbortController();
  void stop.received.then((signal) =>
    interrupted.abort(new CommandFailed('INTERRUPTED', `${signal}: the benchmark was ended`)),
  );
  const progress = json ? undefined : showProgress();
  try {
    const report = await runSuite({
      directory: data,
      fsync,
      rows,
      runs: values.runs ?? (quick ? 1 : 3),
      tasks,
      quick,
      observed,
      rabbit,
      profileDirectory: profile,
      signal: interrupted.signal,
      onProgress: (line) => progress?.show(line),
    });
    progress?.clear();
    if (json) printJson(report);
    else print(formatBench(report));
    if (profile !== undefined && !json) print(formatProfiles(summarizeProfiles(profile)));
    checkLedger(report);
  } finally {
    progress?.clear();
    stop.release();
  }
}

/** Over a broker only its rows are measured, without one only those of our own server. */
function chooseRows({ rows, url, store }: Values<typeof FLAGS>): number[] {
  const possible =
    url === undefined ? SERVER_ROWS : [...RABBIT_ROWS, ...(store === undefined ? [] : RABBIT_STORE_ROWS)];
  if (rows === undefined) return possible;
  const chosen = rows.map(parseRow);
  const other = chosen.find((row) => !possible.includes(row));
  if (other === undefined) return chosen;
  const where = SERVER_ROWS.includes(other) ? 'without --url' : '--url amqp://HOST, those from 10 on --store as well';
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

function checkLedger({ rows }: BenchReport): void {
  const wrong = rows.filter(({ lost, duplicated }) => lost > 0 || duplicated > 0);
  if (wrong.length === 0) return;
  const names = wrong.map(({ name, lost, duplicated }) => `${name} (${lost} lost, ${duplicated} duplicated)`);
  throw new CommandFailed('LEDGER', `not every task was processed exactly once: ${names.join(', ')}`);
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
