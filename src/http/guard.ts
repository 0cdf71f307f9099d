import type { MiddlewareHandler } from 'hono';
import { EVERYTHING, type Grant, NOTHING } from '../access/grant.ts';
import type { Keyring } from '../access/keyring.ts';
import { MillraceError, shown } from '../errors.ts';
import { isLoopback } from '../limits.ts';
import type { HttpEnv, HttpWorld } from './context.ts';
import { checkRequest } from './rights.ts';

/**
 * Who is let in, before anything else looks at a request.
 *
 * A browser runs pages of strangers, which can send requests here too. They carry where they come from (`Sec-Fetch-Site`,
 * `Origin`; https://owasp.org/www-community/attacks/csrf), and that must be here for whatever changes something. Where no
 * credentials are asked for, a stranger's page must also not reach us under a name of its own (DNS rebinding): only names
 * of this machine are answered.
 */
export function guard({ keyring, hostNames }: HttpWorld['access']): MiddlewareHandler<HttpEnv> {
  return async (c, next) => {
    const { method, path } = c.req;
    if (keyring.isOpen) checkHost(c.req.header('host'), hostNames);
    const isSafe = method === 'GET' || method === 'HEAD' || method === 'OPTIONS';
    if (!isSafe) checkOrigin(c.req.header('sec-fetch-site'), c.req.header('origin'), c.req.header('host'));
    if (keyring.isOpen) {
      c.set('grant', EVERYTHING);
    } else if (OPEN_PATHS.includes(path)) {
      c.set('grant', NOTHING);
    } else {
      const grant = grantOf(keyring, c.req.header('authorization'));
      if (grant === undefined) {
        throw new MillraceError(
          'UNAUTHENTICATED',
          'this server asks for credentials: send `Authorization: Bearer SECRET`, or Basic with a name and its secret',
        );
      }
      c.set('grant', grant);
      checkRequest(grant, method, path);
    }
    await next();
  };
}

/** For probes, which have no credentials. */
const OPEN_PATHS = ['/healthz', '/readyz'];

/** From an Authorization header: `Bearer SECRET`, or `Basic` with NAME and SECRET as browsers send it. */
function grantOf(keyring: Keyring, authorization: string | undefined): Grant | undefined {
  const [, scheme = '', value = ''] = /^(\w+) +(\S+)$/.exec(authorization ?? '') ?? [];
  if (scheme.toLowerCase() === 'bearer') return keyring.find(value);
  if (scheme.toLowerCase() !== 'basic') return undefined;
  const decoded = Buffer.from(value, 'base64').toString('utf8');
  const colon = decoded.indexOf(':');
  if (colon === -1) return undefined;
  const grant = keyring.find(decoded.slice(colon + 1));
  return grant?.name === decoded.slice(0, colon) ? grant : undefined;
}

function checkHost(host: string | undefined, hostNames: readonly string[]): void {
  const name = nameOf(host ?? '');
  if (isLoopback(name) || hostNames.includes(name)) return;
  throw new MillraceError(
    'FORBIDDEN',
    `this server is not called ${shown(name)}: without credentials it answers only to names of this machine, such as localhost, and to those of --http-hostnames`,
  );
}

function checkOrigin(site: string | undefined, origin: string | undefined, host: string | undefined): void {
  const isForeign =
    site === undefined
      ? origin !== undefined && (!URL.canParse(origin) || new URL(origin).host !== host)
      : site !== 'same-origin' && site !== 'none';
  if (!isForeign) return;
  throw new MillraceError('FORBIDDEN', `a page of ${shown(origin ?? site)} may not change anything here`);
}

function nameOf(host: string): string {
  const url = `http://${host}`;
  return URL.canParse(url) ? new URL(url).hostname.replace(/^\[|\]$/g, '') : host;
}
