import { type ChildProcess, spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { CommandFailed } from './failure.ts';

const MAIN = fileURLToPath(new URL('./main.js', import.meta.url));
const STOP_TIMEOUT_MS = 5000;
const OUTPUT_KEPT = 4000;

/** One of our own commands in a process of its own. */
export class DemoChild {
  readonly name: string;
  /** With its exit code; -1 when a signal ended it. */
  readonly ended: Promise<number>;
  readonly #process: ChildProcess;
  readonly #staysUp: boolean;
  #stdout = '';
  #stderr = '';
  #exitCode: number | undefined;
  #onOutput = (): void => {};

  /** `staysUp`: it fails the demo by ending, also in order. */
  constructor(
    name: string,
    args: readonly string[],
    options: { staysUp: boolean; environment?: Record<string, string> },
  ) {
    this.name = name;
    this.#staysUp = options.staysUp;
    this.#process = spawn(process.execPath, [MAIN, ...args], {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, ...options.environment },
      // A group of its own: Ctrl-C reaches the demo alone, which ends the others in order.
      detached: process.platform !== 'win32',
    });
    this.#process.stdout?.setEncoding('utf8').on('data', (text: string) => {
      this.#stdout = (this.#stdout + text).slice(-OUTPUT_KEPT);
      this.#onOutput();
    });
    this.#process.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.#stderr = (this.#stderr + text).slice(-OUTPUT_KEPT);
    });
    this.ended = new Promise((resolve) => {
      this.#process.on('error', (error) => {
        this.#stderr += error.message;
        this.#exit(-1, resolve);
      });
      // `close`, and not `exit`: its last words have come then.
      this.#process.on('close', (code) => this.#exit(code ?? -1, resolve));
    });
  }

  get pid(): number {
    return this.#process.pid ?? 0;
  }

  get stdout(): string {
    return this.#stdout;
  }

  get running(): boolean {
    return this.#exitCode === undefined;
  }

  /** The first thing that `find` finds in what the child prints. Rejects when it ends without. */
  async awaitOutput<T>(find: (stdout: string) => T | undefined): Promise<T> {
    const found = new Promise<T>((resolve) => {
      this.#onOutput = () => {
        const value = find(this.#stdout);
        if (value !== undefined) resolve(value);
      };
      this.#onOutput();
    });
    return await Promise.race([found, this.failed()]);
  }

  /** Rejects when the child ends as it should not. */
  async failed(): Promise<never> {
    const code = await this.ended;
    if (code === 0 && !this.#staysUp) return await new Promise(() => {});
    const words = (this.#stderr.trim() || this.#stdout.trim()).split('\n').at(-1) ?? '';
    throw new CommandFailed('DEMO_PROCESS', `the ${this.name} ended with exit code ${code}: ${words}`);
  }

  /** In order, or by force after a while. Always resolves. */
  async stop(): Promise<void> {
    if (!this.running) return;
    this.#process.kill('SIGTERM');
    const timer = setTimeout(() => this.kill(), STOP_TIMEOUT_MS);
    await this.ended;
    clearTimeout(timer);
  }

  kill(): void {
    if (this.running) this.#process.kill('SIGKILL');
  }

  #exit(code: number, resolve: (code: number) => void): void {
    this.#exitCode = code;
    resolve(code);
  }
}
