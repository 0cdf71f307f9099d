import { MillraceError } from '../../errors.ts';
import { checkTlsOptions, type TlsOptions } from '../../io/tls.ts';
import { DEFAULTS } from '../../limits.ts';

/** Where a broker is, and who we are to it. */
export interface Address {
  readonly protocol: 'amqp' | 'amqps';
  readonly hostname: string;
  readonly port: number;
  readonly username: string;
  readonly password: string;
  readonly vhost: string;
  readonly heartbeat: number;
  /** What the URL says of TLS. */
  readonly tls: TlsOptions;
  /** For messages: without the password. */
  readonly shown: string;
}

/**
 * `amqp://USER:PASSWORD@HOST:PORT/VHOST?heartbeat=SECONDS`; each part but the host may be left out: guest, guest, 5672
 * (amqps: 5671), `/`, 60. Of amqps:, as RabbitMQ's own clients have it, `cacertfile`, `certfile`, `keyfile`,
 * `server_name_indication` and `verify=verify_none`. Throws INVALID_ARGUMENT, without the password.
 */
export function parseAddress(url: string): Address {
  const parsed = URL.canParse(url) ? new URL(url) : undefined;
  const path = parsed?.pathname.slice(1) ?? '';
  const vhost = decode(path);
  if (parsed === undefined || parsed.hostname === '' || path.includes('/') || vhost === undefined) {
    const message =
      'the URL is not of the form amqp://USER:PASSWORD@HOST:PORT/VHOST (a / in the virtual host is written %2F)';
    throw new MillraceError('INVALID_ARGUMENT', message);
  }
  const isTls = parsed.protocol === 'amqps:';
  const heartbeat = Number(parsed.searchParams.get('heartbeat') ?? DEFAULTS.amqp.heartbeatSeconds);
  if (!Number.isInteger(heartbeat) || heartbeat < 0 || heartbeat > 65_535) {
    throw new MillraceError('INVALID_ARGUMENT', 'heartbeat in the URL must be whole seconds, 0 (none) to 65535');
  }
  const username = parsed.username === '' ? 'guest' : (decode(parsed.username) ?? parsed.username);
  const user = parsed.username === '' ? '' : `${parsed.username}@`;
  return {
    protocol: isTls ? 'amqps' : 'amqp',
    hostname: parsed.hostname.replace(/^\[|\]$/g, ''),
    port: parsed.port === '' ? (isTls ? DEFAULTS.amqp.portTls : DEFAULTS.amqp.port) : Number(parsed.port),
    username,
    password: parsed.username === '' ? 'guest' : (decode(parsed.password) ?? parsed.password),
    vhost: vhost === '' ? '/' : vhost,
    heartbeat,
    tls: tlsOf(parsed.searchParams),
    shown: `${parsed.protocol}//${user}${parsed.host}${parsed.pathname === '/' ? '' : parsed.pathname}`,
  };
}

function tlsOf(parameters: URLSearchParams): TlsOptions {
  const of = (name: string): string | undefined => parameters.get(name) ?? undefined;
  const verify = of('verify') ?? 'verify_peer';
  if (verify !== 'verify_peer' && verify !== 'verify_none') {
    throw new MillraceError('INVALID_ARGUMENT', 'verify in the URL must be verify_peer or verify_none');
  }
  const tls = {
    ...{ ca: of('cacertfile'), cert: of('certfile'), key: of('keyfile'), servername: of('server_name_indication') },
    rejectUnauthorized: verify === 'verify_peer',
  };
  checkTlsOptions(tls);
  return tls;
}

function decode(text: string): string | undefined {
  try {
    return decodeURIComponent(text);
  } catch {
    // No percent-encoding: the caller decides what that means.
    return undefined;
  }
}
