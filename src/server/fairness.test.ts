import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { connectHost } from '../../test/support/embedded.ts';
import { frame, ScriptedLink } from '../../test/support/scripted-link.ts';
import { PRODUCER } from '../../test/support/scripted-server.ts';
import type { TaskSpec } from '../broker/contract.ts';
import type { Client } from '../client/client.ts';
import { LIMITS } from '../limits.ts';
import { BatchWriter, manyBytesBound } from '../protocol/batch-writer.ts';
import { FRAME } from '../protocol/frames.ts';
import { sharedPool } from '../protocol/writer.ts';
import { Host } from './host.ts';

/** What others ask for between a task's enqueue and its end, counted: of time a test could not tell. */
const KiB = 1024;
const MiB = 1024 * KiB;
/** What the system hands over of one connection in one turn. */
const PIECE_BYTES = 64 * KiB;
const PIECES_A_TURN = 32;

const HELLO = frame(FRAME.HELLO, 1, (writer) => {
  writer.text(JSON.stringify({ protocol: 1, client: 'test', host: 'here', pid: 1, producer: PRODUCER }));
});
const SPEC: TaskSpec = {
  queue: 'noise',
  name: 'n',
  priority: 4,
  maxAttempts: 1,
  timeoutMs: 60_000,
  backoff: { type: 'fixed', delayMs: 0, maxDelayMs: 0, jitter: false },
};

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

let host: Host;
let quiet: Client;
let noise: ScriptedLink[];

beforeEach(async () => {
  host = await Host.start({ directory: null, connectionsMax: 1000 });
  quiet = await connectHost(host);
  await quiet.work({ quiet: (input) => input }, { queues: ['quiet'] });
  noise = [];
});

afterEach(async () => {
  await quiet.close();
  await host.stop({ timeoutMs: 0 });
});

function join(count: number): void {
  for (let left = count; left > 0; left--) {
    const link = new ScriptedLink();
    host.accept(link);
    link.say(HELLO);
    noise.push(link);
  }
}

/** `noises` makes its noise of one turn, and counts it; what of it came between the enqueue and the result of each of the quiet one's tasks. */
async function between(rounds: number, noises: () => number): Promise<{ p50: number; p99: number }> {
  let heard = 0;
  let isOver = false;
  const making = (async () => {
    while (!isOver) {
      heard += noises();
      await turn();
    }
  })();
  const samples: number[] = [];
  try {
    for (let round = 0; round < rounds; round++) {
      const before = heard;
      const task = await quiet.enqueue('quiet', round, { queue: 'quiet' });
      expect(await task.result()).toBe(round);
      samples.push(heard - before);
    }
  } finally {
    isOver = true;
    await making;
  }
  samples.sort((a, b) => a - b);
  const at = (share: number): number => samples[Math.ceil(samples.length * share) - 1] as number;
  return { p50: at(0.5), p99: at(0.99) };
}

/** A frame of many tasks, as a stream of bytes without end. */
function* stream(payloadBytes: number, tasks: number): Generator<Buffer> {
  for (let batch = 1; ; batch++) {
    const writer = new BatchWriter(sharedPool);
    const payloads = new Array<string>(tasks).fill('x'.repeat(payloadBytes));
    writer.addMany(SPEC, { kind: 'now' }, payloads, manyBytesBound(payloads));
    const sealed = writer.seal(batch);
    writer.address(batch, batch);
    const bytes = Buffer.from(sealed);
    writer.release();
    for (let from = 0; from < bytes.length; from += PIECE_BYTES) yield bytes.subarray(from, from + PIECE_BYTES);
  }
}

describe('a quiet client beside noisy ones', () => {
  test.each([
    [1, 100, 2000],
    [8, 100, 2000],
    [100, 100, 2000],
    [8, 100 * KiB, 30],
  ])(
    'that is to say %d that enqueue tasks of %d bytes without end waits for few of their bytes',
    async (count, payloadBytes, tasks) => {
      join(count);
      // Read, looked through and refused: it need not all be kept.
      await quiet.queue('noise').limit({ length: 1 });
      const streams = noise.map(() => stream(payloadBytes, tasks));
      const { p99 } = await between(200, () => {
        let bytes = 0;
        for (const [index, link] of noise.entries()) {
          for (let pieces = 0; pieces < PIECES_A_TURN && !link.paused; pieces++) {
            const { value } = (streams[index] as Generator<Buffer>).next();
            link.say(value as Buffer);
            bytes += (value as Buffer).length;
          }
          link.frames.length = 0;
        }
        return bytes;
      });
      expect(p99).toBeLessThan(4 * MiB);
      expect(noise.some((link) => link.ended)).toBe(false);
    },
  );

  test('that ask for thousands of lists waits for few of these', async () => {
    await quiet.enqueueMany('other', new Array(500).fill('x'.repeat(100)), { queue: 'noise' });
    join(20);
    const list = (requestId: number): Buffer =>
      frame(FRAME.CALL, requestId, (writer) => {
        writer.text(JSON.stringify({ method: 'task.list', params: { limit: 100 } }));
      });
    const lists = Buffer.concat(Array.from({ length: 1000 }, (_, index) => list(index + 1)));
    for (const link of noise) link.say(lists);
    let answered = 0;
    const { p99 } = await between(30, () => {
      const replies = noise.reduce(
        (sum, link) => sum + link.frames.filter(({ type }) => type === FRAME.REPLY).length,
        0,
      );
      for (const link of noise) link.frames.length = 0;
      answered += replies;
      return replies;
    });
    expect(p99).toBeLessThan(500);
    expect(answered).toBeGreaterThan(0);
  });

  test('that does not read what it is given is served while that one holds as much as it may, and no more', async () => {
    join(1);
    const [reader] = noise as [ScriptedLink];
    reader.holds = true;
    reader.say(
      frame(FRAME.SUBSCRIBE, 2, (writer) => {
        const subscription = { worker: 'w', queues: ['noise'], concurrency: 10_000, prefetch: 10_000, resume: [] };
        writer.text(JSON.stringify(subscription));
      }),
    );
    const payloads = new Array(20).fill('x'.repeat(500 * KiB));
    for (let calls = 0; calls < 3; calls++) await quiet.enqueueMany('n', payloads, { queue: 'noise' });
    // In turns of the event loop.
    const { p99 } = await between(50, () => 1);
    expect(p99).toBeLessThan(20);
    expect(reader.bufferedBytesMax).toBeGreaterThan(LIMITS.sendBufferBytesMax - MiB);
    expect(reader.bufferedBytesMax).toBeLessThan(LIMITS.sendBufferBytesMax + 2 * MiB);
  });
});
