import { createHash, timingSafeEqual } from 'node:crypto';
import { MillraceError, shown } from '../errors.ts';
import { LIMITS } from '../limits.ts';
import type { Role } from './context.ts';

export const ROLES: readonly Role[] = ['read', 'operate'];

interface Credential {
  readonly role: Role;
  readonly name: string;
  readonly secretHash: Buffer;
}

const SECRET_CHARACTERS_MIN = 16;

/** Who may do what: names with their secrets, which are kept as hashes. */
export class Credentials {
  readonly #known: readonly Credential[];

  private constructor(known: readonly Credential[]) {
    this.#known = known;
  }

  /**
   * A line for each: `ROLE NAME SECRET`, where ROLE is read or operate; empty lines and those that begin with # say
   * nothing. Throws INVALID_ARGUMENT that names the place and never a secret.
   */
  static parse(text: string, file: string): Credentials {
    const known: Credential[] = [];
    for (const [index, line] of text.split('\n').entries()) {
      const trimmed = line.trim();
      if (trimmed === '' || trimmed.startsWith('#')) continue;
      const where = `${file}, line ${index + 1}`;
      const credential = parseLine(trimmed, where);
      if (known.some(({ name }) => name === credential.name)) {
        throw new MillraceError('INVALID_ARGUMENT', `${where}: the name ${shown(credential.name)} is there twice`);
      }
      // A secret alone, as Bearer, says who asks.
      const same = known.find(({ secretHash }) => secretHash.equals(credential.secretHash));
      if (same !== undefined) {
        const message = `${where}: ${shown(credential.name)} has the secret of ${shown(same.name)}: give each its own`;
        throw new MillraceError('INVALID_ARGUMENT', message);
      }
      known.push(credential);
    }
    if (known.length === 0) {
      throw new MillraceError('INVALID_ARGUMENT', `${file} holds no credentials: a line is ROLE NAME SECRET`);
    }
    if (known.length > LIMITS.httpCredentialsMax) {
      const message = `${file} holds ${known.length} credentials; at most ${LIMITS.httpCredentialsMax} are allowed`;
      throw new MillraceError('INVALID_ARGUMENT', message);
    }
    return new Credentials(known);
  }

  /** From an Authorization header: `Bearer SECRET`, or `Basic` with NAME and SECRET as browsers send it. */
  roleOf(authorization: string | undefined): Role | undefined {
    const [, scheme = '', value = ''] = /^(\w+) +(\S+)$/.exec(authorization ?? '') ?? [];
    if (scheme.toLowerCase() === 'bearer') return this.#find(value)?.role;
    if (scheme.toLowerCase() !== 'basic') return undefined;
    const decoded = Buffer.from(value, 'base64').toString('utf8');
    const colon = decoded.indexOf(':');
    if (colon === -1) return undefined;
    const credential = this.#find(decoded.slice(colon + 1));
    return credential?.name === decoded.slice(0, colon) ? credential.role : undefined;
  }

  /** All are compared, each in constant time. */
  #find(secret: string): Credential | undefined {
    const hash = hashOf(secret);
    let found: Credential | undefined;
    for (const credential of this.#known) if (timingSafeEqual(credential.secretHash, hash)) found = credential;
    return found;
  }
}

/** No word of a line is shown that may be a secret in the wrong place. */
function parseLine(line: string, where: string): Credential {
  const [role = '', name, secret, ...rest] = line.split(/\s+/);
  if (name === undefined || secret === undefined || rest.length > 0) {
    throw new MillraceError('INVALID_ARGUMENT', `${where}: a line is ROLE NAME SECRET, three words`);
  }
  if (!(ROLES as readonly string[]).includes(role)) {
    const message = `${where}: the first word is no role; there are ${ROLES.join(', ')}`;
    throw new MillraceError('INVALID_ARGUMENT', message);
  }
  if (name.includes(':')) {
    throw new MillraceError('INVALID_ARGUMENT', `${where}: a name may not have a colon`);
  }
  if (secret.length < SECRET_CHARACTERS_MIN) {
    const message = `${where}: the secret has ${secret.length} characters; at least ${SECRET_CHARACTERS_MIN} are needed (try: openssl rand -hex 24)`;
    throw new MillraceError('INVALID_ARGUMENT', message);
  }
  return { role: role as Role, name, secretHash: hashOf(secret) };
}

function hashOf(secret: string): Buffer {
  return createHash('sha256').update(secret).digest();
}
