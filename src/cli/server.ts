import type { Command } from 'commander';
import type { Status } from '../broker/contract.ts';
import { MillraceError, redact } from '../errors.ts';
import { DEFAULTS, isLoopback, LIMITS } from '../limits.ts';
import { type HttpService, serveOverServer } from '../serve.ts';
import type { Server } from '../server/server.ts';
import { ACCESS_FLAGS, Access, checkAccessFlags, connectionsPerAddress, hasCredentials } from './access.ts';
import { addCommand } from './command.ts';
import { CommandFailed, isSystemError, UsageError } from './failure.ts';
import { choice, flag, flagName, integer, text, toggle, type Values } from './flags.ts';
import { serveGateway } from './gateway.ts';
import { checkHttpFlags, HTTP_FLAGS, httpSettings, logHttp } from './http.ts';
import { type Log, logFile, logLevel, openLog } from './log.ts';
import { keepRunningWithoutReader } from './output.ts';
import { describeFound, describeJournal, describeTorn, describeTraffic, trafficKey } from './server-report.ts';
import { catchStopSignals } from './signals.ts';
import { formatDuration } from './units.ts';

const FLAGS = {
  data: flag(text('dir'), 'data directory, made when missing', './millrace-data'),
  host: flag(text('host'), 'address to listen on', DEFAULTS.host as string),
  port: flag(integer(0, 65_535), 'TCP port; 0 takes a free one', DEFAULTS.port as number),
  insecureBind: toggle(
    'the network is trusted: let --host be an address that other machines reach without --credentials or TLS',
  ),
  ...ACCESS_FLAGS,
  fsync: flag(
    choice('always', 'interval', 'never'),
    'always: a confirmed task is on disk; interval, never: a power cut loses confirmed tasks',
    'always',
  ),
  fsyncIntervalMs: flag(
    integer(1, LIMITS.fsyncIntervalMsMax, 'ms'),
    'with --fsync interval',
    DEFAULTS.fsyncIntervalMs as number,
  ),
  connectionsMax: flag(integer(1, 65_536), 'connections at the same time', LIMITS.connectionsMax as number),
  logFile: logFile('server.log'),
  logLevel,
  statsIntervalMs: flag(integer(100, 3_600_000, 'ms'), 'how often the traffic is logged', 5000),
  stopTimeoutMs: flag(
    integer(0, 600_000, 'ms'),
    'how long a stop waits for running tasks',
    DEFAULTS.stopTimeoutMs as number,
  ),
  json: toggle('log JSON lines to the console too'),
  ...HTTP_FLAGS,
  url: flag(text('url'), 'amqp://HOST: serve only HTTP, for RabbitMQ there; tcp:// URLs are for clients and ignored'),
  store: flag(text('url'), 'with amqp://: the PostgreSQL that remembers its tasks, postgres://HOST/DATABASE'),
};

type ServerValues = Values<typeof FLAGS>;

export function register(program: Command): void {
  addCommand(program, {
    usage: 'server',
    summary: 'run the server',
    details:
      'SIGTERM or SIGINT stops it: running tasks may end, what is left is handed out again after the next start. ' +
      'A second signal ends it at once; confirmed tasks are safe then too. With --credentials or --tls-cert SIGHUP has these ' +
      'files read again, which happens by itself within seconds of a change.',
    flags: FLAGS,
    examples: [
      'millrace server --data /var/lib/millrace --log-file /var/log/millrace.log',
      'millrace server --port 0 --fsync interval --fsync-interval-ms 50',
      'millrace server --host 0.0.0.0 --credentials credentials --tls-cert cert.pem --tls-key key.pem',
      'millrace server --url amqp://127.0.0.1 --store postgres://127.0.0.1/tasks',
    ],
    run: serve,
  });
}

/** Resolves when it was stopped. */
async function serve(values: ServerValues): Promise<void> {
  const gatewayUrl = values.url !== undefined && /^amqps?:/i.test(values.url) ? values.url : undefined;
  if (gatewayUrl === undefined) checkBind(values);
  else checkGateway(values);
  checkAccessFlags(values);
  checkHttpFlags(values);
  keepRunningWithoutReader();
  const { logLevel: level, logFile: file, json } = values;
  const log = openLog({ name: 'server', level, file, console: json ? 'json' : 'text' });
  process.on('uncaughtExceptionMonitor', (err) => log.file.fatal({ err }, 'the server ends: a defect'));
  if (gatewayUrl === undefined) logUnused(values, log);
  let access: Access | undefined;
  try {
    access = await Access.open(values, log);
    await (gatewayUrl === undefined
      ? serveAndLog(values, access, log)
      : serveGateway({ ...values, url: gatewayUrl }, access, log));
  } catch (err) {
    // The console gets its one line from main.
    log.file.fatal({ err }, 'the server ends');
    throw err;
  } finally {
    access?.stop();
  }
}

