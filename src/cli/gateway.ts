import { open } from '../connect.ts';
import { redact } from '../errors.ts';
import { UsageError } from './failure.ts';
import { type HttpValues, startHttp } from './http.ts';
import type { Log } from './log.ts';
import { catchStopSignals } from './signals.ts';

interface GatewayValues extends HttpValues {
  readonly url: string;
  readonly store: string | undefined;
  readonly stopTimeoutMs: number;
}

/** HTTP over a backend that is elsewhere. Resolves when it was stopped. */
export async function serveGateway(values: GatewayValues, log: Log): Promise<void> {
  const { url, store, stopTimeoutMs } = values;
  if (values.httpPort === 'off') {
    throw new UsageError('with an amqp:// URL only HTTP is served, and --http-port is off: nothing is left to do');
  }
  const stopSignal = catchStopSignals((signal) => log.all.warn(`${signal} again: ending at once`));
  const opened = await open(url, { name: 'millrace server', store });
  const remembers = store !== undefined;
  const features = { tasks: remembers, events: remembers, schedules: remembers, limits: false };
  try {
    const http = await startHttp(values, { ...opened, features }, log);
    log.all.info(`over ${redact(url)}${store === undefined ? '' : ` and ${redact(store)}`} (process ${process.pid})`);
    log.all.info(`${await stopSignal.received}: stopping`);
    await http?.stop({ timeoutMs: stopTimeoutMs });
  } finally {
    await opened.client.close({ timeoutMs: stopTimeoutMs });
    stopSignal.release();
  }
  log.all.info('stopped');
}
