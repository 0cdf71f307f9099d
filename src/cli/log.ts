import pino, { type DestinationStream, type Logger } from 'pino';
import { redact } from '../errors.ts';
import { choice, flag, text } from './flags.ts';
import { print, printNote } from './output.ts';
import { printable } from './printable.ts';

/** To the console one readable line each, to the file JSON with all particulars. */
export interface Log {
  readonly all: Logger;
  /** For what the console is told in another way: the one line on standard error. */
  readonly file: Logger;
}

export interface LogOptions {
  /** The command; a field of each line in the file. */
  name: string;
  level: Level;
  /** `off` for none. */
  file: string;
  console: 'text' | 'json';
  /** Standard error when standard output carries the command's result. */
  stream?: 'stdout' | 'stderr';
}

export type Level = 'debug' | 'info' | 'warn' | 'error';

export const logLevel = flag(choice('debug', 'info', 'warn', 'error'), 'least level that is logged', 'info');

export function logFile(fallback: string) {
  return flag(text('file'), 'JSON lines go there too; off: nowhere', fallback);
}

/** Throws the system's error when the file cannot be opened. */
export function openLog(options: LogOptions): Log {
  const { name, level } = options;
  const write = options.stream === 'stderr' ? printNote : print;
  const show = (line: string): void => write(redact(options.console === 'json' ? line.trimEnd() : readable(line)));
  const settings = { level, name, timestamp: pino.stdTimeFunctions.isoTime };
  const screen = { level, stream: { write: show } };
  if (options.file === 'off') {
    return { all: pino(settings, pino.multistream([screen])), file: pino({ level: 'silent' }) };
  }
  const file = openFile(options.file);
  return { all: pino(settings, pino.multistream([screen, { level, stream: file }])), file: pino(settings, file) };
}

/** Synchronous: the lines are few, and the last one before the end matters most. */
function openFile(path: string): DestinationStream {
  const file = pino.destination({ dest: path, append: true, sync: true });
  let failed = false;
  // A full disk must not stop a server that could still take completions.
  file.on('error', (error: Error) => {
    if (!failed) printNote(`millrace: the log file ${path} cannot be written: ${error.message}`);
    failed = true;
  });
  return {
    write: (line) => {
      if (!failed) file.write(redact(line));
    },
  };
}

interface Line {
  level: number;
  time: string;
  msg?: string;
  err?: { message?: string; code?: string; stack?: string };
}

/** `2026-08-01T12:03:04.123Z info  listening on …`; a terminal's owner knows the date. */
function readable(line: string): string {
  const { level, time, msg = '', err } = JSON.parse(line) as Line;
  const when = process.stdout.isTTY ? localClock(new Date(time)) : time;
  const reason = err?.message === undefined ? '' : `: ${err.code === undefined ? '' : `${err.code}: `}${err.message}`;
  return `${when} ${(pino.levels.labels[level] ?? 'info').padEnd(5)} ${printable(msg + reason)}`;
}

function localClock(date: Date): string {
  const [clock = ''] = date.toTimeString().split(' ');
  return `${clock}.${String(date.getMilliseconds()).padStart(3, '0')}`;
}
