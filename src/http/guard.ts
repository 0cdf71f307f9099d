import type { MiddlewareHandler } from 'hono';
import { MillraceError, shown } from '../errors.ts';
import { isLoopback } from '../limits.ts';
import type { HttpEnv, HttpWorld } from './context.ts';

/**
 * Who is let in, before anything else looks at a request.
 *
 * A browser runs pages of strangers, which can send requests here too. They carry where they come from (`Sec-Fetch-Site`,
 * `Origin`; https://owasp.org/www-community/attacks/csrf), and that must be here for whatever changes something. Where no
 * credentials are asked for, a stranger's page must also not reach us under a name of its own (DNS rebinding): only names
 * of this machine are answered.
 */
export function guard({ credentials, hostNames }: HttpWorld['access']): MiddlewareHandler<HttpEnv> {
  return async (c, next) => {
    const { method, path } = c.req;
    if (credentials === undefined) checkHost(c.req.header('host'), hostNames);
    const isSafe = method === 'GET' || method === 'HEAD' || method === 'OPTIONS';
    if (!isSafe) checkOrigin(c.req.header('sec-fetch-site'), c.req.header('origin'), c.req.header('host'));
    if (credentials === undefined) {
      c.set('role', 'operate');
    } else if (OPEN_PATHS.includes(path)) {
      c.set('role', 'read');
    } else {
      const role = credentials.roleOf(c.req.header('authorization'));
      if (role === undefined) {
        throw new MillraceError(
          'UNAUTHENTICATED',
          'this server asks for credentials: send `Authorization: Bearer SECRET`, or Basic with a name and its secret',
        );
      }
      c.set('role', role);
    }
    if (!isSafe && c.get('role') !== 'operate') {
      throw new MillraceError('FORBIDDEN', `${method} ${path} needs the role operate; these credentials have read`);
    }
    await next();
  };
}

/** For probes, which have no credentials. */
const OPEN_PATHS = ['/healthz', '/readyz'];

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
