import { describe, expect, test } from 'vitest';
import { connectHost } from '../../test/support/embedded.ts';
import { frame, ScriptedLink } from '../../test/support/scripted-link.ts';
import { PRODUCER, settle } from '../../test/support/scripted-server.ts';
import { ManualClock } from '../../test/twins/manual-clock.ts';
import { MemoryDisk, memoryDirectory } from '../../test/twins/memory-disk.ts';
import { Credentials } from '../access/credentials.ts';
import { Keyring } from '../access/keyring.ts';
import { parseTaskId } from '../ids.ts';
import { LIMITS } from '../limits.ts';
import { BatchWriter } from '../protocol/batch-writer.ts';
import { FRAME } from '../protocol/frames.ts';
import { RESULT_STATE, readResults } from '../protocol/settlement.ts';
import { BufferPool } from '../protocol/writer.ts';
import { Host } from './host.ts';

const HELLO = frame(FRAME.HELLO, 1, (writer) => {
  writer.text(JSON.stringify({ protocol: 1, client: 'test', host: 'here', pid: 1, producer: PRODUCER }));
});
const CALL = frame(FRAME.CALL, 2, (writer) => {
  writer.text('{"method":"status"}');
});
const SUBSCRIBE = frame(FRAME.SUBSCRIBE, 2, (writer) => {
  writer.text('{"worker":"w","queues":["q"],"concurrency":1,"prefetch":1,"resume":[]}');
});

test('the time for a frame does not run while the server itself does not read', async () => {
  const clock = new ManualClock();
  const host = await Host.start({ directory: null, clock });
  const link = new ScriptedLink();
  host.accept(link);
  link.say(HELLO);
  link.bufferedBytes = LIMITS.sendBufferBytesMax + 1;
  link.say(CALL.subarray(0, 12));
  expect(link.paused).toBe(true);
  clock.advance(2 * LIMITS.frameTimeoutMs);
  expect(link.ended).toBe(false);
  link.drain();
  expect(link.paused).toBe(false);
  clock.advance(LIMITS.frameTimeoutMs);
  expect(link.ended).toBe(false);
  clock.advance(2000);
  expect(link.ended).toBe(true);
  // A client whose event loop is busy sends the rest too late, and may come back.
  expect(link.lastCode).toBe('TOO_SLOW');
  await host.stop({ timeoutMs: 0 });
});

/** A worker on a server with a disk. */
async function openWorker(): Promise<{ disk: MemoryDisk; host: Host; link: ScriptedLink }> {
  const disk = new MemoryDisk();
  const host = await Host.start({ directory: memoryDirectory(), disk });
  const link = new ScriptedLink();
  host.accept(link);
  link.say(HELLO);
  link.say(SUBSCRIBE);
  return { disk, host, link };
}

test('completions of nothing are answered, and take nothing of the disk', async () => {
  const { host, link } = await openWorker();
  await settle();
  const { appendedSequence } = host.engine.journal;
  for (let id = 3; id < 20; id++) link.say(frame(FRAME.COMPLETE, id, () => {}));
  while (link.frames.filter(({ type }) => type === FRAME.SETTLED).length < 17) await settle();
  expect(host.engine.journal.appendedSequence).toBe(appendedSequence);
  await host.stop({ timeoutMs: 0 });
});

test('who has as many answers to come as may wait for a slow disk is not read from meanwhile', async () => {
  const { disk, host, link } = await openWorker();
  disk.hold('write');
  link.say(frame(FRAME.CALL, 3, (writer) => writer.text('{"method":"queue.pause","params":{"queue":"q"}}')));
  await settle();
  const nothing = frame(FRAME.COMPLETE, 4, () => {});
  let said = 0;
  while (!link.paused && said < 2 * LIMITS.answersPerConnectionMax) {
    link.say(nothing);
    said++;
  }
  expect(said).toBeLessThanOrEqual(LIMITS.answersPerConnectionMax + 1);
  disk.release();
  while (link.frames.filter(({ type }) => type === FRAME.SETTLED).length < said) await settle();
  expect(link.paused).toBe(false);
  await host.stop({ timeoutMs: 0 });
});

