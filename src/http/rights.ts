import type { Context } from 'hono';
import type { Grant, Role } from '../access/grant.ts';
import { visibleStatus } from '../access/visible.ts';
import type { Broker, Status } from '../broker/contract.ts';
import type { Client } from '../client/client.ts';
import { MillraceError, shown } from '../errors.ts';
import { DEFAULTS } from '../limits.ts';
import type { Backend } from './backends.ts';
import type { HttpEnv, Served } from './context.ts';

/**
 * What a request needs, as over TCP (src/server/call-access.ts). The role is looked at before the request is read; the queue by
 * whoever handles it, with `Rights`, because it may stand in the body.
 */
interface Need {
  readonly methods: readonly string[];
  readonly path: RegExp;
  /** One of them; none: whoever has credentials. */
  readonly roles: readonly Role[];
}

const GET = ['GET', 'HEAD', 'OPTIONS'];
const POST = ['POST'];

/** The first that fits. */
const NEEDS: readonly Need[] = [
  { methods: GET, path: /^\/v1\/info$/, roles: [] },
  { methods: GET, path: /^\/v1\/(stats|queues|workers|scaling)(\/|$)/, roles: ['read', 'work'] },
  { methods: GET, path: /^\/v1\/tasks\/[^/]+\/result$/, roles: ['produce', 'read'] },
  { methods: GET, path: /^\/(v1\/|metrics$)/, roles: ['read'] },
  { methods: POST, path: /^\/v1\/(tasks|flows)$/, roles: ['produce'] },
  { methods: POST, path: /^\/v1\/leases(\/|$)/, roles: ['work'] },
  // The page and the description of all this.
  { methods: GET, path: /^/, roles: [] },
];

/** Throws FORBIDDEN for who has not the role. */
export function checkRequest(grant: Grant, method: string, path: string): void {
  const need = NEEDS.find((each) => each.methods.includes(method) && each.path.test(path));
  const roles: readonly Role[] = need === undefined ? ['operate'] : need.roles;
  if (roles.length > 0) grant.checkRole(roles, `${method} ${path}`);
}

/**
 * The backend as the sender of a request meets it, and what he may do there: some backends look at grants themselves, others do
 * not. Every check throws FORBIDDEN.
 */
export class Rights {
  readonly grant: Grant;
  readonly broker: Broker;
  readonly client: Client;
  readonly #isGuarded: boolean;
  readonly #act: string;

  /** Rejects when his credentials are over: his request may have been long in coming. */
  static async of(c: Context<HttpEnv>, { access, backends }: Served): Promise<Rights> {
    const grant = c.get('grant');
    access.keyring.check(grant);
    return new Rights(grant, await backends.of(grant), `${c.req.method} ${c.req.path}`);
  }

  private constructor(grant: Grant, { broker, client, isGuarded = false }: Backend, act: string) {
    this.grant = grant;
    this.#isGuarded = isGuarded;
    this.broker = broker;
    this.client = client;
    this.#act = act;
  }

  /** Undefined stands for all queues. */
  queue(roles: readonly Role[], queue: string | undefined): void {
    if (queue === undefined) this.grant.checkWhole(roles, this.#act);
    else this.grant.check(roles, queue, this.#act);
  }

  /** Rejects with NOT_FOUND, also for a task of a queue that is not his; the backend is asked only when it does not look itself. */
  async task(roles: readonly Role[], id: string): Promise<void> {
    this.grant.checkRole(roles, this.#act);
    if (!this.#isGuarded) await this.taskHere(roles, id);
  }

  /** As `task`, for what is then done without the backend's own look at the grant. */
  async taskHere(roles: readonly Role[], id: string): Promise<void> {
    this.grant.checkRole(roles, this.#act);
    if (this.grant.ofAllQueues) return;
    const { queue } = await this.seen(`task ${id}`, this.broker.taskState(id));
    if (!this.grant.covers(queue)) throw this.grant.unseen(`task ${id}`);
  }

  /** Enqueueing, also into what these earlier tasks are in that the new ones are to depend on. */
  async enqueue(tasks: readonly { queue?: string | undefined }[], parentIds: readonly string[]): Promise<void> {
    this.grant.checkRole(['produce'], this.#act);
    if (this.grant.ofAllQueues) return;
    for (const { queue = DEFAULTS.queue } of tasks) this.grant.check(['produce'], queue, this.#act);
    if (this.#isGuarded) return;
    for (const id of new Set(parentIds)) await this.task(['produce'], id);
  }

  /** Of a schedule, the queue into which it enqueues. Rejects as `task` does. */
  async schedule(roles: readonly Role[], name: string): Promise<void> {
    this.grant.checkRole(roles, this.#act);
    if (this.grant.ofAllQueues || this.#isGuarded) return;
    const what = `schedule ${shown(name)}`;
    const { queue } = await this.seen(what, this.broker.schedules.get(name));
    if (!this.grant.covers(queue)) throw this.grant.unseen(what);
  }

  /** One that is to be set, in place of another or as a new one. Rejects with FORBIDDEN when another has the name whose queue is not his. */
  async newSchedule(roles: readonly Role[], name: string): Promise<void> {
    this.grant.checkRole(roles, this.#act);
    if (this.grant.ofAllQueues || this.#isGuarded) return;
    const known = await this.broker.schedules.get(name).catch((error: unknown) => {
      if (!isNotFound(error)) throw error;
      return undefined;
    });
    if (known !== undefined && !this.grant.covers(known.queue)) throw this.grant.taken(`schedule ${shown(name)}`);
  }

  /** What one asks the backend for by its name; that it is not there is said in the words in which it is said of what is not his. */
  async seen<T>(what: string, asked: Promise<T>): Promise<T> {
    try {
      return await asked;
    } catch (error) {
      if (this.grant.ofAllQueues || !isNotFound(error)) throw error;
      throw this.grant.unseen(what);
    }
  }

  status(status: Status): Status {
    return visibleStatus(status, this.grant);
  }
}

export function isNotFound(error: unknown): boolean {
  return error instanceof MillraceError && error.code === 'NOT_FOUND';
}
