import { createHash, timingSafeEqual } from 'node:crypto';
import { MillraceError, shown } from '../errors.ts';
import { LIMITS } from '../limits.ts';
import { Grant, ROLES, type Role } from './grant.ts';
import { ALL_QUEUES, parseQueuePattern } from './queue-pattern.ts';

const FORM = 'ROLES NAME SECRET [QUEUE …]';

interface Credential {
  readonly name: string;
  readonly secretHash: Buffer;
  readonly grant: Grant;
}

/** Who may do what: names with their secrets, which are kept as hashes. */
export class Credentials {
  readonly #known: readonly Credential[];

  private constructor(known: readonly Credential[]) {
    this.#known = known;
  }

  /**
   * A line for each: `ROLES NAME SECRET [QUEUE …]`, where ROLES are some of produce, work, read and operate, separated by
   * commas, and QUEUE is the name of a queue, in which `*` stands for any characters (default: all queues). Empty lines and
   * those that begin with # say nothing. Throws INVALID_ARGUMENT that names the place and never a secret.
   */
  static parse(text: string, source: string): Credentials {
    const known: Credential[] = [];
    for (const [index, line] of text.split('\n').entries()) {
      const trimmed = line.trim();
      if (trimmed === '' || trimmed.startsWith('#')) continue;
      const where = `${source}, line ${index + 1}`;
      const credential = parseLine(trimmed, where);
      if (known.some(({ name }) => name === credential.name)) {
        throw new MillraceError('INVALID_ARGUMENT', `${where}: the name ${shown(credential.name)} is there twice`);
      }
      // A secret alone says who asks.
      const same = known.find(({ secretHash }) => secretHash.equals(credential.secretHash));
      if (same !== undefined) {
        const message = `${where}: ${shown(credential.name)} has the secret of ${shown(same.name)}: give each its own`;
        throw new MillraceError('INVALID_ARGUMENT', message);
      }
      known.push(credential);
    }
    if (known.length === 0) {
      throw new MillraceError('INVALID_ARGUMENT', `${source} holds no credentials: a line is ${FORM}`);
    }
    if (known.length > LIMITS.credentialsMax) {
      const message = `${source} holds ${known.length} credentials; at most ${LIMITS.credentialsMax} are allowed`;
      throw new MillraceError('INVALID_ARGUMENT', message);
    }
    return new Credentials(known);
  }

  get count(): number {
    return this.#known.length;
  }

  /** All are compared, each in constant time: how long it takes does not tell how near a secret is to one that exists. */
  find(secret: string): Grant | undefined {
    const hash = hashOf(secret);
    let found: Grant | undefined;
    for (const { secretHash, grant } of this.#known) if (timingSafeEqual(secretHash, hash)) found = grant;
    return found;
  }

  /** What became of a grant of earlier credentials, by its secret. */
  successorOf(grant: Grant): Grant | undefined {
    return this.#known.find(({ secretHash }) => grant.hasSecret(secretHash))?.grant;
  }
}

/** No word of a line is shown that may be a secret in the wrong place. */
function parseLine(line: string, where: string): Credential {
  const [roles = '', name, secret, ...queues] = line.split(/\s+/);
  if (name === undefined || secret === undefined) {
    throw new MillraceError('INVALID_ARGUMENT', `${where}: a line is ${FORM}, three words or more`);
  }
  const named = roles.split(',');
  if (!named.every((role) => (ROLES as readonly string[]).includes(role))) {
    const message = `${where}: the first word is no list of roles; there are ${ROLES.join(', ')}, separated by commas without spaces`;
    throw new MillraceError('INVALID_ARGUMENT', message);
  }
  if (name.includes(':')) {
    throw new MillraceError('INVALID_ARGUMENT', `${where}: a name may not have a colon`);
  }
  checkSecretLength(secret, where);
  if (queues.length > LIMITS.queuePatternsMax) {
    const message = `${where}: ${queues.length} queues are named; at most ${LIMITS.queuePatternsMax} may be: use *`;
    throw new MillraceError('INVALID_ARGUMENT', message);
  }
  const patterns = (queues.length === 0 ? [ALL_QUEUES] : queues).map((text) => parseQueuePattern(text, where));
  const secretHash = hashOf(secret);
  return { name, secretHash, grant: new Grant({ name, roles: named as Role[], queues: patterns, secretHash }) };
}

function checkSecretLength(secret: string, where: string): void {
  const { length } = secret;
  const { secretCharactersMin: min, secretCharactersMax: max } = LIMITS;
  if (length >= min && length <= max) return;
  const message = `${where}: the secret has ${length} characters; at least ${min} are needed, and at most ${max} allowed (try: openssl rand -hex 24)`;
  throw new MillraceError('INVALID_ARGUMENT', message);
}

function hashOf(secret: string): Buffer {
  return createHash('sha256').update(secret).digest();
}