test('who calls faster than it is worked on is not read from meanwhile', async () => {
  const host = await Host.start({ directory: null });
  const link = new ScriptedLink();
  host.accept(link);
  link.say(HELLO);
  const large = JSON.stringify({ method: 'status', params: { x: 'x'.repeat(LIMITS.callBytesMax - 100) } });
  const count = LIMITS.callsAtOnceMax + 1 + LIMITS.waitingCallBytesPerConnectionMax / LIMITS.callBytesMax;
  for (let id = 1; id <= count; id++) link.say(frame(FRAME.CALL, id, (writer) => writer.text(large)));
  link.say(frame(FRAME.CALL, count + 1, (writer) => writer.text(large)));
  expect(link.paused).toBe(true);
  while (link.frames.filter(({ type }) => type === FRAME.REPLY).length <= count) await settle();
  expect(link.paused).toBe(false);
  await host.stop({ timeoutMs: 0 });
});

test('of what a worker says of its tasks the newest is kept, up to a bound', async () => {
  const host = await Host.start({ directory: null });
  const client = await connectHost(host);
  const { ids } = await client.enqueueMany('x', new Array(2000).fill(null));
  const link = new ScriptedLink();
  host.accept(link);
  link.say(HELLO);
  const subscription = { worker: 'w', queues: ['default'], concurrency: 2000, prefetch: 2000 };
  link.say(frame(FRAME.SUBSCRIBE, 2, (writer) => writer.text(JSON.stringify(subscription))));
  const tokenOf = (id: string): string => {
    const { core } = host.engine;
    return String(core.assignments.of(core.index.get(parseTaskId(id))).token);
  };
  while ((await client.task(ids.at(1999)).info()).state !== 'active') await settle();
  for (const id of ids) {
    const said = { id, token: tokenOf(id), progress: { value: 'x'.repeat(LIMITS.progressBytesMax - 2) } };
    link.say(frame(FRAME.PROGRESS, 0, (writer) => writer.text(JSON.stringify(said))));
  }
  expect((await client.task(ids.at(1999)).info()).progress).toBeDefined();
  expect((await client.task(ids.at(0)).info()).progress).toBeUndefined();
  await client.close();
  await host.stop({ timeoutMs: 0 });
});

