import { readFile } from 'node:fs/promises';
import { createSecureContext } from 'node:tls';
import { MillraceError, shown } from '../errors.ts';
import { LIMITS } from '../limits.ts';

/** How a connection is encrypted, and whom it trusts. Certificates and keys are PEM, or paths of files that hold it. */
export interface TlsOptions {
  /** Authorities whose certificates are trusted, in place of those that Node trusts. */
  ca?: string | undefined;
  /** Of this client, for servers that ask for one (mutual TLS); with `key`. */
  cert?: string | undefined;
  key?: string | undefined;
  /** The name that the server's certificate must have. Default: the host of the URL. */
  servername?: string | undefined;
  /** false: whoever answers is trusted, also somebody in between. Default true. */
  rejectUnauthorized?: boolean | undefined;
}

export const TLS_KEYS = ['ca', 'cert', 'key', 'servername', 'rejectUnauthorized'];

/** As Node's `tls.connect` takes it. */
export interface TlsDialing {
  readonly ca?: string;
  readonly cert?: string;
  readonly key?: string;
  readonly servername?: string;
  readonly rejectUnauthorized: boolean;
}

/** PEM. With `clientCa`, clients must show a certificate that it, or one of several, has signed. */
export interface TlsServing {
  readonly cert: string;
  readonly key: string;
  readonly clientCa?: string | undefined;
}

/** Throws INVALID_ARGUMENT; what files hold is seen when they are read. */
export function checkTlsOptions(options: TlsOptions): void {
  for (const name of ['ca', 'cert', 'key', 'servername'] as const) {
    const value: unknown = options[name];
    if (value === undefined || (typeof value === 'string' && value !== '')) continue;
    // A key is not shown, whatever it is.
    throw new MillraceError('INVALID_ARGUMENT', `tls.${name} must be text that is not empty, not a ${typeof value}`);
  }
  const { cert, key, rejectUnauthorized } = options;
  if ((cert === undefined) !== (key === undefined)) {
    throw new MillraceError('INVALID_ARGUMENT', 'tls.cert and tls.key go together: give both, or neither');
  }
  if (rejectUnauthorized !== undefined && typeof rejectUnauthorized !== 'boolean') {
    const message = `tls.rejectUnauthorized is ${shown(rejectUnauthorized)}; it must be true or false`;
    throw new MillraceError('INVALID_ARGUMENT', message);
  }
}

/** Reads the files anew each time, so that a certificate may be replaced. Rejects with INVALID_ARGUMENT. */
export async function readTls(options: TlsOptions): Promise<TlsDialing> {
  const { servername, rejectUnauthorized = true } = options;
  const [ca, cert, key] = await Promise.all([
    readPem('tls.ca', options.ca),
    readPem('tls.cert', options.cert),
    readPem('tls.key', options.key),
  ]);
  const dialing = {
    ...(ca === undefined ? {} : { ca }),
    ...(cert === undefined ? {} : { cert }),
    ...(key === undefined ? {} : { key }),
  };
  checkUsable(dialing, 'tls.ca, tls.cert and tls.key');
  return { ...dialing, ...(servername === undefined ? {} : { servername }), rejectUnauthorized };
}

async function readPem(what: string, given: string | undefined): Promise<string | undefined> {
  if (given === undefined || given.includes('-----BEGIN ')) return given;
  try {
    return await readFile(given, 'utf8');
  } catch (cause) {
    const message = `${what}, ${shown(given)}, cannot be read: ${(cause as Error).message}; it must be PEM, or the path of a file that holds it`;
    throw new MillraceError('INVALID_ARGUMENT', message, { cause });
  }
}

/** Throws INVALID_ARGUMENT for what is no certificate, or no key to it. */
export function checkServing({ cert, key, clientCa }: TlsServing, what: string): void {
  checkUsable({ cert, key, ...(clientCa === undefined ? {} : { ca: clientCa }) }, what);
}

