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
  readonly #server: RunningCommand;

  static async open(environment: Record<string, string> = {}): Promise<Scene> {
    const directory = await mkdtemp(join(tmpdir(), 'millrace-browser-'));
    const server = new RunningCommand(['server', '--data', 'data', '--port', '0'], {
      directory,
      environment: { MILLRACE_HTTP_PORT: '0', MILLRACE_LOG_FILE: 'off', ...environment },
    });
    const [, tcpUrl = ''] = await server.said(/listens on (tcp:\S+)/);
    const [, url = ''] = await server.said(/HTTP API on (http:\S+)/);
    return new Scene(directory, server, url, await connect(tcpUrl));
  }

  private constructor(directory: string, server: RunningCommand, url: string, client: Client) {
    this.#directory = directory;
    this.#server = server;
    this.url = url;
    this.client = client;
  }

  /** As a crash does it. */
  async killServer(): Promise<void> {
    await this.#server.kill();
  }

  async close(): Promise<void> {
    await this.client.close({ timeoutMs: 500 });
    await this.#server.kill();
    await rm(this.#directory, { recursive: true, force: true });
  }
}
