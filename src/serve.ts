import { Keyring } from './access/keyring.ts';
import { type ClientOptions, type Opened, open, openHost } from './connect.ts';
import type { HttpServerOptions } from './http/http-server.ts';
import { SystemClock } from './io/clock.ts';
import type { TlsServing } from './io/tls.ts';
import type { Server } from './server/server.ts';

/** What whoever serves HTTP decides; the rest follows from the backend. */
export type HttpSettings = Omit<HttpServerOptions, 'access' | keyof Backend | 'broker' | 'client' | 'clock'> & {
  /** Default: whoever is on this machine may do everything. */
  readonly access?: HttpServerOptions['access'];
};

type Backend = Pick<HttpServerOptions, 'features' | 'telemetry' | 'openFor'>;

export interface HttpService {
  readonly url: string;
  /** See `HttpServer.renewTls`. */
  renewTls(tls: TlsServing): void;
  /** Ends what waits for tasks or events, and waits up to `timeoutMs` for leases to be settled. Always resolves. */
  drain(options: { timeoutMs: number }): Promise<void>;
  /** Waits up to `timeoutMs` for what is leased and for what is being answered. Always resolves. */
  stop(options: { timeoutMs: number }): Promise<void>;
}

/** HTTP over a server of this process, which ends by itself. Rejects with ADDRESS_IN_USE, INVALID_ARGUMENT. */
export async function serveOverServer({ host, url }: Server, settings: HttpSettings): Promise<HttpService> {
  const features = { tasks: true, events: true, schedules: true, limits: true };
  const openFor: Backend['openFor'] = (grant) => openHost(host, url, grant);
  return await serve(await openHost(host, url), { features, telemetry: host, openFor }, settings);
}

/** HTTP over a backend that is elsewhere. Rejects like `connect` and `serveOverServer`. */
export async function serveOverBackend(
  url: string,
  options: ClientOptions,
  settings: HttpSettings,
): Promise<HttpService> {
  const remembers = options.store !== undefined;
  const features = { tasks: remembers, events: remembers, schedules: remembers, limits: false };
  return await serve(await open(url, options), { features }, settings);
}

async function serve(opened: Opened, backend: Backend, settings: HttpSettings): Promise<HttpService> {
  const { client } = opened;
  const { access = { keyring: new Keyring(), hostNames: [] } } = settings;
  try {
    // Loaded only here: nobody else needs a web server.
    const { HttpServer } = await import('./http/http-server.ts');
    const http = await HttpServer.start({ ...settings, ...opened, ...backend, access, clock: new SystemClock() });
    return {
      url: http.url,
      renewTls: (tls) => http.renewTls(tls),
      drain: (options) => http.drain(options),
      stop: async ({ timeoutMs }) => {
        await http.stop({ timeoutMs });
        await client.close({ timeoutMs });
      },
    };
  } catch (error) {
    await client.close({ timeoutMs: 0 });
    throw error;
  }
}
