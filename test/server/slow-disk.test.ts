import { rm } from 'node:fs/promises';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { connect } from '../../src/index.ts';
import { LIMITS } from '../../src/limits.ts';
import { DeliveryReader, WireRun } from '../../src/protocol/delivery.ts';
import { FRAME } from '../../src/protocol/frames.ts';
import { CompletionWriter } from '../../src/protocol/settlement-writer.ts';
import { Server } from '../../src/server/server.ts';
import { temporaryDirectory } from '../conformance/backends.ts';
import { HeldDisk } from '../conformance/held-disk.ts';
import { RawClient } from './raw-client.ts';

/** What a disk that stands still may make a server hold for its workers. */
let directory: string;
let disk: HeldDisk;
let server: Server;

beforeEach(async () => {
  directory = await temporaryDirectory();
  disk = new HeldDisk();
  server = await Server.start({ directory, disk, port: 0 });
});

afterEach(async () => {
  disk.release();
  await server.stop({ timeoutMs: 0 });
  await rm(directory, { recursive: true });
});

async function enqueue(count: number): Promise<void> {
  const client = await connect(server.url);
  for (let from = 0; from < count; from += 10_000) {
    await client.enqueueMany('task', new Array(Math.min(10_000, count - from)).fill(0));
  }
  await client.close();
}

/** A worker that completes at once whatever it gets. */
class QuickWorker {
  readonly client: RawClient;
  readonly #reader = new DeliveryReader(WireRun);
  readonly #result: string | undefined;
  delivered = 0;
  answered = 0;
  #requestId = 10;

  static async start(prefetch: number, result?: string): Promise<QuickWorker> {
    const client = await RawClient.open(server.port);
    await client.greet();
    client.writer.json(FRAME.SUBSCRIBE, 2, { worker: 'w', queues: ['default'], concurrency: 1, prefetch, resume: [] });
    await client.json(FRAME.REPLY);
    return new QuickWorker(client, result);
  }

  private constructor(client: RawClient, result: string | undefined) {
    this.client = client;
    this.#result = result;
  }

  /** Goes on until nothing comes any more: pings are answered in their turn, deliveries only defer once. */
  async workUntilQuiet(): Promise<void> {
    let quiet = 0;
    while (quiet < 3) {
      this.client.writer.empty(FRAME.PING, 1);
      quiet++;
      for (let frame = await this.client.next(); frame?.type !== FRAME.PONG; frame = await this.client.next()) {
        if (frame === undefined) throw new Error('the connection ended');
        if (frame.type === FRAME.SETTLED) this.answered++;
        if (frame.type !== FRAME.DELIVER) continue;
        quiet = 0;
        this.complete(frame.body);
      }
    }
  }

  async workUntilDelivered(count: number): Promise<void> {
    while (this.delivered < count) {
      const frame = await this.client.next();
      if (frame === undefined) throw new Error('the connection ended');
      if (frame.type === FRAME.SETTLED) this.answered++;
      if (frame.type === FRAME.DELIVER) this.complete(frame.body);
    }
  }

  complete(body: Buffer): void {
    for (const run of this.#reader.read(body, 0, body.length)) {
      this.delivered += run.length;
      for (let index = 0; index < (this.#result === undefined ? 1 : run.length); index++) {
        this.client.writer.begin(FRAME.COMPLETE, ++this.#requestId);
        const completions = new CompletionWriter(this.client.writer);
        const { firstId, firstToken, length } = run;
        if (this.#result === undefined) completions.add(firstId, firstToken, length);
        else completions.addWithResults(firstId + index, firstToken + index, 1, [this.#result], 0);
        completions.finish();
        this.client.writer.end();
      }
    }
  }
}

test('a worker gets no more tasks while very many that it completed wait for the disk, and goes on after it', async () => {
  const count = LIMITS.unansweredTasksMax + 30_000;
  await enqueue(count);
  disk.hold();
  const worker = await QuickWorker.start(2000);
  await worker.workUntilQuiet();
  expect(worker.delivered).toBeGreaterThan(LIMITS.unansweredTasksMax);
  expect(worker.delivered).toBeLessThanOrEqual(LIMITS.unansweredTasksMax + 2000);
  disk.release();
  await worker.workUntilDelivered(count);
  worker.client.close();
});

test('results are not read from a worker while too many bytes of them wait for the disk, and go on after it', async () => {
  const count = 100;
  await enqueue(count);
  disk.hold();
  const worker = await QuickWorker.start(count, 'x'.repeat(1_000_000));
  await worker.workUntilDelivered(count);
  const { journal } = server.host.engine;
  while (journal.unwrittenBytes <= LIMITS.unconfirmedBytesPerConnectionMax) await turn();
  for (let i = 0; i < 100; i++) await turn();
  expect(journal.unwrittenBytes).toBeLessThan(LIMITS.unconfirmedBytesPerConnectionMax + LIMITS.frameBytesMax);
  disk.release();
  while (worker.answered < count) {
    const frame = await worker.client.next();
    if (frame?.type === FRAME.SETTLED) worker.answered++;
  }
  worker.client.close();
});

test('nobody gets tasks while more waits for the disk than the server may hold', async () => {
  await enqueue(400);
  disk.hold();
  const { journal } = server.host.engine;
  const isOver = (): boolean => journal.unwrittenBytes > LIMITS.unconfirmedBytesMax;
  const workers: QuickWorker[] = [];
  // Each leaves less unwritten than a connection may; together it becomes more than the server may hold.
  while (!isOver()) {
    const worker = await QuickWorker.start(20, 'x'.repeat(1_000_000));
    workers.push(worker);
    worker.workUntilDelivered(20).catch(() => {
      // The last one does not get all of its tasks.
    });
    while (!isOver() && journal.unwrittenBytes < workers.length * 20_000_000) await turn();
  }
  const late = await QuickWorker.start(20);
  await late.workUntilQuiet();
  expect(late.delivered).toBe(0);
  disk.release();
  await late.workUntilDelivered(20);
  for (const { client } of [...workers, late]) client.close();
});

function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

test('how things stand is told while the disk stands still, and what is enqueued meanwhile is confirmed afterwards', async () => {
  const client = await connect(server.url);
  await client.enqueue('task', 0);
  disk.hold();
  const waiting = client.enqueue('task', 1);
  let [ready, asked] = [0, 0];
  while (ready < 2 && asked++ < 1000) ready = (await client.status()).queues[0]?.ready ?? 0;
  expect(ready).toBe(2);
  disk.release();
  await waiting;
  await client.close();
});
