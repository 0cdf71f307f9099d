import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';

/** MILLRACE_TEST_MAIN tests another build than dist: an installed package, for example. */
export const MAIN = resolve(process.env.MILLRACE_TEST_MAIN ?? join(import.meta.dirname, '../../dist/cli/main.js'));

export interface Finished {
  /** A signal's name when one ended it. */
  code: number | NodeJS.Signals;
  stdout: string;
  stderr: string;
}

export interface CommandOptions {
  directory: string;
  environment?: Record<string, string>;
  input?: string;
  /** The file that is run, in place of the one that is tested otherwise. */
  main?: string;
  /** What the process may open, as with `ulimit -n`; not on Windows. */
  openFilesMax?: number;
  /** What runs it, as in `nice -n 5 millrace`: the rest of its command line follows. */
  under?: readonly string[];
}

/** What is set around the tests must not reach the commands. */
export function commandEnvironment(environment: Record<string, string> = {}): NodeJS.ProcessEnv {
  const inherited = Object.entries(process.env).filter(([name]) => !name.startsWith('MILLRACE_'));
  // Servers of many tests run beside each other.
  return { ...Object.fromEntries(inherited), MILLRACE_HTTP_PORT: 'off', ...environment };
}

/** A `millrace` process that runs. */
export class RunningCommand {
  readonly exited: Promise<Finished>;
  readonly #child: ChildProcess;
  readonly #args: readonly string[];
  readonly #output = { stdout: '', stderr: '' };
  readonly #watchers = new Set<() => void>();

  constructor(
    args: readonly string[],
    { directory, environment, input, main = MAIN, openFilesMax, under = [] }: CommandOptions,
  ) {
    if (!existsSync(main)) throw new Error(`${main} is missing: npm run build`);
    this.#args = args;
    const command = [...under, process.execPath, main, ...args];
    const limit = ['sh', '-c', `ulimit -n ${openFilesMax} && exec "$@"`, 'sh'];
    const [program, ...rest] = openFilesMax === undefined ? command : [...limit, ...command];
    const env = commandEnvironment(environment);
    this.#child = spawn(program as string, rest, { cwd: directory, env, stdio: 'pipe' });
    for (const name of ['stdout', 'stderr'] as const) {
      this.#child[name]?.setEncoding('utf8').on('data', (text: string) => {
        this.#output[name] += text;
        for (const watcher of this.#watchers) watcher();
      });
    }
    this.#child.stdin?.on('error', () => {});
    this.#child.stdin?.end(input);
    this.exited = new Promise((done, failed) => {
      this.#child.once('error', failed);
      this.#child.once('close', (code, signal) => done({ code: code ?? (signal as NodeJS.Signals), ...this.#output }));
    });
  }

  /** Resolves with the match as soon as the standard output has it; rejects when the process ends without. */
  said(pattern: RegExp): Promise<RegExpExecArray> {
    return new Promise((found, failed) => {
      const look = (): void => {
        const match = pattern.exec(this.#output.stdout);
        if (match === null) return;
        this.#watchers.delete(look);
        found(match);
      };
      this.#watchers.add(look);
      look();
      void this.exited.then(({ code, stdout, stderr }) =>
        failed(
          new Error(
            `millrace ${this.#args.join(' ')} ended with ${code} and never said ${pattern}\n${stdout}${stderr}`,
          ),
        ),
      );
    });
  }

  get pid(): number {
    return this.#child.pid as number;
  }

  signal(name: NodeJS.Signals): void {
    this.#child.kill(name);
  }

  /** Reads nothing more of what it prints. */
  closeOutput(): void {
    this.#child.stdout?.destroy();
  }

  /** For cleaning up: whatever it does. */
  async kill(): Promise<void> {
    this.#child.kill('SIGKILL');
    await this.exited;
  }
}

export function runCommand(args: readonly string[], options: CommandOptions): Promise<Finished> {
  return new RunningCommand(args, options).exited;
}
