import { Command } from 'commander';
import { VERSION } from '../version.ts';
import { hasConfigFile } from './config-file.ts';

interface CommandFile {
  /** Adds one command, or a group of them. */
  readonly register: (program: Command) => void;
}

/** In the order in which --help lists them; a command's file is loaded when it is needed, since each loads half of all there is. */
const COMMANDS: Readonly<Record<string, () => Promise<CommandFile>>> = {
  server: () => import('./server.ts'),
  worker: () => import('./worker.ts'),
  clients: () => import('./clients.ts'),
  enqueue: () => import('./enqueue.ts'),
  status: () => import('./status.ts'),
  events: () => import('./events.ts'),
  task: () => import('./task.ts'),
  queue: () => import('./queue.ts'),
  schedule: () => import('./schedule.ts'),
  journal: () => import('./journal.ts'),
  bench: () => import('./bench.ts'),
  demo: () => import('./demo.ts'),
};

/**
 * The program with the command that `args` begin with, or with all of them: when they begin with none, and when there is a
 * configuration file, which is checked whole. It throws CommanderError in place of ending the process.
 */
export async function createProgram(args: readonly string[] = []): Promise<Command> {
  const [name = ''] = args;
  const isOne = Object.hasOwn(COMMANDS, name) && !hasConfigFile(args, process.env, process.cwd());
  const files = isOne ? [COMMANDS[name]] : Object.values(COMMANDS);
  const commands = await Promise.all(files.map((load) => load()));

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
  for (const { register } of commands) register(program);
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
