import { type Command, CommanderError } from 'commander';
import { describeFailure, describeStack, UsageError } from './failure.ts';
import { printNote } from './output.ts';
import { createProgram } from './program.ts';

/** Runs one command line in this process, to its end; resolves with the exit code. */
export async function run(args: readonly string[]): Promise<number> {
  const program = await createProgram(args);
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
