import type { Context } from 'hono';
import type { Grant, Role } from '../access/grant.ts';
import { visibleStatus } from '../access/visible.ts';
import type { Broker, Status } from '../broker/contract.ts';
import { DEFAULTS } from '../limits.ts';
import type { HttpEnv } from './context.ts';

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

/** What the sender of a request may do. Every check throws FORBIDDEN. */
export class Rights {
  readonly grant: Grant;
  readonly #broker: Broker;
  readonly #act: string;

  constructor(c: Context<HttpEnv>, broker: Broker) {
    this.grant = c.get('grant');
    this.#broker = broker;
    this.#act = `${c.req.method} ${c.req.path}`;
  }

  /** Undefined stands for all queues. */
  queue(roles: readonly Role[], queue: string | undefined): void {
    if (queue === undefined) this.grant.checkWhole(roles, this.#act);
    else this.grant.check(roles, queue, this.#act);
  }

  /** Rejects with NOT_FOUND, and what else the backend says when it is asked for the task; it is only when queues matter. */
  async task(roles: readonly Role[], id: string): Promise<void> {
    this.grant.checkRole(roles, this.#act);
    if (this.grant.ofAllQueues) return;
    const { queue } = await this.#broker.getTask(id);
    this.grant.check(roles, queue, this.#act);
  }

  /** Enqueueing, also into what these earlier tasks are in that the new ones are to depend on. */
  async enqueue(tasks: readonly { queue?: string | undefined }[], parentIds: readonly string[]): Promise<void> {
    this.grant.checkRole(['produce'], this.#act);
    if (this.grant.ofAllQueues) return;
    for (const { queue = DEFAULTS.queue } of tasks) this.grant.check(['produce'], queue, this.#act);
    for (const id of new Set(parentIds)) await this.task(['produce'], id);
  }

  /** Of a schedule, the queue into which it enqueues. Rejects with NOT_FOUND when there is none; looked for when queues matter. */
  async schedule(roles: readonly Role[], name: string): Promise<void> {
    this.grant.checkRole(roles, this.#act);
    if (this.grant.ofAllQueues) return;
    const { queue } = await this.#broker.schedules.get(name);
    this.grant.check(roles, queue, this.#act);
  }

  status(status: Status): Status {
    return visibleStatus(status, this.grant);
  }
}
