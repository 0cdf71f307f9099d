import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { DemoChild } from './demo-child.ts';
import { DEMO_SETTINGS, DEMO_TASK, type DemoSettings } from './demo-ledger.ts';
import { CommandFailed } from './failure.ts';
import { environmentName } from './flags.ts';

const HANDLERS = fileURLToPath(new URL('./demo-handlers.js', import.meta.url));
const HOST = '127.0.0.1';
/** How often the clients log how far they are. */
const PROGRESS_MS = 250;

export interface DemoBackend {
  url: string;
  store: string | undefined;
}

/** Not on a command line, which others on the machine can read: there may be passwords in it. */
function environmentOf({ url, store }: DemoBackend): Record<string, string> {
  return { [environmentName('url')]: url, [environmentName('store')]: store ?? '' };
}

/** The processes of a demo, and the directory with their data and logs. */
export class DemoCast {
  readonly directory = mkdtempSync(join(tmpdir(), 'millrace-demo-'));
  /** Each worker's name and the file of its ledger. */
  readonly workers: { name: string; ledger: string }[] = [];
  readonly #children: DemoChild[] = [];
  readonly queue: string;
  #isOver = false;

  constructor(queue: string) {
    this.queue = queue;
  }

  /** Resolves with its URL when it listens. */
  async startServer(port: number): Promise<string> {
    const data = join(this.directory, 'data');
    const flags = [
      '--host',
      HOST,
      '--port',
      String(port),
      '--http-port',
      'off',
      '--data',
      data,
      '--log-file',
      this.#log('server'),
      '--json',
    ];
    const server = this.#start('server', ['server', ...flags], { staysUp: true });
    return await server.awaitOutput((stdout) => /"url":"(tcp:[^"]+)"/.exec(stdout)?.[1]);
  }

  startWorker(backend: DemoBackend, concurrency: number, settings: Omit<DemoSettings, 'ledger'>): void {
    const name = `worker-${this.workers.length + 1}`;
    const ledger = join(this.directory, `${name}.ledger`);
    this.workers.push({ name, ledger });
    const flags = ['--queues', this.queue, '--name', name, '--concurrency', String(concurrency)];
    this.#start(name, ['worker', ...flags, '--handlers', HANDLERS, '--log-file', this.#log(name)], {
      staysUp: true,
      environment: {
        ...environmentOf(backend),
        [DEMO_SETTINGS]: JSON.stringify({ ...settings, ledger } satisfies DemoSettings),
      },
    });
  }

  /** The producers, all in one process: it ends when everything is acknowledged. */
  startClients(backend: DemoBackend, counts: { clients: number; tasks: number; payloadBytes: number }): DemoChild {
    const flags = ['--queue', this.queue, '--name', DEMO_TASK, '--json', '--stats-interval-ms', String(PROGRESS_MS)];
    const { clients, tasks, payloadBytes } = counts;
    flags.push('--clients', String(clients), '--tasks', String(tasks), '--payload-bytes', String(payloadBytes));
    return this.#start('multi_client', ['clients', ...flags, '--log-file', this.clientsLog], {
      staysUp: false,
      environment: environmentOf(backend),
    });
  }

  get clientsLog(): string {
    return this.#log('multi_client');
  }

  /** Rejects when one ends that should not, or ended badly. */
  async failed(): Promise<never> {
    return await Promise.race(this.#children.map((child) => child.failed()));
  }

  /** In order: those that work, then the server. Always resolves; nothing is left. */
  async end(): Promise<void> {
    this.#isOver = true;
    const [server, others] = [
      this.#children.filter(({ name }) => name === 'server'),
      this.#children.filter(({ name }) => name !== 'server'),
    ];
    await Promise.all(others.map((child) => child.stop()));
    await Promise.all(server.map((child) => child.stop()));
    this.#remove();
  }

  kill(): void {
    for (const child of this.#children) child.kill();
    this.#remove();
  }

  #start(name: string, args: readonly string[], options: ConstructorParameters<typeof DemoChild>[2]): DemoChild {
    if (this.#isOver) throw new CommandFailed('INTERRUPTED', `the demo ended before its ${name} was started`);
    const child = new DemoChild(name, args, options);
    this.#children.push(child);
    return child;
  }

  #log(name: string): string {
    return join(this.directory, `${name}.log`);
  }

  #remove(): void {
    rmSync(this.directory, { recursive: true, force: true, maxRetries: 3 });
  }
}

export function isPortFree(port: number): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const probe = createServer();
    probe.once('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'EADDRINUSE' || error.code === 'EACCES') resolve(false);
      else reject(error);
    });
    probe.listen(port, HOST, () => probe.close(() => resolve(true)));
  });
}
