import { type ChildProcess, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { Arrivals } from './events.ts';

/** A process of its own, running one of `programs/` on the compiled product, and what it says line by line. */
export class Program {
  readonly lines = new Arrivals<string>();
  /** Resolves with the exit code, or the signal that ended it. */
  readonly ended: Promise<number | NodeJS.Signals>;
  readonly #process: ChildProcess;

  /** `openFilesMax`: what it may open, as with `ulimit -n`; not on Windows. */
  static start(name: string, args: readonly string[], { openFilesMax }: { openFilesMax?: number } = {}): Program {
    const path = fileURLToPath(new URL(`./programs/${name}.mjs`, import.meta.url));
    const command = [process.execPath, path, ...args];
    const limit = ['sh', '-c', `ulimit -n ${openFilesMax} && exec "$@"`, 'sh'];
    const [program, ...rest] = openFilesMax === undefined ? command : [...limit, ...command];
    return new Program(spawn(program as string, rest, { stdio: ['ignore', 'pipe', 'inherit'] }));
  }

  private constructor(child: ChildProcess) {
    this.#process = child;
    createInterface({ input: child.stdout as NodeJS.ReadableStream }).on('line', (line) => this.lines.add(line));
    this.ended = new Promise((resolve, reject) => {
      child.on('error', reject);
      child.on('close', (code, signal) => resolve(signal ?? code ?? 0));
    });
  }

  get pid(): number {
    return this.#process.pid as number;
  }

  async kill(signal: NodeJS.Signals = 'SIGKILL'): Promise<void> {
    this.#process.kill(signal);
    await this.ended;
  }
}
