import { connect as connectSocket, type Socket } from 'node:net';
import { invariant } from '../errors.ts';
import { type Client, connect, LIMITS } from '../index.ts';
import { answerParent } from './methods.ts';
import { nowNs } from './numbers.ts';
import { buildPayload } from './payload.ts';
import { type Noise, TASK_NAME } from './workload.ts';

const QUEUE = 'noise';
const CLIENTS = 4;
const SMALL_TASKS = 1000;
const LARGE = { tasks: 100, payloadBytes: 100 * 1024 };
/** Of each client. */
const ENQUEUES_IN_FLIGHT = 4;
const LISTS_IN_FLIGHT = 250;
const LIST_TASKS = 100;
const NEWCOMERS = 64;

/** Of docs/protocol.md: what comes and goes, or does not read, is no client of ours. */
const FRAME = { HELLO: 1, SUBSCRIBE: 32 };
const PRODUCER = '0123456789abcdef0123456789abcdef';
const HELLO = frame(FRAME.HELLO, { protocol: 1, client: 'noise', host: 'bench', pid: 1, producer: PRODUCER });
const SUBSCRIBE = frame(FRAME.SUBSCRIBE, {
  ...{ worker: 'slow', queues: [QUEUE], resume: [] },
  ...{ concurrency: LIMITS.prefetchMax, prefetch: LIMITS.prefetchMax },
});

function frame(type: number, message: object): Buffer {
  const body = Buffer.from(JSON.stringify(message));
  const head = Buffer.alloc(9);
  head.writeUInt32LE(body.length, 0);
  head[4] = type;
  head.writeUInt32LE(1, 5);
  return Buffer.concat([head, body]);
}

let url = '';
let clients: Client[] = [];
let isOver = true;
let made = 0;
let beganNs = 0;
let running: Promise<unknown>[] = [];
const ends: (() => void)[] = [];

const methods = {
  async connect(options: { url: string }): Promise<void> {
    ({ url } = options);
    clients = await Promise.all(Array.from({ length: CLIENTS }, () => connect(url)));
  },

  /** Resolves when it is under way. */
  async begin({ noise, slowReaders }: { noise: Noise; slowReaders: number }): Promise<void> {
    isOver = false;
    if (noise === 'lists') await enqueue(first(), LIST_TASKS, 100);
    if (noise === 'slow') await fillFor(slowReaders);
    made = 0;
    beganNs = nowNs();
    running = makers(noise, slowReaders).map(again);
    await untilMade();
  },

  /** How much there was of it in a second, of slow readers how many; what it left is removed. */
  async end(_: Record<string, never>): Promise<{ perSecond: number }> {
    isOver = true;
    const perSecond = ends.length > 0 ? made : made / ((nowNs() - beganNs) / 1e9);
    for (const end of ends.splice(0)) end();
    await Promise.all(running);
    await first().queue(QUEUE).purge().catch(ignoreUnused);
    return { perSecond };
  },
};

export type NoiseMethods = typeof methods;

/** Each makes some of it, and is called again when that is done. */
function makers(noise: Noise, slowReaders: number): (() => Promise<void>)[] {
  const each = (count: number, make: (client: Client) => Promise<void>): (() => Promise<void>)[] =>
    clients.flatMap((client) => Array.from({ length: count }, () => () => make(client)));
  switch (noise) {
    case 'small':
      return each(ENQUEUES_IN_FLIGHT, (client) => enqueue(client, SMALL_TASKS, 100));
    case 'large':
      return each(ENQUEUES_IN_FLIGHT, (client) => enqueue(client, LARGE.tasks, LARGE.payloadBytes));
    case 'lists':
      return each(LISTS_IN_FLIGHT, async (client) => {
        await client.tasks.list({ queue: QUEUE, limit: LIST_TASKS });
        made++;
      });
    case 'connections':
      return Array.from({ length: NEWCOMERS }, () => comeAndGo);
    case 'slow':
      return Array.from({ length: slowReaders }, () => readNothing);
    default:
      return noise satisfies never;
  }
}

/** Until it is over. What is refused then, or breaks off, is no matter. */
async function again(make: () => Promise<void>): Promise<void> {
  while (!isOver) await make();
}

async function untilMade(): Promise<void> {
  while (made === 0) await new Promise((resolve) => setTimeout(resolve, 1));
}

async function enqueue(client: Client, tasks: number, payloadBytes: number): Promise<void> {
  const payload = payloadBytes === 100 ? buildPayload(0) : { ...buildPayload(0), text: 'x'.repeat(payloadBytes) };
  await client.enqueueMany(TASK_NAME, new Array(tasks).fill(payload), { queue: QUEUE });
  made += tasks;
}

/** More than all of them may leave unread. */
async function fillFor(slowReaders: number): Promise<void> {
  const bytes = slowReaders * LIMITS.sendBufferBytesMax;
  for (let left = 2 * bytes; left > 0; left -= LARGE.tasks * LARGE.payloadBytes) {
    await enqueue(first(), LARGE.tasks, LARGE.payloadBytes);
  }
}

function address(): { host: string; port: number } {
  const { hostname, port } = new URL(url);
  return { host: hostname, port: Number(port) };
}

async function comeAndGo(): Promise<void> {
  const { socket, closed } = dial(HELLO);
  // Reset, or the system would soon have no port left.
  socket.once('data', () => socket.resetAndDestroy());
  await closed;
  made++;
}

/** Subscribes, and reads nothing of what it is given. */
async function readNothing(): Promise<void> {
  const { socket, closed } = dial(Buffer.concat([HELLO, SUBSCRIBE]));
  made++;
  ends.push(() => socket.destroy());
  if (isOver) socket.destroy();
  await closed;
}

function dial(says: Buffer): { socket: Socket; closed: Promise<void> } {
  const socket = connectSocket(address());
  socket.on('error', () => {
    // Being refused, or reset, is one way of being closed.
  });
  socket.write(says);
  return { socket, closed: new Promise((resolve) => socket.once('close', () => resolve())) };
}

function ignoreUnused(error: { code?: string }): void {
  if (error.code !== 'NOT_FOUND') throw error;
}

function first(): Client {
  const [client] = clients;
  invariant(client !== undefined, 'the noise was connected');
  return client;
}

answerParent(methods, async () => {
  isOver = true;
  for (const end of ends.splice(0)) end();
  await Promise.all(clients.map((client) => client.close({ timeoutMs: 1000 })));
});
