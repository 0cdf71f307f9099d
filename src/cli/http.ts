import { DEFAULTS, isLoopback } from '../limits.ts';
import type { HttpService, HttpSettings } from '../serve.ts';
import { type Access, type AccessValues, connectionsPerAddress, hasCredentials, servesHttps } from './access.ts';
import { UsageError } from './failure.ts';
import { choice, flag, integer, type Kind, list, text, toggle, type Values } from './flags.ts';
import type { Log } from './log.ts';

/** Of commands that serve the HTTP API and the dashboard. */
export const HTTP_FLAGS = {
  httpPort: flag(portOrOff(), 'port of the HTTP API and the dashboard; 0 takes a free one', DEFAULTS.httpPort),
  httpHost: flag(text('host'), 'address for HTTP', DEFAULTS.host as string),
  httpTlsCert: flag(text('file'), 'PEM certificate for HTTPS, where it is not to be that of --tls-cert'),
  httpTlsKey: flag(text('file'), 'PEM key of that certificate'),
  httpTlsClientCa: flag(text('file'), 'PEM: over HTTPS clients must show a certificate that one of these has signed'),
  httpBehindProxy: toggle('what stands before HTTP speaks TLS: let --http-host be reached from elsewhere without it'),
  httpHostnames: flag(list('names'), 'names by which browsers may call the server when it has no credentials'),
  httpPayloads: flag(choice('on', 'off'), 'off: payloads and results are not shown', 'on'),
};

export type HttpValues = Values<typeof HTTP_FLAGS> & AccessValues;

function portOrOff(): Kind<number | 'off'> {
  const port = integer(0, 65_535);
  return {
    placeholder: 'n|off',
    expects: 'a whole number from 0 to 65535, or off',
    schema: port.schema.or(choice('off', 'off').schema) as unknown as Kind<number | 'off'>['schema'],
    fromText: (written) => (written === 'off' ? written : port.fromText(written)),
  };
}

/** Throws a UsageError that says which line mends it. */
export function checkHttpFlags(values: HttpValues): void {
  const { httpPort, httpHost, httpBehindProxy } = values;
  if (httpPort === 'off' || isLoopback(httpHost)) return;
  if (!hasCredentials(values)) {
    throw new UsageError(
      `--http-host ${httpHost} lets everyone who reaches this machine look at all tasks and change them: give it credentials ` +
        `and TLS, \`millrace server --http-host ${httpHost} --credentials FILE --tls-cert cert.pem --tls-key key.pem\` (a line ` +
        'in FILE is: operate NAME SECRET), or listen on 127.0.0.1',
    );
  }
  if (!servesHttps(values) && !httpBehindProxy) {
    throw new UsageError(
      `--http-host ${httpHost} would send secrets and tasks over the network as they are: add --tls-cert cert.pem ` +
        '--tls-key key.pem, or --http-behind-proxy when a proxy before it speaks TLS',
    );
  }
}

/** Undefined when HTTP is off. */
export function httpSettings(values: HttpValues, access: Access, log: Log): HttpSettings | undefined {
  const { httpPort: port, httpHost: host, httpHostnames = [], httpPayloads, httpBehindProxy } = values;
  if (port === 'off') return undefined;
  return {
    host,
    port,
    tls: access.httpTls,
    access: { keyring: access.keyring, hostNames: [...httpHostnames, host] },
    showPayloads: httpPayloads === 'on',
    // They all come from the proxy.
    connectionsPerAddressMax: httpBehindProxy ? undefined : connectionsPerAddress(values),
    onNotice: (level, message) => log.all[level](message),
  };
}

export function logHttp({ url }: HttpService, log: Log): void {
  log.all.info({ http: url }, `dashboard and HTTP API on ${url}`);
}
