import { redact } from '../errors.ts';
import { serveOverBackend } from '../serve.ts';
import type { Access } from './access.ts';
import { UsageError } from './failure.ts';
import { type HttpValues, httpSettings, logHttp } from './http.ts';
import type { Log } from './log.ts';
import { catchStopSignals } from './signals.ts';

interface GatewayValues extends HttpValues {
  readonly url: string;
  readonly store: string | undefined;
  readonly stopTimeoutMs: number;
}

/** HTTP over a backend that is elsewhere. Resolves when it was stopped. */
export async function serveGateway(values: GatewayValues, access: Access, log: Log): Promise<void> {
  const { url, store, stopTimeoutMs } = values;
  const settings = httpSettings(values, access, log);
  if (settings === undefined) {
    throw new UsageError('with an amqp:// URL only HTTP is served, and --http-port is off: nothing is left to do');
  }
  const stopSignal = catchStopSignals((signal) => log.all.warn(`${signal} again: ending at once`), access.stopSignals);
  const service = await serveOverBackend(url, { name: 'millrace server', store }, settings);
  access.follow({ http: (tls) => service.renewTls(tls) });
  logHttp(service, log);
  log.all.info(`over ${redact(url)}${store === undefined ? '' : ` and ${redact(store)}`} (process ${process.pid})`);
  log.all.info(`${await stopSignal.received}: stopping`);
  await service.stop({ timeoutMs: stopTimeoutMs });
  stopSignal.release();
  log.all.info('stopped');
}