function checkUsable(parts: { cert?: string; key?: string; ca?: string }, what: string): void {
  try {
    createSecureContext(parts);
  } catch (cause) {
    throw new MillraceError('INVALID_ARGUMENT', `${what} cannot be used: ${(cause as Error).message}`, { cause });
  }
  // Node passes over what is no certificate.
  if (parts.ca === undefined || parts.ca.includes('-----BEGIN ')) return;
  throw new MillraceError('INVALID_ARGUMENT', `${what} cannot be used: the authority is no PEM certificate`);
}

const UNTRUSTED = new Set([
  'SELF_SIGNED_CERT_IN_CHAIN',
  'DEPTH_ZERO_SELF_SIGNED_CERT',
  'UNABLE_TO_GET_ISSUER_CERT',
  'UNABLE_TO_GET_ISSUER_CERT_LOCALLY',
  'UNABLE_TO_VERIFY_LEAF_SIGNATURE',
  'CERT_SIGNATURE_FAILURE',
  'CERT_UNTRUSTED',
  'INVALID_CA',
]);

/** What a client is told when TLS to `place` does not come about; other errors stay as they are. */
export function describeTlsError(error: Error, place: string): Error {
  const reason = tlsReason(error);
  if (reason === undefined) return error;
  const { code, message } = reason;
  return new MillraceError(code, `${place} ${message}`, { cause: error, details: { reason: codeOf(error) } });
}

/** Completes a sentence that begins with the place. Undefined for what has nothing to do with TLS. */
export function tlsReason(error: Error): { code: 'UNAUTHENTICATED' | 'PROTOCOL'; message: string } | undefined {
  const code = codeOf(error);
  const refused = (message: string) => ({ code: 'UNAUTHENTICATED', message }) as const;
  if (UNTRUSTED.has(code)) {
    return refused(
      `shows a certificate of an authority that is not trusted here (${code}): give the authority's certificate as tls.ca (--tls-ca FILE)`,
    );
  }
  if (code === 'CERT_HAS_EXPIRED' || code === 'CERT_NOT_YET_VALID') {
    const how = code === 'CERT_HAS_EXPIRED' ? 'that has expired' : 'that is not valid yet';
    return refused(`shows a certificate ${how}: renew it there, or look at the clock of this machine`);
  }
  if (code === 'ERR_TLS_CERT_ALTNAME_INVALID') {
    const { cert } = error as { cert?: { subjectaltname?: string } };
    return refused(
      `shows a certificate for other names (${cert?.subjectaltname ?? 'none'}): connect by one of these, or give it as tls.servername (--tls-servername)`,
    );
  }
  const text = `${code} ${error.message}`;
  if (/CERTIFICATE_REQUIRED|certificate required/i.test(text)) {
    return refused('asks for a certificate of the client: give tls.cert and tls.key (--tls-cert FILE --tls-key FILE)');
  }
  const alert = /alert ([a-z ]+?)(?::|\s*$)/i.exec(error.message.replaceAll('_', ' '));
  if (/_ALERT_|ssl alert|sslv3 alert|tlsv1 alert/i.test(text)) {
    return refused(`refuses the TLS handshake: ${alert?.[1] ?? code}; does it accept this client's certificate?`);
  }
  if (
    /WRONG_VERSION_NUMBER|wrong version number|PACKET_LENGTH_TOO_LONG|packet length too long|HTTP_REQUEST/i.test(text)
  ) {
    return {
      code: 'PROTOCOL',
      message:
        'does not speak TLS: use a URL without it (tcp:// in place of tls://, amqp:// of amqps://), or give the server a certificate',
    };
  }
  return undefined;
}

function codeOf(error: Error): string {
  const { code } = error as NodeJS.ErrnoException;
  return code ?? '';
}

/** A file of an operator, for example a certificate. Rejects with the system's error, or INVALID_ARGUMENT when it is too large. */
export async function readAccessFile(path: string): Promise<string> {
  const text = await readFile(path, 'utf8');
  if (text.length <= LIMITS.accessFileBytesMax) return text;
  const message = `${path} has more than ${LIMITS.accessFileBytesMax} bytes: is it the right file?`;
  throw new MillraceError('INVALID_ARGUMENT', message);
}
