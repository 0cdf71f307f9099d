import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Client, connect } from '../../src/index.ts';
import { RunningCommand } from '../support/command.ts';

/** A server process of its own, with a client of it here. */
export class Scene {
  readonly client: Client;
  /** Where the dashboard is. */
  readonly url: string;
  readonly #directory: string;
  readonly #tcpUrl: string;
  #server: RunningCommand;

  /** With credentials in the environment, `token` is one of them. */
  static async open(environment: Record<string, string> = {}, token?: string): Promise<Scene> {
    const directory = await mkdtemp(join(tmpdir(), 'millrace-browser-'));
    const server = startServer(directory, { MILLRACE_PORT: '0', MILLRACE_HTTP_PORT: '0', ...environment });
    const [, tcpUrl = ''] = await server.said(/listens on (tcp:\S+)/);
    const [, url = ''] = await server.said(/HTTP API on (http:\S+)/);
    return new Scene(directory, server, url, tcpUrl, await connect(tcpUrl, { token }));
  }

  private constructor(directory: string, server: RunningCommand, url: string, tcpUrl: string, client: Client) {
    this.#directory = directory;
    this.#tcpUrl = tcpUrl;
    this.#server = server;
    this.url = url;
    this.client = client;
  }

  /** As a crash does it. */
  async killServer(): Promise<void> {
    await this.#server.kill();
  }

  /** Where it was before, with the data that it had. */
  async startServerAgain(): Promise<void> {
    const environment = { MILLRACE_PORT: new URL(this.#tcpUrl).port, MILLRACE_HTTP_PORT: new URL(this.url).port };
    this.#server = startServer(this.#directory, environment);
    await this.#server.said(/HTTP API on/);
  }

  async close(): Promise<void> {
    await this.client.close({ timeoutMs: 500 });
    await this.#server.kill();
    await rm(this.#directory, { recursive: true, force: true });
  }
}

function startServer(directory: string, environment: Record<string, string>): RunningCommand {
  return new RunningCommand(['server', '--data', 'data'], {
    directory,
    environment: { MILLRACE_LOG_FILE: 'off', ...environment },
  });
}
