import { hostname } from 'node:os';
import type { Grant } from './access/grant.ts';
import type { Broker } from './broker/contract.ts';
import type { EmbeddedOptions, Place } from './broker/embedded/embedded.ts';
import { connectToHost } from './broker/embedded/in-process.ts';
import type { ReconnectOptions } from './broker/tcp/connection.ts';
import { RemoteBroker, type RemoteOptions } from './broker/tcp/remote-broker.ts';
import { Client, type ClientWorld } from './client/client.ts';
import { MillraceError, redact, shown, shownValue } from './errors.ts';
import { SystemClock } from './io/clock.ts';
import { nodeNet } from './io/node-net.ts';
import { SystemRandom } from './io/random.ts';
import { checkTlsOptions, readTls, TLS_KEYS, type TlsOptions } from './io/tls.ts';
import { checkInteger, checkName, DEFAULTS, LIMITS } from './limits.ts';
import { type EncryptionOptions, resolveKeyRing } from './sealing/key-ring.ts';
import { Sealing } from './sealing/sealing.ts';
import type { Host } from './server/host.ts';
import { checkKeys } from './task/options.ts';
import { checkTracing, type Tracing } from './task/tracing.ts';
import { VERSION } from './version.ts';

export interface ClientOptions {
  /** Shown in the server's status and logs. Default `millrace`. */
  name?: string | undefined;
  /** How long to go on trying to reach the server for the first time. Default 10,000. */
  connectTimeoutMs?: number | undefined;
  /** How long an enqueue may wait for its confirmation. Default 30,000. */
  enqueueTimeoutMs?: number | undefined;
  /** How long any other call may wait for its answer. Default 15,000. */
  callTimeoutMs?: number | undefined;
  /** Pauses between attempts when the connection was lost. Default: 100 ms doubling to 5 s, a third of it drawn, for ever. */
  reconnect?: Partial<ReconnectOptions> | undefined;
  /**
   * `tcp:` and `tls:` only: the secret of one of the server's credentials, when it asks for any. Default: what is in the
   * environment as `MILLRACE_TOKEN`.
   */
  token?: string | undefined;
  /** `tls:` and `amqps:`, and for a `store` whose URL has an `sslmode`. */
  tls?: TlsOptions | undefined;
  /** `amqp:` only: `postgres://HOST/DATABASE`, which remembers what a message broker cannot. */
  store?: string | undefined;
  /** `memory:` and `file:` only: what a server of one's own would be told on its command line. */
  embedded?: EmbeddedOptions | undefined;
  /** `amqp:` and `amqps:` only. */
  amqp?: AmqpOptions | undefined;
  /** Spans of OpenTelemetry for what this client enqueues and its workers run: `tracing()` of `millrace/otel`. Default: none. */
  tracing?: Tracing | undefined;
  /**
   * Encrypts payloads, results and the texts of errors (AES-256-GCM), so that the server and whoever looks at it never see them:
   * docs/encryption.md. Default: not.
   */
  encryption?: EncryptionOptions | undefined;
}

/** How RabbitMQ is used. All programs that share queues must say the same. */
export interface AmqpOptions {
  /** `quorum` (default): replicated, survives the loss of a node. `classic`: on one node. */
  queueType?: 'quorum' | 'classic' | undefined;
  /** Whether workers send this client the ends of its tasks. `none`: for producers that never ask for results. Default `all`. */
  replies?: 'all' | 'none' | undefined;
  /** What the names of all queues and exchanges begin with: 1 to 32 letters, digits and `_`. Default `millrace`. */
  prefix?: string | undefined;
}

const KEYS = [
  'name',
  'connectTimeoutMs',
  'enqueueTimeoutMs',
  'callTimeoutMs',
  'reconnect',
  'token',
  'tls',
  'store',
  'embedded',
  'amqp',
  'tracing',
  'encryption',
];
const AMQP_KEYS = ['queueType', 'replies', 'prefix'];
const EMBEDDED_KEYS = ['fsync', 'fsyncIntervalMs', 'retention', 'cacheBytes', 'segmentBytes'];
const RECONNECT_KEYS = ['initialDelayMs', 'factor', 'maxDelayMs', 'jitter', 'giveUpAfterMs'];
const SCHEMES =
  'memory: (this process only), file:DIRECTORY (this process, on disk), tcp://HOST:PORT (a server; tls:// encrypted), amqp://HOST (RabbitMQ; amqps:// encrypted)';

