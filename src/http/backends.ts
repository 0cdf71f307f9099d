import type { Grant } from '../access/grant.ts';
import type { Keyring } from '../access/keyring.ts';
import type { Broker } from '../broker/contract.ts';
import type { Client } from '../client/client.ts';

/** The backend as one sees it who sends requests. */
export interface Backend {
  readonly broker: Broker;
  /** Over the same broker, for what it checks and encodes. */
  readonly client: Client;
  /** Whether it refuses by itself what the grant does not allow. */
  readonly isGuarded?: boolean;
}

/** Opens one for whoever has the grant, which refuses by itself what that does not allow. */
export type OpenFor = (grant: Grant) => Promise<Pick<Backend, 'broker' | 'client'>>;

interface Own {
  readonly grant: Grant;
  readonly backend: Promise<Backend>;
}

/**
 * Which backend serves whom. Who may use all queues shares one with the others who may; who may use some has one of his own,
 * where there is such: a connection has limits, of calls at a time and of what is unconfirmed, and whoever fills one holds
 * nobody else up.
 */
export class Backends {
  readonly #shared: Backend;
  readonly #keyring: Keyring;
  readonly #openFor: OpenFor | undefined;
  readonly #own = new Map<string, Own>();
  readonly #forget: () => void;

  constructor(shared: Backend, keyring: Keyring, openFor?: OpenFor) {
    this.#shared = shared;
    this.#keyring = keyring;
    this.#openFor = openFor;
    this.#forget = keyring.onReplaced(() => this.#closeRevoked());
  }

  /** Rejects like `OpenFor`. */
  of(grant: Grant): Promise<Backend> {
    const { name, ofAllQueues } = grant;
    if (this.#openFor === undefined || name === undefined || ofAllQueues) return Promise.resolve(this.#shared);
    const known = this.#own.get(name);
    if (known?.grant.equals(grant) === true) return known.backend;
    const own = { grant, backend: this.#openFor(grant).then((opened) => ({ ...opened, isGuarded: true })) };
    this.#own.set(name, own);
    own.backend.catch(() => {
      // The next one tries again; who asked is told.
      if (this.#own.get(name) === own) this.#own.delete(name);
    });
    return own.backend;
  }

  /** Those that were opened here. Always resolves. */
  async close(): Promise<void> {
    this.#forget();
    await Promise.all([...this.#own.values()].map(closeOne));
    this.#own.clear();
  }

  #closeRevoked(): void {
    for (const [name, own] of this.#own) {
      if (this.#keyring.revocation(own.grant) === undefined) continue;
      this.#own.delete(name);
      void closeOne(own);
    }
  }
}

async function closeOne({ backend }: Own): Promise<void> {
  // Of one that could not be opened nothing is there to close, and whoever asked for it was told.
  const opened = await backend.catch(() => undefined);
  await opened?.client.close({ timeoutMs: 0 });
}
