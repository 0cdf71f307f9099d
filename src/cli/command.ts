import { type Command, Option } from 'commander';
import { didYouMean } from '../task/suggest.ts';
import { readConfigFile, type Sections } from './config-file.ts';
import { UsageError } from './failure.ts';
import {
  environmentName,
  type Flag,
  type Flags,
  flag,
  flagName,
  resolveFlags,
  text,
  toggle,
  type Values,
} from './flags.ts';

export interface CommandSpec<F extends Flags> {
  /** With its arguments, as commander writes them: `get <id>`, `cancel <id...>`. */
  usage: string;
  /** One line for the list of commands. */
  summary: string;
  /** More for --help, when one line does not say it. */
  details?: string;
  flags: F;
  /** Whole command lines; at least one. */
  examples: readonly string[];
  /**
   * What it throws is the command's failure; what it resolves with is ignored. `written` are the flags that stand on the
   * command line.
   */
  run: (values: Values<F>, args: readonly string[], written: readonly string[]) => Promise<void>;
}

const COMMON_FLAGS = {
  config: flag(text('file'), 'JSON configuration file; ./millrace.config.json is read when it is there'),
  debug: toggle('print the stack of an error too'),
};

const flagsOf = new WeakMap<Command, Flags>();

/**
 * Adds a command whose flags come from the command line, the environment, the configuration file or their default, in
 * this order. `parent` is the program, or a group made by `addGroup`.
 */
export function addCommand<const F extends Flags>(parent: Command, spec: CommandSpec<F>): void {
  const command = parent.command(spec.usage).summary(spec.summary);
  command.description([sentence(spec.summary), ...(spec.details === undefined ? [] : [spec.details])].join('\n\n'));
  const flags: Flags = { ...spec.flags, ...COMMON_FLAGS };
  flagsOf.set(command, flags);
  for (const [key, each] of Object.entries(flags)) command.addOption(describeOption(key, each));
  command.addHelpText('after', helpAfter(spec.examples));
  command.action(async () => {
    const written = command.opts<Record<string, unknown>>();
    const environment = process.env;
    const file = readConfigFile(sectionOf(command), sectionsOf(rootOf(command)), {
      path: written.config as string | undefined,
      environment,
      directory: process.cwd(),
    });
    const values = resolveFlags(flags, written, { environment, file }) as unknown as Values<F>;
    await spec.run(values, command.args, Object.keys(written));
  });
}

/** A command that only has commands: `millrace task …`. */
export function addGroup(program: Command, name: string, summary: string, examples: readonly string[]): Command {
  const group = program.command(name).summary(summary).description(sentence(summary)).usage('<command>');
  group.addHelpText('after', ['', ...exampleLines(examples)].join('\n'));
  group.action(() => {
    const names = group.commands.map((command) => command.name());
    const [written] = group.args;
    throw new UsageError(
      written === undefined
        ? `millrace ${name} needs a command: ${names.join(', ')}`
        : `unknown command '${name} ${written}'${didYouMean(written, names)}; there are ${names.join(', ')}`,
    );
  });
  // What is left over is a command that does not exist, not an argument too many.
  group.allowExcessArguments();
  return group;
}

function sentence(summary: string): string {
  return `${summary.charAt(0).toUpperCase()}${summary.slice(1)}.`;
}

function describeOption(key: string, { kind, help, fallback }: Flag<unknown>): Option {
  const name = flagName(key);
  const option = new Option(kind.placeholder === '' ? name : `${name} <${kind.placeholder}>`);
  const notes = [describeFallback(fallback)].filter((note) => note !== '');
  option.description = [help, ...notes].join(' ');
  if (kind.repeats) option.argParser((written: string, before: string[] = []) => [...before, written]);
  return option;
}

function describeFallback(fallback: unknown): string {
  if (fallback === undefined || fallback === false) return '';
  return `(default: ${Array.isArray(fallback) ? fallback.join(',') : String(fallback)})`;
}

function helpAfter(examples: readonly string[]): string {
  return [
    '',
    ...exampleLines(examples),
    '',
    `A flag may also stand in the environment (--log-level is ${environmentName('logLevel')}) or in the`,
    'configuration file ("logLevel"). Flags win over the environment, and that over the file.',
  ].join('\n');
}

function exampleLines(examples: readonly string[]): string[] {
  return [examples.length === 1 ? 'Example:' : 'Examples:', ...examples.map((example) => `  $ ${example}`)];
}

function rootOf(command: Command): Command {
  return command.parent === null ? command : rootOf(command.parent);
}

/** The file has a section for each of the program's own commands; a group's commands share theirs. */
function sectionOf(command: Command): string {
  return command.parent === null || command.parent.parent === null ? command.name() : sectionOf(command.parent);
}

function sectionsOf(program: Command): Sections {
  const sections = new Map<string, Flags>();
  for (const command of program.commands) {
    // --config cannot stand in the file it names.
    const { config: _, ...flags } = gatherFlags(command);
    sections.set(command.name(), flags);
  }
  return sections;
}

function gatherFlags(command: Command): Flags {
  return Object.assign({}, flagsOf.get(command), ...command.commands.map(gatherFlags)) as Flags;
}
