import { Command, CommanderError } from 'commander';
import { addCommand } from '../../src/cli/command.ts';
import { readConfigFile, type Sections } from '../../src/cli/config-file.ts';
import { CONNECTION_FLAGS } from '../../src/cli/connection.ts';
import { describeFailure, UsageError } from '../../src/cli/failure.ts';
import { choice, type Flags, flag, integer, list, resolveFlags, SHARE, toggle } from '../../src/cli/flags.ts';
import { FILTER_FLAGS } from '../../src/cli/task-filter.ts';
import { TASK_FLAGS } from '../../src/cli/task-flags.ts';
import { Broken } from './harness.ts';

/** Of every kind that there is. */
export const FLAGS = {
  ...CONNECTION_FLAGS,
  ...TASK_FLAGS,
  ...FILTER_FLAGS,
  queues: flag(list('a,b'), 'queues'),
  failRate: flag(SHARE, 'a share', 0),
  port: flag(integer(0, 65_535), 'a port', 5555),
  fsync: flag(choice('always', 'interval', 'never'), 'when'),
  json: toggle('print JSON'),
};

const SECTIONS: Sections = new Map<string, Flags>([
  ['server', FLAGS],
  ['task', FILTER_FLAGS],
  ['enqueue', TASK_FLAGS],
]);
const SECTION = 'server';

/** What a command line or a configuration file may be refused with. */
function refusal(error: unknown): void {
  if (!(error instanceof UsageError) && !(error instanceof CommanderError)) {
    throw new Broken(`no usage error came out: ${error instanceof Error ? error.stack : String(error)}`, {
      cause: error,
    });
  }
  const { exitCode, line } = describeFailure(error instanceof UsageError ? error : new UsageError(error.message));
  if (exitCode !== 2 || /[\r\n]/.test(line)) throw new Broken(`a failure of several lines: ${line.slice(0, 200)}`);
  if (line.length > 4000) throw new Broken(`a failure of ${line.length} characters: ${line.slice(0, 200)}…`);
}

/** Reads the file and gets the values of a command's flags from it. Throws Broken. */
export function handleConfigFile(path: string): void {
  try {
    const file = readConfigFile(SECTION, SECTIONS, { path, environment: {}, directory: '/' });
    checkValues(resolveFlags(FLAGS, {}, { environment: {}, file }));
  } catch (error) {
    if (error instanceof Broken) throw error;
    refusal(error);
  }
}

export function handleEnvironment(environment: Readonly<Record<string, string>>): void {
  try {
    checkValues(resolveFlags(FLAGS, {}, { environment, file: {} }));
  } catch (error) {
    if (error instanceof Broken) throw error;
    refusal(error);
  }
}

/** A command with these flags, that does nothing. */
export async function handleArguments(args: readonly string[]): Promise<void> {
  const program = new Command('millrace').exitOverride().configureOutput({ writeErr: () => {}, writeOut: () => {} });
  addCommand(program, {
    usage: 'server [id] [more...]',
    summary: 'do nothing',
    flags: FLAGS,
    examples: ['millrace server'],
    run: async (values) => checkValues(values),
  });
  try {
    await program.parseAsync(['server', ...args], { from: 'user' });
  } catch (error) {
    if (error instanceof Broken) throw error;
    refusal(error);
  }
}

/** Each has its own kind, whatever the source. */
function checkValues({ port, queues, json, failRate, header }: Readonly<Record<string, unknown>>): void {
  const isPort = typeof port === 'number' && Number.isInteger(port) && port >= 0 && port <= 65_535;
  const isShare = typeof failRate === 'number' && failRate >= 0 && failRate <= 1;
  const isList = queues === undefined || (Array.isArray(queues) && queues.every((each) => typeof each === 'string'));
  const isHeader =
    header === undefined ||
    (typeof header === 'object' && header !== null && Object.getPrototypeOf(header) === Object.prototype);
  if (isPort && isShare && isList && isHeader && typeof json === 'boolean') return;
  throw new Broken(`values of other kinds: ${JSON.stringify({ port, queues, json, failRate, header })}`);
}