/**
 * Connects to the backend that the URL names: `memory:` or `memory:NAME` (shared by all clients of this process that name
 * it), `file:DIRECTORY`, `tcp://HOST:PORT` (port 5555 unless given; `tls:` over TLS), `amqp://USER:PASSWORD@HOST:PORT/VHOST`
 * (`amqps:` over TLS; guest, port 5672 and / unless given).
 *
 * Rejects with INVALID_ARGUMENT, UNSUPPORTED, DISCONNECTED (no server within `connectTimeoutMs`), UNAUTHENTICATED (one side
 * does not accept the other's token or certificate), PROTOCOL, PROTOCOL_VERSION; for `file:` with DIRECTORY_LOCKED,
 * JOURNAL_DAMAGED, JOURNAL_VERSION or JOURNAL_UNUSABLE.
 */
export async function connect(url: string, options: ClientOptions = {}): Promise<Client> {
  return (await open(url, options)).client;
}

/** A client with the broker under it, for what is built over either. */
export interface Opened {
  readonly client: Client;
  readonly broker: Broker;
}

/** As `connect`. */
export async function open(url: string, options: ClientOptions = {}): Promise<Opened> {
  checkKeys('connect', options, KEYS);
  if (typeof url !== 'string') {
    throw new MillraceError(
      'INVALID_ARGUMENT',
      `the URL of a backend is a text, not ${shown(url)}; there are ${SCHEMES}`,
    );
  }
  const { tracing, encryption } = options;
  checkTracing(tracing);
  const sealing = encryption === undefined ? undefined : new Sealing(resolveKeyRing(encryption));
  const remote = resolveRemote(url, options);
  return opened(await openBackend(url, options, remote), remote, { tracing, sealing });
}

/** To a host in this process, as whoever has the grant. It ends by itself: the client is to be closed before or after. */
export async function openHost(host: Host, url: string, grant?: Grant): Promise<Opened> {
  const remote = resolveRemote(url, {});
  return opened(await connectToHost(host, remote, grant), remote);
}

function opened(
  broker: Broker,
  { clock, identity: { host, pid } }: Remote,
  more: Pick<ClientWorld, 'tracing' | 'sealing'> = {},
): Opened {
  const client = new Client(broker, { clock, workerName: `${host}:${pid}`.slice(-100), ...more });
  return { broker, client };
}

type Remote = Omit<RemoteOptions, 'dial' | 'lifelines' | 'closed'>;

function openBackend(url: string, options: ClientOptions, remote: Remote): Promise<Broker> {
  const scheme = /^[a-z][a-z0-9+.-]*:/i.exec(url)?.[0].toLowerCase();
  checkSecurity(scheme, options);
  if (options.store !== undefined && scheme !== 'amqp:' && scheme !== 'amqps:') {
    const message = 'the option `store` is for amqp: URLs: other backends remember their tasks themselves';
    throw new MillraceError('INVALID_ARGUMENT', message);
  }
  switch (scheme) {
    case 'memory:':
      return connectInProcess({ memory: url.slice(scheme.length) }, options, remote);
    case 'file:':
      return connectInProcess({ directory: directoryOf(url) }, options, remote);
    case 'tcp:':
    case 'tls:':
      return connectServer(url, scheme, options, remote);
    case 'amqp:':
    case 'amqps:':
      return connectRabbit(url, options, remote);
    default:
      throw new MillraceError('INVALID_ARGUMENT', `${shown(redact(url))} is no URL of a backend; there are ${SCHEMES}`);
  }
}

/** As RabbitMQ's, it is loaded by those who use it: a client of a server starts in half the time without. */
async function connectInProcess(place: Place, { embedded = {} }: ClientOptions, remote: Remote): Promise<Broker> {
  checkKeys('embedded', embedded, EMBEDDED_KEYS);
  const { checkEmbeddedOptions, connectEmbedded } = await import('./broker/embedded/embedded.ts');
  checkEmbeddedOptions(embedded);
  return connectEmbedded(place, remote, embedded);
}

