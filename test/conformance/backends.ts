import { randomUUID } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Server } from '../../src/server/server.ts';
import { type Backend, UrlPlace } from './place.ts';

const MEMORY_KEEPS_NOTHING = 'memory: keeps its tasks for as long as somebody has it open';

export const memory: Backend = {
  name: 'memory:',
  exceptions: {
    'tasks of every state are found again after everything was closed and opened': MEMORY_KEEPS_NOTHING,
    'results and errors are found again after everything was closed and opened': MEMORY_KEEPS_NOTHING,
    'a task that waits for its time still does after everything was closed and opened': MEMORY_KEEPS_NOTHING,
    'pauses, retention and totals are found again after everything was closed and opened': MEMORY_KEEPS_NOTHING,
    'a task that ran when everything was closed runs again uncharged': MEMORY_KEEPS_NOTHING,
    'failed attempts count on after everything was closed and opened': MEMORY_KEEPS_NOTHING,
    'dependencies are found again after everything was closed and opened': MEMORY_KEEPS_NOTHING,
    'unique keys are held after everything was closed and opened': MEMORY_KEEPS_NOTHING,
    'limits and keys are found again after everything was closed and opened': MEMORY_KEEPS_NOTHING,
    'schedules are found again after everything was closed and opened': MEMORY_KEEPS_NOTHING,
    'of the times that were missed while everything was closed, once fires one task and all a task for each':
      MEMORY_KEEPS_NOTHING,
    'what was retried and cancelled together is found so after everything was closed and opened': MEMORY_KEEPS_NOTHING,
    'ids never repeat, however often everything is closed and opened': MEMORY_KEEPS_NOTHING,
    'headers are found again after everything was closed and opened': MEMORY_KEEPS_NOTHING,
  },
  open: async () => new MemoryPlace(),
};

export const file: Backend = {
  name: 'file:',
  exceptions: {},
  open: async () => new FilePlace(await temporaryDirectory()),
};

export const tcp: Backend = {
  name: 'tcp:',
  exceptions: {},
  open: async () => TcpPlace.start(await temporaryDirectory()),
};

export function temporaryDirectory(): Promise<string> {
  return mkdtemp(join(tmpdir(), 'millrace-conformance-'));
}

class MemoryPlace extends UrlPlace {
  readonly url = `memory:${randomUUID()}`;

  override async restart(meanwhile?: () => Promise<void>): Promise<void> {
    await this.closeClients();
    await meanwhile?.();
  }
}

class FilePlace extends UrlPlace {
  readonly url: string;
  readonly #directory: string;

  constructor(directory: string) {
    super();
    this.#directory = directory;
    this.url = `file:${directory}`;
  }

  override async restart(meanwhile?: () => Promise<void>): Promise<void> {
    await this.closeClients();
    await meanwhile?.();
  }

  override async close(): Promise<void> {
    await super.close();
    await rm(this.#directory, { recursive: true });
  }
}

class TcpPlace extends UrlPlace {
  readonly url: string;
  readonly #directory: string;
  #server: Server;

  static async start(directory: string): Promise<TcpPlace> {
    return new TcpPlace(directory, await Server.start({ directory, port: 0 }));
  }

  private constructor(directory: string, server: Server) {
    super();
    this.#directory = directory;
    this.#server = server;
    this.url = server.url;
  }

  override async restart(meanwhile?: () => Promise<void>): Promise<void> {
    await this.closeClients();
    const { port } = this.#server;
    await this.#server.stop({ timeoutMs: 0 });
    await meanwhile?.();
    this.#server = await Server.start({ directory: this.#directory, port });
  }

  override async close(): Promise<void> {
    await super.close();
    await this.#server.stop({ timeoutMs: 0 });
    await rm(this.#directory, { recursive: true });
  }
}