async function serveAndLog(values: ServerValues, access: Access, log: Log): Promise<void> {
  let failed: (error: MillraceError) => void = () => {};
  const failure = new Promise<never>((_, reject) => {
    failed = reject;
  });
  // Whoever races against it is told; before that nobody listens.
  failure.catch(() => {});
  const stopSignal = catchStopSignals((signal) => log.all.warn(`${signal} again: ending at once`), access.stopSignals);
  const server = await Promise.race([start(values, access, log, failed), stopSignal.received]);
  if (typeof server === 'string') {
    log.all.info(`${server} during the start: ended; nothing was changed`);
    process.exit(0);
  }
  const statusOf = (): Status => server.host.status() as unknown as Status;
  logStart(server, values, statusOf(), log);
  logAccess(values, log);
  const http = await startHttp(server, values, access, log);
  access.follow({ tcp: (tls) => server.renewTls(tls), http: (tls) => http?.renewTls(tls) });
  const stats = logTraffic(statusOf, values.statsIntervalMs, log);
  try {
    const signal = await Promise.race([stopSignal.received, failure]);
    const running = statusOf().queues.reduce((sum, queue) => sum + queue.active, 0);
    const patience = running === 0 ? '' : `; up to ${formatDuration(values.stopTimeoutMs)} for what runs (${running})`;
    log.all.info(`${signal}: stopping${patience}`);
    const drained = http?.drain({ timeoutMs: values.stopTimeoutMs });
    const unwritten = await Promise.race([server.stop({ timeoutMs: values.stopTimeoutMs }), failure]);
    await drained;
    await http?.stop({ timeoutMs: HTTP_STOP_MS });
    if (unwritten !== undefined) throw unwritten;
    log.all.info('stopped');
  } catch (error) {
    // Storage has failed: those connected were told; there is nothing left that could be written. Said before anything that may
    // take long, in case that the process does not live to the end of it.
    log.file.error({ err: error }, 'storage has failed: cutting off who is connected');
    await Promise.race([server.stop({ timeoutMs: 0 }), new Promise((resolve) => setTimeout(resolve, 500))]);
    killIfHung();
    await http?.stop({ timeoutMs: HTTP_STOP_MS });
    throw error;
  } finally {
    clearInterval(stats);
    stopSignal.release();
  }
}

/** HTTP over this server, as long as the server lasts. */
async function startHttp(
  server: Server,
  values: ServerValues,
  access: Access,
  log: Log,
): Promise<HttpService | undefined> {
  try {
    const settings = httpSettings(values, access, log);
    if (settings === undefined) return undefined;
    const service = await serveOverServer(server, settings);
    logHttp(service, log);
    return service;
  } catch (error) {
    await server.stop({ timeoutMs: 0 });
    throw error;
  }
}

/** For what is being answered when everything else has ended. */
const HTTP_STOP_MS = 1000;

/** Beyond that there is time to say why it ends. */
const HUNG_MS = HTTP_STOP_MS + 4000;

/** A write that hangs in the system keeps the process from exiting, whatever it calls. */
function killIfHung(): void {
  setTimeout(() => process.kill(process.pid, 'SIGKILL'), HUNG_MS).unref();
}

async function start(
  values: ServerValues,
  access: Access,
  log: Log,
  onFailure: (error: MillraceError) => void,
): Promise<Server> {
  const { data, host, port, fsync, fsyncIntervalMs, connectionsMax } = values;
  try {
    const { Server } = await import('../server/server.ts');
    return await Server.start({
      directory: data,
      host,
      port,
      fsync,
      fsyncIntervalMs,
      connectionsMax,
      connectionsPerAddressMax: connectionsPerAddress(values),
      keyring: access.keyring,
      tls: access.tcpTls,
      onFailure,
      onNotice: (level, message) => log.all[level](message),
    });
  } catch (error) {
    throw explainStart(error, host, port);
  }
}