function connectServer(url: string, scheme: 'tcp:' | 'tls:', options: ClientOptions, remote: Remote): Promise<Broker> {
  if (options.embedded !== undefined) {
    const message = 'the option `embedded` is for memory: and file: URLs: a server is configured where it is started';
    throw new MillraceError('INVALID_ARGUMENT', message);
  }
  const address = addressOf(url, scheme);
  const { tls = {} } = options;
  const timeoutMs = remote.connectTimeoutMs;
  return RemoteBroker.connect({
    ...remote,
    token: tokenOf(options),
    lifelines: true,
    dial: async (signal) => {
      const target = scheme === 'tls:' ? { ...address, tls: await readTls(tls) } : address;
      return nodeNet.connect(target, timeoutMs, signal);
    },
  });
}

/** Throws INVALID_ARGUMENT for what the backend has no use for: whoever gave it takes it to be in force. */
function checkSecurity(scheme: string | undefined, { token, tls, store }: ClientOptions): void {
  if (token !== undefined && scheme !== 'tcp:' && scheme !== 'tls:') {
    const message = 'the option `token` is for tcp: and tls: URLs: no other backend asks for one';
    throw new MillraceError('INVALID_ARGUMENT', message);
  }
  if (tls === undefined) return;
  checkKeys('tls', tls, TLS_KEYS);
  checkTlsOptions(tls);
  if (scheme === 'tls:' || scheme === 'amqps:' || store !== undefined) return;
  const message =
    'the option `tls` is for tls: and amqps: URLs, and for a store: this URL would connect without encryption';
  throw new MillraceError('INVALID_ARGUMENT', message);
}

/** Throws INVALID_ARGUMENT, and never shows it. */
function tokenOf({ token = process.env.MILLRACE_TOKEN || undefined }: ClientOptions): string | undefined {
  const bound = LIMITS.secretCharactersMax;
  if (token === undefined || (typeof token === 'string' && /^[^\s\p{Cc}]+$/u.test(token) && token.length <= bound)) {
    return token;
  }
  const message = `the token is no secret of a server's credentials, which is one word of at most ${bound} characters`;
  throw new MillraceError('INVALID_ARGUMENT', message);
}

async function connectRabbit(url: string, options: ClientOptions, remote: Remote): Promise<Broker> {
  const { amqp = {} } = options;
  checkKeys('amqp', amqp, AMQP_KEYS);
  const { queueType = DEFAULTS.amqp.queueType, replies = DEFAULTS.amqp.replies, prefix = DEFAULTS.amqp.prefix } = amqp;
  checkChoice('amqp.queueType', queueType, ['quorum', 'classic']);
  checkChoice('amqp.replies', replies, ['all', 'none']);
  if (typeof prefix !== 'string' || !/^\w{1,32}$/.test(prefix)) {
    throw new MillraceError(
      'INVALID_ARGUMENT',
      `amqp.prefix is ${shown(prefix)}; allowed are 1 to 32 letters, digits and _`,
    );
  }
  const { clock, random, reconnect, connectTimeoutMs, enqueueTimeoutMs, callTimeoutMs, identity } = remote;
  const [{ parseAddress }, { RabbitBroker }, { PostgresStore }] = await Promise.all([
    import('./broker/rabbitmq/address.ts'),
    import('./broker/rabbitmq/rabbit-broker.ts'),
    import('./broker/postgres/postgres-store.ts'),
  ]);
  const address = parseAddress(url);
  const store =
    options.store === undefined
      ? undefined
      : await PostgresStore.connect({ url: options.store, clock, random, connectTimeoutMs, tls: options.tls });
  return RabbitBroker.connect({
    ...{ clock, random, reconnect, connectTimeoutMs, enqueueTimeoutMs, callTimeoutMs, queueType, replies, prefix },
    address,
    tls: options.tls ?? {},
    clientName: `${identity.client} (${identity.host}:${identity.pid})`,
    process: { host: identity.host, pid: identity.pid },
    store,
  });
}

