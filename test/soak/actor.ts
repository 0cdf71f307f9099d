import { type ChildProcess, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';

/** A process of the soak. Whatever it says on standard error is a complaint: a warning, or what it died of. */
export class Actor {
  readonly name: string;
  readonly complaints: string[] = [];
  /** Resolves with the signal that ended it, or its exit code. */
  readonly ended: Promise<string>;
  readonly #child: ChildProcess;
  readonly #lines: string[] = [];
  readonly #watchers = new Set<() => void>();
  #isExpectedToEnd = false;

  constructor(name: string, args: readonly string[], environment: Record<string, string> = {}) {
    this.name = name;
    this.#child = spawn(process.execPath, args, { stdio: 'pipe', env: { ...process.env, ...environment } });
    const { stdout, stderr } = this.#child;
    createInterface({ input: stdout as NodeJS.ReadableStream }).on('line', (line) => {
      // Only what is waited for at the start is looked at; a server goes on to say much.
      if (this.#lines.length < 100) this.#lines.push(line);
      for (const watcher of this.#watchers) watcher();
    });
    createInterface({ input: stderr as NodeJS.ReadableStream }).on('line', (line) => this.complaints.push(line));
    // None outlives the soak, however that ends.
    const kill = (): void => void this.#child.kill('SIGKILL');
    process.on('exit', kill);
    this.ended = new Promise((resolve) => {
      this.#child.once('close', (code, signal) => {
        process.off('exit', kill);
        if (!this.#isExpectedToEnd) this.complaints.push(`${name} ended by itself (${signal ?? code})`);
        resolve(signal ?? String(code));
      });
    });
  }

  get pid(): number {
    return this.#child.pid as number;
  }

  get isAlive(): boolean {
    return this.#child.exitCode === null && this.#child.signalCode === null;
  }

  /** Rejects when the process ends without. */
  said(pattern: RegExp): Promise<RegExpExecArray> {
    return new Promise((resolve, reject) => {
      const look = (): void => {
        const found = this.#lines.map((line) => pattern.exec(line)).find((match) => match !== null);
        if (found === undefined) return;
        this.#watchers.delete(look);
        resolve(found);
      };
      this.#watchers.add(look);
      look();
      void this.ended.then((how) =>
        reject(new Error(`${this.name} ended with ${how} and never said ${pattern}: ${this.complaints.join('\n')}`)),
      );
    });
  }

  /** Ends its standard input, which it takes for a request to finish. */
  finish(): Promise<string> {
    this.#isExpectedToEnd = true;
    this.#child.stdin?.end();
    return this.ended;
  }

  end(signal: NodeJS.Signals): Promise<string> {
    this.#isExpectedToEnd = true;
    this.#child.kill(signal);
    return this.ended;
  }
}
