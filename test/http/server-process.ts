import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

/** A server with an HTTP API in a process of its own, which can be killed. Runs what was built. */
export class ServerProcess {
  readonly url: string;
  readonly #process: ChildProcess;

  static async start(directory: string): Promise<ServerProcess> {
    const program = join(import.meta.dirname, 'programs/server.mjs');
    const child = spawn(process.execPath, [program, directory], { stdio: ['ignore', 'pipe', 'inherit'] });
    const lines = createInterface({ input: child.stdout as NodeJS.ReadableStream });
    const ended = once(child, 'exit').then(([code]) => Promise.reject(new Error(`the server ended with ${code}`)));
    ended.catch(() => {});
    const [url] = await Promise.race([once(lines, 'line'), ended]);
    return new ServerProcess(child, url);
  }

  private constructor(child: ChildProcess, url: string) {
    this.#process = child;
    this.url = url;
  }

  /** Resolves when it is durable. */
  async enqueue(name: string): Promise<void> {
    const response = await fetch(`${this.url}/v1/tasks`, {
      method: 'POST',
      headers: { 'content-type': 'application/x-ndjson' },
      body: JSON.stringify({ name }),
    });
    await response.text();
  }

  async kill(): Promise<void> {
    const exited = once(this.#process, 'exit');
    this.#process.kill('SIGKILL');
    await exited;
  }
}
