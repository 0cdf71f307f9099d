import { execFile } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Client, connect } from '../../src/index.ts';
import { type CommandOptions, type Finished, RunningCommand } from '../support/command.ts';

const PROGRAMS = join(import.meta.dirname, 'programs');
/** Comes back quickly, so that tests do. */
const RECONNECT = { initialDelayMs: 10, maxDelayMs: 100 };

/** Where the page says that things are, and where they are here, below the kitchen's directory. */
const PLACES = [
  ['/var/lib/millrace', 'data'],
  ['/srv/millrace', 'moved'],
  ['/backup', 'backup'],
] as const;

/** A line that a handler of `programs/handlers.js` has written. */
export interface Run {
  readonly key: string;
  readonly attempt: number;
  readonly what: 'begun' | 'ended';
}

/** A directory with processes and clients in it, as they are on somebody's machine. */
export class Kitchen {
  readonly directory = mkdtempSync(join(tmpdir(), 'millrace-operating-'));
  /** What servers run in: their environment, and what runs them. */
  readonly world: Pick<CommandOptions, 'environment' | 'under'>;
  url = '';
  /** A server that starts again is found where the one before was. */
  #port = '0';
  readonly #running: RunningCommand[] = [];
  readonly #clients: Client[] = [];

  constructor(world: Pick<CommandOptions, 'environment' | 'under'> = {}) {
    this.world = world;
    copyFileSync(join(PROGRAMS, 'handlers.js'), join(this.directory, 'handlers.js'));
    mkdirSync(join(this.directory, 'backup'));
  }

  /** The directory that the page calls `/var/lib/millrace`. */
  get data(): string {
    return join(this.directory, 'data');
  }

  async server(command = 'millrace server --data /var/lib/millrace'): Promise<RunningCommand> {
    const server = this.start(command, {}, this.world);
    const [, url = ''] = await server.said(/listens on (tcp:\S+)/);
    this.url = url;
    this.#port = new URL(url).port;
    return server;
  }

  async worker(command: string): Promise<RunningCommand> {
    const worker = this.start(command);
    await worker.said(/ takes /);
    return worker;
  }

  async connect(): Promise<Client> {
    const client = await connect(this.url, { reconnect: RECONNECT });
    this.#clients.push(client);
    return client;
  }

  start(
    command: string,
    names: Record<string, string> = {},
    { environment, ...world }: Partial<CommandOptions> = {},
  ): RunningCommand {
    const [program, ...args] = this.#asHere(command, names).split(/ +/);
    if (program !== 'millrace') throw new Error(`${command} is no command of millrace`);
    // A server that is told where another one is says that it does not care.
    const place = args[0] === 'server' ? { MILLRACE_PORT: this.#port } : { MILLRACE_URL: this.url };
    const started = new RunningCommand(args, {
      ...world,
      directory: this.directory,
      environment: { ...place, ...environment },
    });
    this.#running.push(started);
    return started;
  }

  /** A command of millrace, or of the system. */
  async run(command: string, names: Record<string, string> = {}): Promise<Finished> {
    if (command.startsWith('millrace server')) return await this.start(command, names, this.world).exited;
    if (command.startsWith('millrace ')) return await this.start(command, names).exited;
    return await new Promise((resolve) => {
      execFile('sh', ['-c', this.#asHere(command, names)], { cwd: this.directory }, (error, stdout, stderr) => {
        resolve({ code: Number(error?.code ?? 0), stdout, stderr });
      });
    });
  }

  /** What the handlers of all workers did. */
  runs(): Run[] {
    const path = join(this.directory, 'runs.ndjson');
    if (!existsSync(path)) return [];
    const lines = readFileSync(path, 'utf8').split('\n').slice(0, -1);
    return lines.map((line) => JSON.parse(line) as Run);
  }

  /** Paths as the page has them. */
  asOnPage(text: string): string {
    let onPage = text;
    for (const [place, name] of PLACES) onPage = onPage.replaceAll(join(this.directory, name), place);
    return onPage;
  }

  async clear(): Promise<void> {
    await Promise.all(this.#clients.map((client) => client.close({ timeoutMs: 0 })));
    await Promise.all(this.#running.map((command) => command.kill()));
    rmSync(this.directory, { recursive: true });
  }

  #asHere(command: string, names: Record<string, string>): string {
    let here = command;
    for (const [place, name] of PLACES) here = here.replaceAll(place, join(this.directory, name));
    for (const [name, value] of Object.entries(names)) here = here.replaceAll(name, value);
    return here;
  }
}
