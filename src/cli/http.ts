import { readFile } from 'node:fs/promises';
import { Credentials } from '../http/credentials.ts';
import { DEFAULTS, isLoopback } from '../limits.ts';
import type { HttpService, HttpSettings } from '../serve.ts';
import { UsageError } from './failure.ts';
import { choice, flag, integer, type Kind, list, text, toggle, type Values } from './flags.ts';
import type { Log } from './log.ts';

/** Of commands that serve the HTTP API and the dashboard. */
export const HTTP_FLAGS = {
  httpPort: flag(portOrOff(), 'port of the HTTP API and the dashboard; 0 takes a free one', DEFAULTS.httpPort),
  httpHost: flag(text('host'), 'address for HTTP', DEFAULTS.host as string),
  httpCredentials: flag(text('file'), 'who may use HTTP: a line is ROLE NAME SECRET, ROLE is read or operate'),
  httpTlsCert: flag(text('file'), 'PEM certificate: HTTPS in place of HTTP'),
  httpTlsKey: flag(text('file'), 'PEM key of the certificate'),
  httpBehindProxy: toggle('what stands before HTTP speaks TLS: let --http-host be reached from elsewhere without it'),
  httpHostnames: flag(list('names'), 'names by which browsers may call the server when it has no credentials'),
  httpPayloads: flag(choice('on', 'off'), 'off: payloads and results are not shown', 'on'),
};

export type HttpValues = Values<typeof HTTP_FLAGS>;

function portOrOff(): Kind<number | 'off'> {
  const port = integer(0, 65_535);
  return {
    placeholder: 'n|off',
    expects: 'a whole number from 0 to 65535, or off',
    schema: port.schema.or(choice('off', 'off').schema) as unknown as Kind<number | 'off'>['schema'],
    fromText: (written) => (written === 'off' ? written : port.fromText(written)),
  };
}

/** Throws a UsageError that says which flag mends it. */
export function checkHttpFlags(values: HttpValues): void {
  const { httpPort, httpHost, httpCredentials, httpTlsCert, httpTlsKey, httpBehindProxy } = values;
  if (httpPort === 'off') return;
  if ((httpTlsCert === undefined) !== (httpTlsKey === undefined)) {
    throw new UsageError('--http-tls-cert and --http-tls-key go together: give both, or neither');
  }
  if (isLoopback(httpHost)) return;
  if (httpCredentials === undefined) {
    throw new UsageError(
      `--http-host ${httpHost} lets everyone who reaches this machine look at all tasks and change them: add ` +
        '--http-credentials FILE (a line in it is: operate NAME SECRET), or listen on 127.0.0.1',
    );
  }
  if (httpTlsCert === undefined && !httpBehindProxy) {
    throw new UsageError(
      `--http-host ${httpHost} would send secrets and tasks over the network as they are: add --http-tls-cert and ` +
        '--http-tls-key, or --http-behind-proxy when a proxy before it speaks TLS',
    );
  }
}

/** Undefined when HTTP is off. Rejects with INVALID_ARGUMENT for a file of credentials that is none, or the system's error. */
export async function readHttpSettings(values: HttpValues, log: Log): Promise<HttpSettings | undefined> {
  const { httpPort: port, httpHost: host, httpCredentials: file, httpHostnames = [], httpPayloads } = values;
  if (port === 'off') return undefined;
  return {
    host,
    port,
    tls: await readTls(values),
    access: {
      credentials: file === undefined ? undefined : Credentials.parse(await readFile(file, 'utf8'), file),
      hostNames: [...httpHostnames, host],
    },
    showPayloads: httpPayloads === 'on',
    onNotice: (level, message) => log.all[level](message),
  };
}

export function logHttp({ url }: HttpService, log: Log): void {
  log.all.info({ http: url }, `dashboard and HTTP API on ${url}`);
}

async function readTls({ httpTlsCert, httpTlsKey }: HttpValues): Promise<{ cert: string; key: string } | undefined> {
  if (httpTlsCert === undefined || httpTlsKey === undefined) return undefined;
  const [cert, key] = await Promise.all([readFile(httpTlsCert, 'utf8'), readFile(httpTlsKey, 'utf8')]);
  return { cert, key };
}
