import type { Command } from 'commander';
import type { Status } from '../broker/contract.ts';
import { MillraceError, redact } from '../errors.ts';
import type { Client } from '../index.ts';
import { addCommand } from './command.ts';
import { CONNECTION_FLAGS, withClient } from './connection.ts';
import { toggle, type Values } from './flags.ts';
import { print, printJson, printNote, screenColumns } from './output.ts';
import { statusView } from './status-view.ts';
import { cut } from './table.ts';
import { formatDuration } from './units.ts';

const FLAGS = {
  ...CONNECTION_FLAGS,
  watch: toggle('again every second, until Ctrl-C; goes on over restarts of the server'),
  json: toggle('print JSON; with --watch a line each time'),
};

type StatusValues = Values<typeof FLAGS>;

export function register(program: Command): void {
  addCommand(program, {
    usage: 'status',
    summary: 'show queues, workers, throughput and latency',
    flags: FLAGS,
    examples: ['millrace status --watch', 'millrace status --json'],
    run: (values) =>
      values.watch
        ? withClient(values, { name: 'millrace status', ...PATIENCE }, (client) => watch(client, values))
        : withClient(values, { name: 'millrace status' }, async (client) =>
            show(client, await client.status(), values),
          ),
  });
}

const INTERVAL_MS = 1000;
const PATIENCE = { callTimeoutMs: 10_000, reconnect: { maxDelayMs: INTERVAL_MS } };

function show(client: Client, status: Status, { json }: StatusValues): void {
  if (json) printJson(status);
  else print(statusView(redact(client.url), status, { columns: screenColumns(), rows: undefined }).join('\n'));
}

/** Runs until a signal ends the process. */
async function watch(client: Client, values: StatusValues): Promise<void> {
  const screen = process.stdout.isTTY && !values.json ? openScreen() : undefined;
  let answer: { status: Status } | undefined;
  let asking: Promise<void> | undefined;
  let askedAtMs = 0;
  const ask = async (): Promise<void> => {
    try {
      answer = { status: await client.status() };
    } catch (error) {
      if (!(error instanceof MillraceError) || !error.retryable) throw error;
    } finally {
      asking = undefined;
    }
  };
  let silentLines = 0;
  for (;;) {
    const nextAtMs = performance.now() + INTERVAL_MS;
    if (asking === undefined) {
      askedAtMs = performance.now();
      asking = ask();
    }
    await Promise.race([asking, sleep(INTERVAL_MS)]);
    const isCurrent = asking === undefined && answer !== undefined;
    const silence = `no answer from ${redact(client.url)} for ${formatDuration(Math.floor((performance.now() - askedAtMs) / 1000) * 1000)}: trying again`;
    if (screen !== undefined) screen.draw(client.url, answer?.status, isCurrent ? '' : silence);
    else if (isCurrent && answer !== undefined) show(client, answer.status, values);
    else if (silentLines++ % 10 === 0) printNote(silence);
    if (isCurrent) silentLines = 0;
    await sleep(nextAtMs - performance.now());
  }
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, Math.max(0, ms)));
}

const CLEAR = '\u001b[2J';
const HOME = '\u001b[H';
const ERASE_LINE_END = '\u001b[K';
const ERASE_BELOW = '\u001b[J';
const HIDE_CURSOR = '\u001b[?25l';
const SHOW_CURSOR = '\u001b[?25h';

/** A gap and the line below it. */
const NOTE_ROWS = 2;

interface WatchScreen {
  draw(url: string, status: Status | undefined, note: string): void;
}

/** Writes over what it wrote before; line by line, so that nothing flickers. */
function openScreen(): WatchScreen {
  process.stdout.write(HIDE_CURSOR + CLEAR);
  const leave = (): void => {
    process.stdout.write(`${SHOW_CURSOR}\n`);
    process.exit(0);
  };
  process.on('SIGINT', leave).on('SIGTERM', leave);
  process.on('exit', () => process.stdout.write(SHOW_CURSOR));
  return {
    draw: (url, status, note) => {
      const { columns, rows } = process.stdout;
      const view = status === undefined ? [] : statusView(redact(url), status, { columns, rows: rows - NOTE_ROWS });
      const lines = [...view, '', note === '' ? 'Ctrl-C ends this.' : note].slice(0, rows);
      const text = lines.map((line) => `${cut(line, columns)}${ERASE_LINE_END}`).join('\n');
      process.stdout.write(HOME + text + ERASE_BELOW);
    },
  };
}
