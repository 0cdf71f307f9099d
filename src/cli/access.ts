import { stat } from 'node:fs/promises';
import { Credentials } from '../access/credentials.ts';
import { Keyring } from '../access/keyring.ts';
import { SystemClock } from '../io/clock.ts';
import { readAccessFile, type TlsServing } from '../io/tls.ts';
import { WatchedFiles } from '../io/watched-files.ts';
import { LIMITS } from '../limits.ts';
import { describeFailure, UsageError } from './failure.ts';
import { type Flag, flag, integerOrNone, NONE, text, type Values } from './flags.ts';
import type { Log } from './log.ts';
import { STOP_SIGNALS, STOP_SIGNALS_BUT_HANGUP } from './signals.ts';

/** The lines themselves stand in the environment under the name that the flag would have. */
const CREDENTIALS_ENVIRONMENT = 'MILLRACE_CREDENTIALS';

const credentials: Flag<string | undefined> = {
  ...flag(
    text('file'),
    `who may do what, over TCP and HTTP: a line is ROLES NAME SECRET [QUEUE …], ROLES some of produce, work, read, operate (the lines may stand in ${CREDENTIALS_ENVIRONMENT} instead)`,
  ),
  environment: `${CREDENTIALS_ENVIRONMENT}_FILE`,
};

/** Of commands that others connect to. */
export const ACCESS_FLAGS = {
  credentials,
  tlsCert: flag(text('file'), 'PEM certificate: TLS on the TCP port, and on HTTP unless a proxy does it there'),
  tlsKey: flag(text('file'), 'PEM key of the certificate'),
  tlsClientCa: flag(text('file'), 'PEM: over TCP clients must show a certificate that one of these has signed'),
  connectionsPerAddressMax: flag(
    integerOrNone(1, 65_536),
    'connections at the same time from one address (IPv6: from its /64), over TCP, and as many over HTTP unless that is behind a proxy',
    NONE as number | typeof NONE,
  ),
};

/** Undefined: none. */
export function connectionsPerAddress({
  connectionsPerAddressMax,
}: Pick<AccessValues, 'connectionsPerAddressMax'>): number | undefined {
  return connectionsPerAddressMax === NONE ? undefined : connectionsPerAddressMax;
}

/** HTTP may have a certificate of its own. */
export interface AccessValues extends Values<typeof ACCESS_FLAGS> {
  readonly httpTlsCert: string | undefined;
  readonly httpTlsKey: string | undefined;
  readonly httpTlsClientCa: string | undefined;
  readonly httpBehindProxy: boolean;
}

export function hasCredentials({ credentials }: Pick<AccessValues, 'credentials'>): boolean {
  return credentials !== undefined || (process.env[CREDENTIALS_ENVIRONMENT] ?? '') !== '';
}

/** Throws a UsageError. */
export function checkAccessFlags(values: AccessValues): void {
  const { tlsCert, tlsKey, tlsClientCa, httpTlsCert, httpTlsKey, httpTlsClientCa } = values;
  if ((tlsCert === undefined) !== (tlsKey === undefined)) {
    throw new UsageError('--tls-cert and --tls-key go together: give both, or neither');
  }
  if ((httpTlsCert === undefined) !== (httpTlsKey === undefined)) {
    throw new UsageError('--http-tls-cert and --http-tls-key go together: give both, or neither');
  }
  if (tlsClientCa !== undefined && tlsCert === undefined) {
    throw new UsageError(
      '--tls-client-ca asks clients for certificates, which needs TLS: add --tls-cert and --tls-key',
    );
  }
  if (httpTlsClientCa !== undefined && httpFiles(values) === undefined) {
    throw new UsageError(
      '--http-tls-client-ca asks clients for certificates, which needs HTTPS: add --tls-cert and --tls-key, or --http-tls-cert and --http-tls-key',
    );
  }
}

interface TlsFiles {
  readonly cert: string;
  readonly key: string;
  readonly clientCa: string | undefined;
}

function tcpFiles({ tlsCert, tlsKey, tlsClientCa }: AccessValues): TlsFiles | undefined {
  if (tlsCert === undefined || tlsKey === undefined) return undefined;
  return { cert: tlsCert, key: tlsKey, clientCa: tlsClientCa };
}

/** Its own pair, else the common one, unless what stands before it speaks TLS. Browsers and probes are not asked with workers. */
function httpFiles(values: AccessValues): TlsFiles | undefined {
  const { tlsCert, tlsKey, httpTlsCert, httpTlsKey, httpTlsClientCa: clientCa, httpBehindProxy } = values;
  if (httpTlsCert !== undefined && httpTlsKey !== undefined) return { cert: httpTlsCert, key: httpTlsKey, clientCa };
  if (httpBehindProxy || tlsCert === undefined || tlsKey === undefined) return undefined;
  return { cert: tlsCert, key: tlsKey, clientCa };
}

export function servesHttps(values: AccessValues): boolean {
  return httpFiles(values) !== undefined;
}

/** Who is told of another certificate. Throws INVALID_ARGUMENT for one that is none. */
export type RenewTls = (tls: TlsServing) => void;

interface Certificate {
  readonly files: TlsFiles;
  tls: TlsServing;
  renew: RenewTls | undefined;
}

/** What lets clients in: credentials and certificates from files, which are read again when they change, or when they are told to. */
export class Access {
  readonly keyring: Keyring;
  readonly #log: Log;
  readonly #credentialsFile: string | undefined;
  #credentialsText: string | undefined;
  readonly #tcp: Certificate | undefined;
  readonly #http: Certificate | undefined;
  readonly #files: WatchedFiles | undefined;
  #reading: Promise<void> = Promise.resolve();
  readonly #hangup = (): void => void this.reload();

