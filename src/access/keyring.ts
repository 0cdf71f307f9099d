import { MillraceError, shown } from '../errors.ts';
import type { Credentials } from './credentials.ts';
import { EVERYTHING, type Grant } from './grant.ts';

/**
 * The credentials of a server as they are now. Who was let in keeps his grant; when the credentials are replaced, everybody
 * who holds grants asks with `revocation` which of them are over.
 */
export class Keyring {
  #credentials: Credentials | undefined;
  readonly #listeners = new Set<() => void>();
  /** What `revocation` has found out since they were replaced last: many ask of the same. */
  #revocations = new Map<Grant, MillraceError | undefined>();

  /** Undefined: everybody who reaches the server may do everything. */
  constructor(credentials?: Credentials) {
    this.#credentials = credentials;
  }

  get isOpen(): boolean {
    return this.#credentials === undefined;
  }

  /** Undefined for a secret that nobody has. */
  find(secret: string): Grant | undefined {
    return this.#credentials === undefined ? EVERYTHING : this.#credentials.find(secret);
  }

  /** Throws UNAUTHENTICATED, which never shows the token. */
  admit(token: string | undefined): Grant {
    const grant = this.find(token ?? '');
    if (grant !== undefined) return grant;
    throw new MillraceError(
      'UNAUTHENTICATED',
      token === undefined
        ? 'the server asks for a token: give it as `token` to connect, in the environment as MILLRACE_TOKEN, or in a file with --token-file'
        : 'the server does not know this token: look at what it was started with (--credentials), and whether the token was taken back',
    );
  }

  replace(credentials: Credentials): void {
    this.#credentials = credentials;
    this.#revocations = new Map();
    for (const listener of this.#listeners) listener();
  }

  /** Called whenever credentials were replaced, until what it returns is. */
  onReplaced(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Calls back once, when what was let in under this grant must end, at once if it must already; until what it returns is called. */
  onRevoked(grant: Grant, callback: (reason: MillraceError) => void): () => void {
    let forget = (): void => {};
    const look = (): boolean => {
      const reason = this.revocation(grant);
      if (reason === undefined) return false;
      forget();
      callback(reason);
      return true;
    };
    if (!look()) forget = this.onReplaced(() => void look());
    return () => forget();
  }

  /** Throws what `revocation` says. */
  check(grant: Grant): void {
    const reason = this.revocation(grant);
    if (reason !== undefined) throw reason;
  }

  /**
   * Why what was let in under this grant must end: UNAUTHENTICATED when its secret is gone, FORBIDDEN, after which one may come
   * back, when it allows something else now. Undefined when it is as it was.
   */
  revocation(grant: Grant): MillraceError | undefined {
    if (this.#credentials === undefined || grant.name === undefined) return undefined;
    if (!this.#revocations.has(grant)) this.#revocations.set(grant, revocationBy(this.#credentials, grant));
    return this.#revocations.get(grant);
  }
}

function revocationBy(credentials: Credentials, grant: Grant): MillraceError | undefined {
  const successor = credentials.successorOf(grant);
  if (successor === undefined) {
    return new MillraceError('UNAUTHENTICATED', `the token of the credentials ${shown(grant.name)} was taken back`);
  }
  if (successor.equals(grant)) return undefined;
  return new MillraceError('FORBIDDEN', `what the credentials ${shown(grant.name)} allow has changed: connect again`);
}
