import { rm } from 'node:fs/promises';
import { type Client, type ClientOptions, connect } from '../../src/index.ts';
import { Server, type ServerOptions } from '../../src/server/server.ts';
import { temporaryDirectory } from './backends.ts';
import { TcpProxy } from './tcp-proxy.ts';

/** Comes back quickly, so that tests do. */
const RECONNECT = { initialDelayMs: 5, maxDelayMs: 50 };

/** A server that can be stopped and started, its clients, and trouble between them. */
export class TcpScene {
  readonly proxy: TcpProxy;
  readonly #directory: string;
  readonly #options: Partial<ServerOptions>;
  readonly #clients: Client[] = [];
  #server: Server;

  static async open(options: Partial<ServerOptions> = {}): Promise<TcpScene> {
    const directory = await temporaryDirectory();
    const server = await Server.start({ ...options, directory, port: 0 });
    return new TcpScene(directory, server, options, await TcpProxy.start(server.port));
  }

  private constructor(directory: string, server: Server, options: Partial<ServerOptions>, proxy: TcpProxy) {
    this.#directory = directory;
    this.#server = server;
    this.#options = options;
    this.proxy = proxy;
  }

  get server(): Server {
    return this.#server;
  }

  /** A client with nothing in between. */
  direct(options: ClientOptions = {}): Promise<Client> {
    return this.#connect(this.#server.url, options);
  }

  /** A client behind the proxy. */
  behind(options: ClientOptions = {}): Promise<Client> {
    return this.#connect(this.proxy.url, options);
  }

  /** Until `startServer`, connections are refused. */
  async stopServer(timeoutMs = 0): Promise<void> {
    await this.#server.stop({ timeoutMs });
  }

  async startServer(): Promise<void> {
    this.#server = await Server.start({ ...this.#options, directory: this.#directory, port: this.#server.port });
  }

  async restartServer(): Promise<void> {
    await this.stopServer();
    await this.startServer();
  }

  async close(): Promise<void> {
    this.proxy.pass();
    await Promise.all(this.#clients.map((client) => client.close({ timeoutMs: 0 })));
    await this.proxy.stop();
    await this.#server.stop({ timeoutMs: 0 });
    await rm(this.#directory, { recursive: true });
  }

  async #connect(url: string, options: ClientOptions): Promise<Client> {
    const client = await connect(url, { reconnect: RECONNECT, ...options });
    this.#clients.push(client);
    return client;
  }
}
