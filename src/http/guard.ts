import type { HttpBindings } from '@hono/node-server';
import type { Context, MiddlewareHandler } from 'hono';
import { EVERYTHING, type Grant, NOTHING } from '../access/grant.ts';
import type { Keyring } from '../access/keyring.ts';
import { Refusals } from '../access/refusals.ts';
import { MillraceError, shown } from '../errors.ts';
import type { Clock, Timer } from '../io/clock.ts';
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
export function guard({
  access: { keyring, hostNames },
  clock,
  onNotice,
  onStop,
}: HttpWorld): MiddlewareHandler<HttpEnv> {
  const refused = new RefusedLog(clock, (line) => onNotice('warn', line));
  onStop(async () => refused.stop());
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
      const authorization = c.req.header('authorization');
      const grant = grantOf(keyring, authorization);
      if (grant === undefined) {
        const refusal = unauthenticated(authorization);
        // Browsers ask without at first.
        if (authorization !== undefined) refused.add(remoteOf(c), refusal);
        throw refusal;
      }
      c.set('grant', grant);
      checkRequest(grant, method, path);
    }
    await next();
  };
}

/** At most a line a second for each reason. */
class RefusedLog {
  readonly #refused = new Refusals('request');
  readonly #clock: Clock;
  readonly #say: (line: string) => void;
  #timer: Timer | undefined;

  constructor(clock: Clock, say: (line: string) => void) {
    this.#clock = clock;
    this.#say = say;
  }

  add(remote: string, refusal: MillraceError): void {
    this.#refused.add(remote, refusal);
    if (this.#timer !== undefined) return;
    this.#timer = this.#clock.setTimer(REPORT_MS, () => this.#report());
    this.#timer.unref();
  }

  stop(): void {
    this.#timer?.cancel();
    this.#report();
  }

  #report(): void {
    this.#timer = undefined;
    for (const line of this.#refused.report()) this.#say(line);
  }
}

const REPORT_MS = 1000;

/** Never shows what was sent. */
function unauthenticated(authorization: string | undefined): MillraceError {
  const message =
    authorization === undefined
      ? 'this server asks for credentials: send `Authorization: Bearer SECRET`, or Basic with a name and its secret'
      : 'this server does not know these credentials: send `Authorization: Bearer SECRET`, or Basic with a name and its secret, and look whether they were taken back';
  return new MillraceError('UNAUTHENTICATED', message);
}

function remoteOf(c: Context<HttpEnv>): string {
  const bindings = c.env as Partial<HttpBindings> | undefined;
  return bindings?.incoming?.socket.remoteAddress ?? 'somewhere';
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
