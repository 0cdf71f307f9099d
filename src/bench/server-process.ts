import { setTimeout as delay } from 'node:timers/promises';
import type { QueueStatus, Status } from '../broker/contract.ts';
import { invariant } from '../errors.ts';
import { type HttpService, serveOverServer } from '../serve.ts';
import { Server } from '../server/server.ts';
import { diskBytes } from './disk-bytes.ts';
import { answerParent } from './methods.ts';
import type { FsyncPolicy } from './workload.ts';

let server: Server | undefined;
let http: HttpService | undefined;
let directory = '';

const methods = {
  async start(options: StartOptions): Promise<{ url: string; httpUrl: string | undefined }> {
    directory = options.directory;
    server = await Server.start({
      ...options,
      port: 0,
      onNotice: (level, message) => {
        if (level === 'warn') process.stderr.write(`server: ${message}\n`);
      },
      onFailure: (error) => {
        process.stderr.write(`server: ${error.message}\n`);
        process.exit(1);
      },
    });
    if (options.observed) http = await serveHttp(server);
    return { url: server.url, httpUrl: http?.url };
  },

  async stats(_: Record<string, never>): Promise<ServerStats> {
    invariant(server !== undefined, 'the server was started');
    // What it tells its clients, as it stands.
    const status = server.host.status() as unknown as Status;
    return {
      syncs: status.journal?.syncs ?? 0,
      appendedBytes: status.journal?.appendedBytes ?? 0,
      allocatedBytes: diskBytes(directory),
      rssBytes: process.memoryUsage.rss(),
      queue: status.queues.find(({ name }) => name === 'default'),
    };
  },

  /** What the server takes of the machine, once it has so many completions, or when these do not come. */
  async load({ completed }: { completed: number }): Promise<ServerLoad> {
    invariant(server !== undefined, 'the server was started');
    const { core } = server.host.engine;
    for (let look = 0; core.counters.completed < completed && look < LOOKS_MAX; look++) await delay(LOOK_MS);
    const { user, system } = process.cpuUsage();
    let left = 0;
    for (const { ready, active, scheduled, blocked } of core.queues.values()) {
      left += ready + active + scheduled + blocked;
    }
    return { cpuUs: user + system, rssBytes: process.memoryUsage.rss(), completed: core.counters.completed, left };
  },
};

const LOOK_MS = 2;
const LOOKS_MAX = 5000;

export interface ServerLoad {
  /** Of all its threads since it was started. */
  cpuUs: number;
  rssBytes: number;
  completed: number;
  /** Tasks that have not ended. */
  left: number;
}

interface StartOptions {
  directory: string;
  fsync: FsyncPolicy;
  /** Whether it serves HTTP too. */
  observed: boolean;
  connectionsMax?: number;
}

function serveHttp(server: Server): Promise<HttpService> {
  return serveOverServer(server, {
    host: '127.0.0.1',
    port: 0,
    tls: undefined,
    showPayloads: true,
    onNotice: (_level, message) => process.stderr.write(`server: ${message}\n`),
  });
}

export interface ServerStats {
  syncs: number;
  appendedBytes: number;
  /** What the data directory takes, with room that was allocated ahead. */
  allocatedBytes: number;
  rssBytes: number;
  queue: QueueStatus | undefined;
}

export type ServerMethods = typeof methods;

answerParent(methods, async () => {
  await http?.stop({ timeoutMs: 0 });
  const unwritten = await server?.stop({ timeoutMs: 1000 });
  if (unwritten !== undefined) throw unwritten;
});
