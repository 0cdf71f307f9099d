import { type ChildProcess, fork } from 'node:child_process';
import type { Clock } from '../io/clock.ts';
import { LIMITS } from '../limits.ts';
import { OutputLines } from './output-lines.ts';
import type { Order, Word } from './steering.ts';

/** How a worker process ended. */
export interface Ending {
  /** Exit code 0. */
  readonly isInOrder: boolean;
  /** `exit code 1`, `SIGKILL`. */
  readonly how: string;
  /** What it said itself, else what it printed last of an error. */
  readonly failure: { readonly code: string; readonly message: string } | undefined;
}

export interface WorkerProcessOptions {
  readonly clock: Clock;
  /** The module that the process runs. */
  readonly module: string;
  readonly name: string;
  /** Told to it with the order to start. */
  readonly values: object;
  /** Called with each line that it prints, cut at LIMITS.workerLineCharactersMax. */
  readonly onLine: (stream: 'stdout' | 'stderr', line: string) => void;
}

/** Lines of standard error in which the reason of a crash is looked for. */
const ERROR_LINES_KEPT = 40;
/** What a process has printed may still be on its way when it has ended; what it has started itself may hold its output open for ever. */
const LAST_WORDS_MS = 200;

/**
 * A worker in a process of its own: starting → working → (retiring | stopping) → ended, of which the last may come at any time. It
 * also stops by itself when this process is gone, because it hears that its channel is closed.
 */
export class WorkerProcess {
  readonly name: string;
  /** With the queues that it takes from; stays open when it ends before. */
  readonly working: Promise<readonly string[]>;
  readonly ended: Promise<Ending>;
  readonly #child: ChildProcess;
  readonly #errorLines: string[] = [];
  #failure: Ending['failure'];

  constructor({ clock, module, name, values, onLine }: WorkerProcessOptions) {
    this.name = name;
    // Its name stands in lists of processes.
    this.#child = fork(module, [name], { stdio: ['ignore', 'pipe', 'pipe', 'ipc'] });
    for (const stream of ['stdout', 'stderr'] as const) {
      const input = this.#child[stream];
      if (input === null) continue;
      const lines = new OutputLines(LIMITS.workerLineCharactersMax, (line) => {
        if (stream === 'stderr') this.#keep(line);
        onLine(stream, line);
      });
      input.on('data', (chunk: Buffer) => lines.push(chunk)).on('end', () => lines.end());
    }
    this.working = new Promise((resolve) => {
      this.#child.on('message', (word: Word) => {
        if (word.type === 'working') resolve(word.queues);
        else this.#failure = { code: word.code, message: word.message };
      });
    });
    this.ended = new Promise((resolve) => {
      this.#child.on('error', (error: NodeJS.ErrnoException) => {
        // Something that could not be done to one that runs: its end is told by `exit`.
        if (this.#child.pid !== undefined) return;
        const failure = {
          code: error.code ?? error.name,
          message: `a worker process cannot be started: ${error.message}`,
        };
        resolve({ isInOrder: false, how: 'an error of the system', failure });
      });
      this.#child.once('exit', (code, signal) => {
        const end = (): void => resolve(this.#ending(code, signal));
        const timer = clock.setTimer(LAST_WORDS_MS, end);
        this.#child.once('close', () => {
          timer.cancel();
          end();
        });
      });
    });
    this.#say({ type: 'start', values });
  }

  /** 0 when it could not be started. */
  get pid(): number {
    return this.#child.pid ?? 0;
  }

  retire(): void {
    this.#say({ type: 'retire' });
  }

  stop(): void {
    this.#say({ type: 'stop' });
  }

  /** `failure` is why, unless it has said why itself. */
  kill(failure?: Ending['failure']): void {
    this.#failure ??= failure;
    this.#child.kill('SIGKILL');
  }

  #say(order: Order): void {
    // One that has ended hears nothing more; that it has is told by `ended`.
    if (this.#child.connected) this.#child.send(order, () => {});
  }

  #keep(line: string): void {
    this.#errorLines.push(line);
    if (this.#errorLines.length > ERROR_LINES_KEPT) this.#errorLines.shift();
  }

  #ending(code: number | null, signal: NodeJS.Signals | null): Ending {
    const how = signal ?? `exit code ${code}`;
    if (code === 0) return { isInOrder: true, how, failure: undefined };
    return { isInOrder: false, how, failure: this.#failure ?? this.#crash() };
  }

  /** Of what Node prints of an uncaught error the line that names it, not the stack. */
  #crash(): Ending['failure'] {
    const lines = this.#errorLines.map((line) => line.trim()).filter((line) => line !== '');
    const message = lines.findLast((line) => /^(\w+Error|Error|\w+ \[\w+\]): /.test(line)) ?? lines.at(-1);
    return message === undefined ? undefined : { code: 'WORKER_CRASHED', message };
  }
}
