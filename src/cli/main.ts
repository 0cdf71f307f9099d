#!/usr/bin/env node
import { Command, CommanderError } from 'commander';
import { VERSION } from '../version.ts';
import { register as registerBench } from './bench.ts';
import { register as registerClients } from './clients.ts';
import { register as registerDemo } from './demo.ts';
import { register as registerEnqueue } from './enqueue.ts';
import { describeFailure, describeStack, UsageError } from './failure.ts';
import { register as registerJournal } from './journal.ts';
import { printNote, tolerateBrokenPipe } from './output.ts';
import { register as registerQueue } from './queue.ts';
import { register as registerServer } from './server.ts';
import { register as registerStatus } from './status.ts';
import { register as registerTask } from './task.ts';
import { register as registerWorker } from './worker.ts';

/** In the order in which --help lists them. Each file exports `register`, which adds one command or group. */
const COMMANDS: readonly ((program: Command) => void)[] = [
  registerServer,
  registerWorker,
  registerClients,
  registerEnqueue,
  registerStatus,
  registerTask,
  registerQueue,
  registerJournal,
  registerBench,
  registerDemo,
];

function createProgram(): Command {
  const program = new Command('millrace')
    .description('A durable task queue for Node.js')
    .version(VERSION, '-V, --version', 'print the version')
    .helpOption('-h, --help', 'print this help')
    .helpCommand(false)
    .exitOverride()
    .configureHelp({ subcommandTerm, helpWidth: Math.min(process.stdout.columns ?? 100, 100) })
    .configureOutput({ writeErr: () => {} })
    .usage('<command> [flags]')
    .addHelpText(
      'after',
      '\nmillrace <command> --help explains a command.\nExit codes: 0 done, 1 failed, 2 wrong usage.',
    );
  for (const register of COMMANDS) register(program);
  return program;
}

/** Without `[options]`, which each of them has. */
function subcommandTerm(command: Command): string {
  const names = command.registeredArguments.map((argument) => {
    const name = `${argument.name()}${argument.variadic ? '...' : ''}`;
    return argument.required ? `<${name}>` : `[${name}]`;
  });
  return [command.name(), ...names].join(' ');
}

/** The exit code. */
async function run(args: readonly string[]): Promise<number> {
  const program = createProgram();
  try {
    if (args.length === 0) throw new UsageError(`a command is missing: ${commandNames(program)} (see millrace --help)`);
    await program.parseAsync(args, { from: 'user' });
    return 0;
  } catch (error) {
    return report(error, args);
  }
}

function commandNames(program: Command): string {
  return program.commands.map((command) => command.name()).join(', ');
}

function report(error: unknown, args: readonly string[]): number {
  if (error instanceof CommanderError) {
    // --help and --version end this way too.
    if (error.exitCode === 0) return 0;
    return report(new UsageError(usageMessage(error)), args);
  }
  const { exitCode, line } = describeFailure(error);
  printNote(`millrace: ${line}`);
  const wantsStack = args.includes('--debug') || ['1', 'true', 'yes', 'on'].includes(process.env.MILLRACE_DEBUG ?? '');
  if (wantsStack) printNote(describeStack(error));
  return exitCode;
}

function usageMessage(error: CommanderError): string {
  return error.message.replace(/^error: /, '').replace(/\n\(Did you mean (.+)\?\)/, ' (did you mean $1?)');
}

tolerateBrokenPipe();
process.exitCode = await run(process.argv.slice(2));