  /** Rejects with INVALID_ARGUMENT for a file that holds something else, or the system's error. */
  static async open(values: AccessValues, log: Log): Promise<Access> {
    const file = values.credentials;
    const [tcp, http] = [tcpFiles(values), httpFiles(values)];
    const paths = [...new Set([file, ...pathsOf(tcp), ...pathsOf(http)])].filter((path) => path !== undefined);
    let changed = (): void => {};
    const files =
      paths.length === 0
        ? undefined
        : new WatchedFiles(paths, new SystemClock(), LIMITS.accessFilesMs, () => changed());
    // Before they are read, so that no change is missed.
    await files?.start();
    try {
      const lines = file === undefined ? process.env[CREDENTIALS_ENVIRONMENT] || undefined : await readAccessFile(file);
      const source = file ?? `the environment's ${CREDENTIALS_ENVIRONMENT}`;
      const credentials = lines === undefined ? undefined : Credentials.parse(lines, source);
      const certificates = await Promise.all([readCertificate(tcp), readCertificate(http)]);
      const access = new Access({ credentials, file, lines, certificates, files, log });
      await warnOfReaders([file, tcp?.key, http?.key], log);
      changed = () => void access.reload();
      if (files !== undefined) process.on('SIGHUP', access.#hangup);
      return access;
    } catch (error) {
      files?.stop();
      throw error;
    }
  }

  private constructor(parts: {
    credentials: Credentials | undefined;
    file: string | undefined;
    lines: string | undefined;
    certificates: readonly [Certificate | undefined, Certificate | undefined];
    files: WatchedFiles | undefined;
    log: Log;
  }) {
    this.keyring = new Keyring(parts.credentials);
    this.#credentialsFile = parts.file;
    this.#credentialsText = parts.lines;
    [this.#tcp, this.#http] = parts.certificates;
    this.#files = parts.files;
    this.#log = parts.log;
  }

  /** SIGHUP reads everything again, as is usual, if there is anything to read; else it stops the server as always. */
  get stopSignals(): readonly NodeJS.Signals[] {
    return this.#files === undefined ? STOP_SIGNALS : STOP_SIGNALS_BUT_HANGUP;
  }

  get tcpTls(): TlsServing | undefined {
    return this.#tcp?.tls;
  }

  get httpTls(): TlsServing | undefined {
    return this.#http?.tls;
  }

  /** Who is told of certificates from now on, also of those that were read again since it was given the first ones. */
  follow({ tcp, http }: { tcp?: RenewTls | undefined; http?: RenewTls | undefined }): void {
    follow(this.#tcp, tcp);
    follow(this.#http, http);
  }

  /** Reads everything again; what cannot be used leaves in force what was there before, and is logged. Never rejects. */
  reload(): Promise<void> {
    this.#reading = this.#reading.then(async () => {
      await this.#attempt('credentials', () => this.#readCredentials());
      await this.#attempt('the certificate', () => this.#readCertificate('TCP', this.#tcp));
      await this.#attempt('the certificate', () => this.#readCertificate('HTTP', this.#http));
    });
    return this.#reading;
  }

  stop(): void {
    this.#files?.stop();
    process.off('SIGHUP', this.#hangup);
  }

  async #attempt(what: string, read: () => Promise<void>): Promise<void> {
    try {
      await read();
    } catch (error) {
      this.#log.all.error(`${what} not taken over, those before stay in force: ${describeFailure(error).line}`);
    }
  }

  async #readCredentials(): Promise<void> {
    const file = this.#credentialsFile;
    if (file === undefined) return;
    const lines = await readAccessFile(file);
    if (lines === this.#credentialsText) return;
    const credentials = Credentials.parse(lines, file);
    this.#credentialsText = lines;
    this.keyring.replace(credentials);
    this.#log.all.info(`credentials read again from ${file}: ${credentials.count}`);
    await warnOfReaders([file], this.#log);
  }

  async #readCertificate(place: string, certificate: Certificate | undefined): Promise<void> {
    if (certificate === undefined) return;
    const { files, renew } = certificate;
    const tls = await readServing(files);
    const before = certificate.tls;
    if (tls.cert === before.cert && tls.key === before.key && tls.clientCa === before.clientCa) return;
    renew?.(tls);
    certificate.tls = tls;
    this.#log.all.info(`certificate for ${place} read again from ${files.cert}`);
    await warnOfReaders([files.key], this.#log);
  }
}

function follow(certificate: Certificate | undefined, renew: RenewTls | undefined): void {
  if (certificate === undefined || renew === undefined) return;
  certificate.renew = renew;
  renew(certificate.tls);
}

function pathsOf(files: TlsFiles | undefined): (string | undefined)[] {
  return files === undefined ? [] : [files.cert, files.key, files.clientCa];
}

/** Whoever reads them is who they let in. */
async function warnOfReaders(files: readonly (string | undefined)[], log: Log): Promise<void> {
  if (process.platform === 'win32') return;
  for (const file of new Set(files)) {
    if (file === undefined || ((await stat(file)).mode & MODE_OF_OTHERS) === 0) continue;
    log.all.warn(`${file} can be read by other users of this machine: chmod 600 ${file}`);
  }
}

const MODE_OF_OTHERS = 0o077;

async function readCertificate(files: TlsFiles | undefined): Promise<Certificate | undefined> {
  return files === undefined ? undefined : { files, tls: await readServing(files), renew: undefined };
}

async function readServing({ cert, key, clientCa }: TlsFiles): Promise<TlsServing> {
  const [certText, keyText, caText] = await Promise.all([
    readAccessFile(cert),
    readAccessFile(key),
    clientCa === undefined ? undefined : readAccessFile(clientCa),
  ]);
  return { cert: certText, key: keyText, ...(caText === undefined ? {} : { clientCa: caText }) };
}
