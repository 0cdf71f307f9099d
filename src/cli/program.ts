import { Command } from 'commander';
import { VERSION } from '../version.ts';
import { register as registerBench } from './bench.ts';
import { register as registerClients } from './clients.ts';
import { register as registerDemo } from './demo.ts';
import { register as registerEnqueue } from './enqueue.ts';
import { register as registerEvents } from './events.ts';
import { register as registerJournal } from './journal.ts';
import { register as registerQueue } from './queue.ts';
import { register as registerSchedule } from './schedule.ts';
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
  registerEvents,
  registerTask,
  registerQueue,
  registerSchedule,
  registerJournal,
  registerBench,
  registerDemo,
];

/** Throws CommanderError in place of ending the process. */
export function createProgram(): Command {
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