describe('a client that reads slowly', () => {
  const MiB = 1024 * 1024;
  /** What the link may have beyond its limit: one result, or the answers that were begun while there was room. */
  const RESULT_SLACK_BYTES = 2 * MiB;

  async function open(): Promise<{ host: Host; link: ScriptedLink; client: Awaited<ReturnType<typeof connectHost>> }> {
    const host = await Host.start({ directory: null });
    const link = new ScriptedLink();
    link.holds = true;
    host.accept(link);
    link.say(HELLO);
    return { host, link, client: await connectHost(host) };
  }

  /** Reads all there is, again and again, until `count` frames of the type have come. */
  async function readAll(link: ScriptedLink, type: number, count: number): Promise<void> {
    while (link.frames.filter((one) => one.type === type).length < count) {
      await settle();
      link.drain();
    }
  }

  test('gets every large result in its time, of tasks that end now and that ended before', async () => {
    const { host, link, client } = await open();
    const tasks = await client.enqueueMany('report', new Array(40).fill(null));
    const ids = [...tasks.ids].map(parseTaskId);
    const wait = (some: readonly number[]): Buffer =>
      frame(FRAME.WAIT, 9, (writer) => {
        for (const id of some) writer.u64(id);
      });
    link.say(wait(ids.slice(0, 20)));
    const text = 'x'.repeat(MiB - 2);
    await client.work({ report: () => text });
    await Promise.all([...tasks.ids].map((id) => client.task(id).result()));
    link.say(wait(ids.slice(20)));
    // Given up while it is put off.
    link.say(
      frame(FRAME.UNWAIT, 0, (writer) => {
        writer.u64(ids[39]);
      }),
    );
    await readAll(link, FRAME.RESULT, 39);
    const results = new Map<number, { state: number; bytes: number }>();
    for (const { type, body } of link.frames) {
      if (type !== FRAME.RESULT) continue;
      readResults(body, 0, body.length, (id, state, from, to) => results.set(id, { state, bytes: to - from }));
    }
    expect([...results.keys()].sort((a, b) => a - b)).toEqual(ids.slice(0, 39));
    for (const result of results.values()) expect(result).toEqual({ state: RESULT_STATE.COMPLETED, bytes: MiB });
    expect(link.bufferedBytesMax).toBeLessThan(LIMITS.sendBufferBytesMax + RESULT_SLACK_BYTES);
    expect(link.ended).toBe(false);
    await client.close();
    await host.stop({ timeoutMs: 0 });
  });

  test('gets every result that it waited for, although their tasks are forgotten as soon as they end', async () => {
    const host = await Host.start({ directory: null, segmentBytes: 32 * MiB, retention: { completedCountMax: 0 } });
    const link = new ScriptedLink();
    link.holds = true;
    host.accept(link);
    link.say(HELLO);
    const client = await connectHost(host);
    const { ids } = await client.enqueueMany('report', new Array(80).fill(null));
    link.say(
      frame(FRAME.WAIT, 9, (writer) => {
        for (const id of ids) writer.u64(parseTaskId(id));
      }),
    );
    const text = 'x'.repeat(MiB - 2);
    const worker = await client.work({ report: () => text });
    while (host.engine.core.table.count > 0) await settle();
    expect(host.engine.journal.segmentCount).toBeGreaterThan(2);
    await readAll(link, FRAME.RESULT, 80);
    for (const { type, body } of link.frames) {
      if (type !== FRAME.RESULT) continue;
      readResults(body, 0, body.length, (_id, state) => expect(state).toBe(RESULT_STATE.COMPLETED));
    }
    await worker.stop({ timeoutMs: 0 });
    // What was kept for it is given up.
    await client.enqueue('other');
    await settle();
    expect(host.engine.journal.segmentCount).toBe(1);
    await client.close();
    await host.stop({ timeoutMs: 0 });
  });

  test('gets every large answer to its calls', async () => {
    const { host, link, client } = await open();
    const { id } = await client.enqueue('report', 'x'.repeat(MiB - 2));
    for (let i = 0; i < 100; i++) {
      link.say(
        frame(FRAME.CALL, 10 + i, (writer) => {
          writer.text(JSON.stringify({ method: 'task.get', params: { id } }));
        }),
      );
    }
    await readAll(link, FRAME.REPLY, 100);
    expect(link.frames.slice(1).map(({ requestId }) => requestId)).toEqual(
      Array.from({ length: 100 }, (_, i) => 10 + i),
    );
    expect(link.bufferedBytesMax).toBeLessThan(LIMITS.sendBufferBytesMax + (LIMITS.callsAtOnceMax + 1) * 2 * MiB);
    await client.close();
    await host.stop({ timeoutMs: 0 });
  });

  test('is told of results that are not for it when it reads', async () => {
    const secret = 'secret-0123456789';
    const host = await Host.start({
      directory: null,
      keyring: new Keyring(Credentials.parse(`produce web ${secret} mail`, 'file')),
    });
    const link = new ScriptedLink();
    link.holds = true;
    host.accept(link);
    link.say(
      frame(FRAME.HELLO, 1, (writer) => {
        writer.text(JSON.stringify({ protocol: 1, client: 'test', host: 'here', producer: PRODUCER, token: secret }));
      }),
    );
    const count = LIMITS.resultWaitersPerConnectionMax;
    link.say(
      frame(FRAME.WAIT, 9, (writer) => {
        for (let id = 1; id <= count; id++) writer.u64(id);
      }),
    );
    await readAll(link, FRAME.RESULT, count);
    expect(link.bufferedBytesMax).toBeLessThan(LIMITS.sendBufferBytesMax + RESULT_SLACK_BYTES);
    expect(link.ended).toBe(false);
    await host.stop({ timeoutMs: 0 });
  });

  test('and reads nothing at all is cut off with an error after which it may come back', async () => {
    const clock = new ManualClock();
    const host = await Host.start({ directory: null, clock });
    const link = new ScriptedLink();
    host.accept(link);
    link.say(HELLO);
    link.bufferedBytes = LIMITS.sendBufferBytesEvict + 1;
    clock.advance(1000);
    expect(link.ended).toBe(true);
    expect(link.lastCode).toBe('TOO_SLOW');
    await host.stop({ timeoutMs: 0 });
  });
});