function checkChoice(what: string, value: unknown, allowed: readonly string[]): void {
  if (allowed.includes(value as string)) return;
  throw new MillraceError('INVALID_ARGUMENT', `${what} is ${shown(value)}; allowed are ${allowed.join(' and ')}`);
}

function resolveRemote(url: string, options: ClientOptions): Remote {
  const random = new SystemRandom();
  const client = options.name ?? 'millrace';
  checkName('name', client, LIMITS.queueNameBytesMax);
  const { connectTimeoutMs, enqueueTimeoutMs, callTimeoutMs } = {
    connectTimeoutMs: options.connectTimeoutMs ?? DEFAULTS.connectTimeoutMs,
    enqueueTimeoutMs: options.enqueueTimeoutMs ?? DEFAULTS.enqueueTimeoutMs,
    callTimeoutMs: options.callTimeoutMs ?? DEFAULTS.callTimeoutMs,
  };
  for (const [name, value] of Object.entries({ connectTimeoutMs, enqueueTimeoutMs, callTimeoutMs })) {
    checkInteger(name, value, 1, LIMITS.timeoutMsMax);
  }
  return {
    url,
    clock: new SystemClock(),
    random,
    reconnect: resolveReconnect(options.reconnect),
    connectTimeoutMs,
    enqueueTimeoutMs,
    callTimeoutMs,
    identity: { client, host: hostname(), pid: process.pid, version: VERSION, producer: random.hex(16) },
  };
}

function resolveReconnect(options: Partial<ReconnectOptions> = {}): ReconnectOptions {
  checkKeys('reconnect', options, RECONNECT_KEYS);
  const given = Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined));
  const resolved: ReconnectOptions = { ...DEFAULTS.reconnect, ...given };
  checkInteger('reconnect.initialDelayMs', resolved.initialDelayMs, 1, LIMITS.timeoutMsMax);
  checkInteger('reconnect.maxDelayMs', resolved.maxDelayMs, resolved.initialDelayMs, LIMITS.timeoutMsMax);
  for (const [name, value, min, max] of [
    ['factor', resolved.factor, 1, 100],
    ['jitter', resolved.jitter, 0, 1],
    ['giveUpAfterMs', resolved.giveUpAfterMs, 0, Number.POSITIVE_INFINITY],
  ] as const) {
    if (typeof value === 'number' && value >= min && value <= max) continue;
    const message = `reconnect.${name} is ${shown(value)}; allowed are ${min} to ${max}`;
    throw new MillraceError('INVALID_ARGUMENT', message, { details: { value: shownValue(value), min, max } });
  }
  return resolved;
}

/** `file:./data`, `file:/var/lib/x` and `file:///var/lib/x`. */
function directoryOf(url: string): string {
  const path = url.slice('file:'.length);
  const directory = decoded(path.startsWith('///') ? path.slice(2) : path);
  if (directory !== undefined && directory !== '' && !directory.startsWith('//')) return directory;
  throw new MillraceError(
    'INVALID_ARGUMENT',
    `${shown(url)} names no directory: write file:./data or file:/var/lib/data, with % as %25`,
  );
}

/** Undefined for what is no percent-encoding, and for a name that no file may have. */
function decoded(path: string): string | undefined {
  try {
    const name = decodeURIComponent(path);
    return name.includes('\0') ? undefined : name;
  } catch {
    return undefined;
  }
}

function addressOf(url: string, scheme: string): { host: string; port: number } {
  const parsed = URL.canParse(url) ? new URL(url) : undefined;
  if (parsed !== undefined && (parsed.username !== '' || parsed.password !== '')) {
    // What stands there may be a secret.
    const message = `a ${scheme} URL has no user and no password: give a token with the option \`token\`, or in MILLRACE_TOKEN`;
    throw new MillraceError('INVALID_ARGUMENT', message);
  }
  if (parsed === undefined || parsed.hostname === '' || !['', '/'].includes(parsed.pathname)) {
    throw new MillraceError('INVALID_ARGUMENT', `${shown(redact(url))} is not of the form ${scheme}//HOST:PORT`);
  }
  return {
    host: parsed.hostname.replace(/^\[|\]$/g, ''),
    port: parsed.port === '' ? DEFAULTS.port : Number(parsed.port),
  };
}