function explainStart(error: unknown, host: string, port: number): unknown {
  if (error instanceof MillraceError && error.code === 'ADDRESS_IN_USE') {
    const message = `port ${port} on ${host} is taken by another process: stop it, or choose another one with --port`;
    return new MillraceError('ADDRESS_IN_USE', message, { cause: error, details: error.details });
  }
  if (error instanceof MillraceError && error.code === 'JOURNAL_DAMAGED') return error;
  if (!isSystemError(error)) return error;
  if (error.code === 'EACCES' && error.syscall === 'listen') {
    const message = `this user may not listen on port ${port}: choose one above 1023 with --port`;
    return new CommandFailed(error.code, message, { cause: error });
  }
  if (error.code === 'EADDRNOTAVAIL' || error.code === 'ENOTFOUND' || error.code === 'EAI_AGAIN') {
    const message = `--host ${host} is no address of this machine`;
    return new CommandFailed(error.code, message, { cause: error });
  }
  return error;
}

/** Throws a UsageError that says which line mends it. */
function checkBind(values: ServerValues): void {
  const { host, insecureBind, tlsCert } = values;
  if (insecureBind || isLoopback(host)) return;
  if (!hasCredentials(values)) {
    throw new UsageError(
      `--host ${host} lets everyone who reaches this machine use the server, without a password: give it credentials and TLS, ` +
        `\`millrace server --host ${host} --credentials FILE --tls-cert cert.pem --tls-key key.pem\` (a line in FILE is: ` +
        'operate NAME SECRET), add --insecure-bind if the network is trusted, or listen on 127.0.0.1',
    );
  }
  if (tlsCert !== undefined) return;
  throw new UsageError(
    `--host ${host} would send tokens and tasks over the network as they are: add --tls-cert cert.pem --tls-key key.pem, or ` +
      '--insecure-bind if the network is trusted',
  );
}

/** What --insecure-bind has allowed. */
function logAccess(values: ServerValues, log: Log): void {
  const { host, tlsCert } = values;
  if (isLoopback(host)) return;
  if (!hasCredentials(values)) log.all.warn(`whoever reaches ${host} may use this server: it has no --credentials`);
  if (tlsCert === undefined)
    log.all.warn('what clients send, and tokens, go over the network as they are: there is no TLS');
}

/** They may stand in the environment for clients; who means this server by them should know. */
function logUnused({ url, store }: ServerValues, log: Log): void {
  for (const [name, value] of Object.entries({ url, store })) {
    if (value === undefined) continue;
    log.all.info(`--${name} ${redact(value)} is not used: this server keeps its tasks itself, without an amqp:// URL`);
  }
}

const OF_ONES_OWN = [
  ...(['data', 'host', 'port', 'insecureBind', 'tlsClientCa'] as const),
  ...(['fsync', 'fsyncIntervalMs', 'connectionsMax'] as const),
] as const;

/** What makes a server of one's own means nothing for a backend that is elsewhere. */
function checkGateway(values: ServerValues): void {
  for (const key of OF_ONES_OWN) {
    if (values[key] === FLAGS[key].fallback) continue;
    throw new UsageError(
      `${flagName(key)} is for a server of one's own; with an amqp:// URL only HTTP is served, for RabbitMQ there`,
    );
  }
}

function logStart(server: Server, { data, fsync, fsyncIntervalMs }: ServerValues, status: Status, log: Log): void {
  const { report } = server.host;
  const durability = fsync === 'interval' ? `interval (${fsyncIntervalMs} ms)` : fsync;
  const { version, pid } = status.server;
  log.all.info(
    { url: server.url, data, fsync, version, pid, journal: report },
    `Millrace ${version} listens on ${server.url} (process ${pid})`,
  );
  log.all.info(`data in ${data}, fsync ${durability}: ${DURABILITY[fsync]}`);
  log.all.info(`${describeJournal(report)}; ${describeFound(status.queues)}`);
  const torn = describeTorn(report);
  if (torn !== undefined) log.all.warn(torn);
}

const DURABILITY = {
  always: 'a confirmed task is on disk',
  interval: 'a power cut loses the tasks confirmed since the last interval',
  never: 'a power cut loses the tasks that the kernel had not written yet',
};

function logTraffic(statusOf: () => Status, intervalMs: number, log: Log): NodeJS.Timeout {
  let lastKey: string | undefined;
  return setInterval(() => {
    const status = statusOf();
    const key = trafficKey(status);
    if (key === lastKey) return;
    lastKey = key;
    const { throughput, latencyMs, queues, workers, journal, memory } = status;
    log.all.info({ throughput, latencyMs, queues, workers, journal, memory }, describeTraffic(status));
  }, intervalMs);
}