describe('producers that are faster than the disk', () => {
  const SPEC = {
    ...{ queue: 'q', name: 'n', priority: 4, maxAttempts: 1, timeoutMs: 1000 },
    backoff: { type: 'fixed', delayMs: 0, maxDelayMs: 0, jitter: false },
  } as const;
  const LARGE = 'x'.repeat(LIMITS.payloadBytesMax);

  function batchOf(tasks: number, number: number, payload = LARGE): Buffer {
    const writer = new BatchWriter(new BufferPool());
    for (let count = 0; count < tasks; count++) writer.add(SPEC, { kind: 'now' }, payload);
    const bytes = writer.seal(number);
    writer.address(number, 1);
    return bytes;
  }

  /** A connection of a producer of its own. */
  class Producer {
    readonly link = new ScriptedLink();
    said = 0;

    constructor(host: Host, name: string) {
      host.accept(this.link);
      this.link.say(
        frame(FRAME.HELLO, 1, (writer) => {
          const producer = Buffer.from(name.padEnd(16)).toString('hex');
          writer.text(JSON.stringify({ protocol: 1, client: 'test', host: 'here', pid: 1, producer }));
        }),
      );
    }

    get confirmed(): number {
      return this.link.frames.filter(({ type }) => type === FRAME.CONFIRM).length;
    }

    /** Returns how many bytes it took. Others have their turn after each frame; that is over then. */
    async sendUntilPaused(): Promise<number> {
      const before = this.said;
      while (!this.link.paused) {
        this.link.say(batchOf(4, ++this.said));
        await settle();
      }
      return (this.said - before) * 4 * LIMITS.payloadBytesMax;
    }

    send(payload: string): void {
      this.link.say(batchOf(1, ++this.said, payload));
    }

    async allConfirmed(): Promise<void> {
      while (this.confirmed < this.said) await settle();
    }
  }

  async function open(): Promise<{ disk: MemoryDisk; host: Host; clock: ManualClock; one: Producer; other: Producer }> {
    const [disk, clock] = [new MemoryDisk(), new ManualClock()];
    const host = await Host.start({ directory: memoryDirectory(), disk, clock });
    return { disk, host, clock, one: new Producer(host, 'one'), other: new Producer(host, 'other') };
  }

  test('are read from no further while their shares of it wait, and go on when that is on disk', async () => {
    const { disk, host, one, other } = await open();
    disk.hold('write');
    const first = await one.sendUntilPaused();
    expect(first).toBeGreaterThanOrEqual(LIMITS.unconfirmedBytesShared - LIMITS.frameBytesMax / 4);
    expect(first).toBeLessThanOrEqual(LIMITS.unconfirmedBytesShared + LIMITS.frameBytesMax / 4);
    const second = await other.sendUntilPaused();
    expect(second).toBeLessThanOrEqual(LIMITS.unconfirmedBytesShared / 2 + LIMITS.frameBytesMax / 4);
    disk.release();
    await Promise.all([one.allConfirmed(), other.allConfirmed()]);
    expect([one.link.paused, other.link.paused]).toEqual([false, false]);
    await host.stop({ timeoutMs: 0 });
  });

  test('hold up nobody who sends little, however many they are', async () => {
    const { disk, host, one, other } = await open();
    disk.hold('write');
    await one.sendUntilPaused();
    const many = Array.from({ length: 100 }, (_, index) => new Producer(host, `many ${index}`));
    for (const each of many) each.send('x'.repeat(LIMITS.littleUnconfirmedBytes / 2));
    other.send(LARGE);
    other.link.say(CALL);
    await settle();
    for (const { link } of [...many, other]) expect(link.paused).toBe(false);
    expect(other.link.frames.at(-1)?.type).toBe(FRAME.REPLY);
    disk.release();
    await Promise.all([...many, one, other].map((each) => each.allConfirmed()));
    await host.stop({ timeoutMs: 0 });
  });

  test('hear from the server as long as it does not read from them', async () => {
    const { disk, host, clock, one, other } = await open();
    disk.hold('write');
    await one.sendUntilPaused();
    const pings = ({ link }: Producer): number => link.frames.filter(({ type }) => type === FRAME.PING).length;
    for (let second = 0; second < 60; second++) clock.advance(1000);
    await settle();
    expect([pings(one), pings(other)]).toEqual([60, 0]);
    disk.release();
    await one.allConfirmed();
    clock.advance(1000);
    await settle();
    expect(pings(one)).toBe(60);
    await host.stop({ timeoutMs: 0 });
  });

  test('are told when the disk is full, and not kept waiting for it', async () => {
    const { disk, host, clock, one } = await open();
    disk.hold('write');
    await one.sendUntilPaused();
    disk.capacityBytes = disk.usedBytes;
    disk.release();
    while (!host.engine.journal.stats().diskFull) await settle();
    expect(one.link.paused).toBe(true);
    clock.advance(1000);
    expect(one.link.paused).toBe(false);
    one.send(LARGE);
    await settle();
    expect(one.link.lastCode).toBe('DISK_FULL');
    disk.capacityBytes = Number.POSITIVE_INFINITY;
    while (one.confirmed < one.said - 1) {
      clock.advance(1000);
      await settle();
    }
    await host.stop({ timeoutMs: 0 });
  });
});
