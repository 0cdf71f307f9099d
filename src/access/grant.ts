import { timingSafeEqual } from 'node:crypto';
import { MillraceError, shown, shownValue } from '../errors.ts';
import { LIMITS } from '../limits.ts';
import { ALL_QUEUES, type QueuePattern } from './queue-pattern.ts';

/** What one may do; docs/security.md says what belongs to each. */
export const ROLES = ['produce', 'work', 'read', 'operate'] as const;
export type Role = (typeof ROLES)[number];

interface GrantParts {
  /** Of the credentials; undefined when none are asked for. */
  readonly name: string | undefined;
  readonly roles: readonly Role[];
  readonly queues: readonly QueuePattern[];
  readonly secretHash: Buffer | undefined;
}

/**
 * What whoever has certain credentials may do, and with which queues. One object for all connections that have them; it
 * never changes: other rights are another grant.
 */
export class Grant {
  readonly name: string | undefined;
  /** With those that others imply. */
  readonly roles: readonly Role[];
  /** Patterns, as they were written. */
  readonly queues: readonly string[];
  readonly ofAllQueues: boolean;
  readonly #patterns: readonly QueuePattern[];
  readonly #secretHash: Buffer | undefined;
  /** By the name of a queue: the patterns are tried once for each. */
  readonly #decided = new Map<string, boolean>();

  constructor({ name, roles, queues, secretHash }: GrantParts) {
    this.name = name;
    this.roles = ROLES.filter((role) => roles.includes(role) || roles.includes('operate'));
    this.queues = queues.map(({ text }) => text);
    this.ofAllQueues = this.queues.includes(ALL_QUEUES);
    this.#patterns = queues;
    this.#secretHash = secretHash;
  }

  hasSecret(hash: Buffer): boolean {
    return this.#secretHash !== undefined && timingSafeEqual(this.#secretHash, hash);
  }

  /** Whether it is of the same name and lets one do the same. */
  equals(other: Grant): boolean {
    return this.name === other.name && `${this.roles}` === `${other.roles}` && `${this.queues}` === `${other.queues}`;
  }

  /** Whether it has one of the roles. */
  has(roles: readonly Role[]): boolean {
    return roles.some((role) => this.roles.includes(role));
  }

  covers(queue: string): boolean {
    if (this.ofAllQueues) return true;
    // No queue has such a name, and it would be remembered here.
    if (queue.length > LIMITS.queueNameBytesMax) return false;
    const known = this.#decided.get(queue);
    if (known !== undefined) return known;
    const covered = this.#patterns.some((pattern) => pattern.matches(queue));
    // Names that do not exist may be asked for without end.
    if (this.#decided.size >= LIMITS.queuesMax) this.#decided.clear();
    this.#decided.set(queue, covered);
    return covered;
  }

  /** Throws FORBIDDEN when it has none of the roles. `act` is what was tried, as a gerund. */
  checkRole(roles: readonly Role[], act: string): void {
    if (!this.has(roles)) throw this.refusal(roles, act);
  }

  /** FORBIDDEN for who has none of the roles. */
  refusal(roles: readonly Role[], act: string): MillraceError {
    const message = `${act} needs the role ${roles.join(' or ')}; ${this.#who()} ${this.#has()}`;
    return new MillraceError('FORBIDDEN', message, { details: { roles } });
  }

  /** Throws FORBIDDEN when it has none of the roles, or not for this queue. */
  check(roles: readonly Role[], queue: string, act: string): void {
    this.checkRole(roles, act);
    if (this.covers(queue)) return;
    const message = `${act} needs the role ${roles.join(' or ')} for the queue ${shown(queue)}; ${this.#who()} ${this.#has()} for ${this.queues.join(', ')} only`;
    throw new MillraceError('FORBIDDEN', message, { details: { roles, queue: shownValue(queue) } });
  }

  /** For what concerns all queues: throws FORBIDDEN when it has none of the roles, or not for all of them. */
  checkWhole(roles: readonly Role[], act: string): void {
    this.checkRole(roles, act);
    if (this.ofAllQueues) return;
    const message = `${act} concerns all queues; ${this.#who()} ${this.#has()} for ${this.queues.join(', ')} only: name one of these queues`;
    throw new MillraceError('FORBIDDEN', message, { details: { roles } });
  }

  /** NOT_FOUND for what is not there, or is of queues that it does not cover: which of both is nobody's business. */
  unseen(what: string): MillraceError {
    const message = `${what} does not exist, is no longer retained, or is of a queue that is not for ${this.#who()}: ${this.queues.join(', ')} only`;
    return new MillraceError('NOT_FOUND', message);
  }

  /** FORBIDDEN for a name that something has which is of queues that it does not cover: all share the names. */
  taken(what: string): MillraceError {
    return new MillraceError(
      'FORBIDDEN',
      `there is a ${what} of a queue that is not for ${this.#who()}: choose another name`,
    );
  }

  #who(): string {
    return this.name === undefined ? 'this connection' : `the credentials ${shown(this.name)}`;
  }

  #has(): string {
    return this.roles.length === 0
      ? 'has none'
      : `${this.name === undefined ? 'has' : 'have'} ${this.roles.join(', ')}`;
  }
}

const EVERY_QUEUE: QueuePattern = { text: ALL_QUEUES, matches: () => true };

/** Where no credentials are asked for. */
export const EVERYTHING = new Grant({
  name: undefined,
  roles: ['operate'],
  queues: [EVERY_QUEUE],
  secretHash: undefined,
});

/** Of who has not said yet who he is. */
export const NOTHING = new Grant({ name: undefined, roles: [], queues: [], secretHash: undefined });
