import fc from 'fast-check';
import { afterAll, describe, expect, test } from 'vitest';
import { checkTasks, EnqueueReader, readConfirm } from '../../src/protocol/batch.ts';
import { DeliveryReader, WireRun } from '../../src/protocol/delivery.ts';
import { FRAME, FrameReader, frameName, readJson } from '../../src/protocol/frames.ts';
import {
  CompletionReader,
  FailureReader,
  ReleaseReader,
  readIds,
  readResults,
  readRevocations,
  readToken,
} from '../../src/protocol/settlement.ts';
import { decodeSpec } from '../../src/protocol/spec.ts';
import { parseRelations, splitSubmission } from '../../src/protocol/submission.ts';
import { keptTaskError, parseAttemptFailure, parseTaskError } from '../../src/protocol/task-error.ts';
import { parseSubscription } from '../../src/server/messages.ts';
import { FuzzedClient, FuzzedServer, type HostileServer } from './ends.ts';
import { CLIENT_FRAMES, type FuzzedFrame, frameBytes, fuzzedFrames, hello, SERVER_FRAMES, welcome } from './frames.ts';
import { attempt, Faults, fuzz, IS_LONG, tolerate } from './harness.ts';
import { cutInto, EDGES, fewMutations, mutate, pieces } from './mutations.ts';

const faults = new Faults().listen();
afterAll(() => faults.ignore());

const HELLO = frameBytes({ type: FRAME.HELLO, requestId: 1, body: hello() });
const WELCOME = frameBytes({ type: FRAME.WELCOME, requestId: 1, body: welcome() });

const streamOf = (frames: readonly FuzzedFrame[]): Buffer => Buffer.concat(frames.map(frameBytes));
const fromClient = fc.array(fuzzedFrames(CLIENT_FRAMES), { minLength: 1, maxLength: 8 }).map(streamOf);
const fromServer = fc.array(fuzzedFrames(SERVER_FRAMES), { maxLength: 8 }).map(streamOf);

/** A server takes what thousands of connections send; a new one now and then keeps them apart. */
const INPUTS_PER_SERVER = 300;
let server: FuzzedServer | undefined;
let inputs = 0;

async function feed(streams: readonly (readonly Buffer[])[]): Promise<void> {
  inputs += streams.length;
  if (server !== undefined && inputs > INPUTS_PER_SERVER) {
    await server.stop();
    server = undefined;
    inputs = 0;
  }
  server ??= await FuzzedServer.start(faults);
  try {
    await server.feed(streams);
  } catch (error) {
    // What it holds now is not to be what fails the next input.
    server = undefined;
    throw error;
  }
}

afterAll(() => server?.stop());

/** One well-formed frame of each type, always the same ones. */
function samples(types: readonly fc.Arbitrary<[number, Buffer]>[]): FuzzedFrame[] {
  return types.map((type) => {
    const [[kind, body] = [0, Buffer.alloc(0)]] = fc.sample(type, { numRuns: 1, seed: 7 });
    return { type: kind, requestId: 5, body: body.subarray(0, 300) };
  });
}

describe('a server', () => {
  test('refuses nothing but with errors of ours, whatever clients send, and serves the others', async () => {
    const stream = fc.tuple(
      fc.oneof({ weight: 9, arbitrary: fc.constant(HELLO) }, { weight: 1, arbitrary: fromClient }),
      fromClient,
      fewMutations,
      pieces,
    );
    await fuzz(
      fc.array(stream, { minLength: 1, maxLength: 3 }),
      (streams) =>
        feed(
          streams.map(([greeting, frames, mutations, lengths]) =>
            cutInto(Buffer.concat([greeting, mutate(frames, mutations)]), lengths),
          ),
        ),
      { runs: 400 },
    );
  });

  test('is left with nothing by a connection that ends at any byte of any frame', async () => {
    for (const sample of samples(CLIENT_FRAMES)) {
      const whole = frameBytes(sample);
      const cuts = Array.from({ length: whole.length }, (_, length) => [HELLO, whole.subarray(0, length)]);
      await feed(cuts);
    }
  });

  test('takes or refuses each frame that says to end at any byte of its body', async () => {
    for (const { body, ...sample } of samples(CLIENT_FRAMES)) {
      const cuts = Array.from({ length: body.length }, (_, length) => [
        HELLO,
        frameBytes({ ...sample, body: body.subarray(0, length) }),
      ]);
      await feed(cuts);
    }
  });

  test('does no more for a frame than its bytes are worth', async () => {
    const many = Buffer.alloc(24 * 2000);
    for (let at = 0; at < many.length; at += 24) {
      many.writeUInt32LE(1, at + 4);
      many.writeUInt32LE(1, at + 12);
      many.writeUInt32LE(65_536, at + 16);
    }
    const subscription = Buffer.from('{"worker":"w","queues":["q"],"concurrency":1,"prefetch":1}');
    const subscribe = frameBytes({ type: FRAME.SUBSCRIBE, requestId: 2, body: subscription });
    const released = Buffer.concat(
      Array.from({ length: 2000 }, (_, index) => many.subarray(index * 24, index * 24 + 20)),
    );
    await feed([
      [HELLO, subscribe, frameBytes({ type: FRAME.COMPLETE, requestId: 3, body: many })],
      [HELLO, subscribe, frameBytes({ type: FRAME.RELEASE, requestId: 3, body: released })],
    ]);
  });
});

describe('a client', () => {
  const hostile: fc.Arbitrary<HostileServer> = fc
    .tuple(
      fc.oneof({ weight: 6, arbitrary: fc.constant(WELCOME) }, { weight: 1, arbitrary: fromServer }),
      fromServer,
      fromServer,
      fewMutations,
      pieces,
    )
    .map(([greeting, first, second, mutations, lengths]) => ({
      greeting,
      first: cutInto(mutate(first, mutations), lengths),
      second: cutInto(second, lengths),
    }));

  test('lives on, or ends with an error of ours, whatever a server sends', async () => {
    await fuzz(hostile, (stream) => new FuzzedClient(faults).meet(stream), { runs: 150, boxMs: 700 });
  });

  test('survives a server that ends inside of any frame', async () => {
    for (const sample of samples(SERVER_FRAMES)) {
      const whole = frameBytes(sample);
      // Each is a client's whole life: every byte is for long runs.
      const step = IS_LONG ? 1 : Math.ceil(whole.length / 8);
      for (let length = 0; length < whole.length; length += step) {
        const first = [whole.subarray(0, length)];
        await new FuzzedClient(faults).meet({ greeting: WELCOME, first, second: [whole] });
      }
    }
  });
});

describe('the frame reader', () => {
  const read = (bytes: Buffer, lengths: readonly number[]): string => {
    const seen: string[] = [];
    const reader = new FrameReader((type, requestId, buffer, start, end) => {
      seen.push(`${type} ${requestId} ${buffer.toString('hex', start, end)}`);
    });
    const outcome = attempt(bytes.length, () => {
      for (const chunk of cutInto(bytes, lengths)) reader.push(Buffer.from(chunk));
    });
    return [...seen, 'refusal' in outcome ? outcome.refusal.message : `${reader.heldBytes} bytes held`].join('\n');
  };

  test('finds the same frames, and the same fault, in whatever pieces they come', async () => {
    const stream = fc.tuple(fc.oneof(fromClient, fromServer), fewMutations, pieces);
    await fuzz(
      stream,
      ([frames, mutations, lengths]) => {
        const bytes = mutate(frames, mutations).subarray(0, 20_000);
        expect(read(bytes, lengths)).toBe(read(bytes, [bytes.length || 1]));
      },
      { runs: 300, boxMs: 250 },
    );
  });

  test('holds no more than what has come, whatever a header announces', () => {
    for (const length of EDGES) {
      for (const type of Object.values(FRAME)) {
        const header = frameBytes({ type, requestId: 1, body: Buffer.alloc(0), bodyLength: length });
        attempt(0, () => new FrameReader(() => {}).push(header));
      }
    }
  });
});

describe('each message decoder', () => {
  const drain =
    (reader: { open(buffer: Buffer, start: number, end: number): void; next(): boolean }) => (bytes: Buffer) => {
      reader.open(bytes, 0, bytes.length);
      while (reader.next());
    };
  const batch = new EnqueueReader();
  const decoders: Readonly<Record<string, (bytes: Buffer) => unknown>> = {
    ENQUEUE: (bytes) => {
      batch.open(bytes, 0, bytes.length);
      while (batch.next()) {
        decodeSpec(bytes, batch.specStart, batch.specEnd);
        checkTasks(bytes, batch.tasksStart, batch.tasksEnd, batch.count);
      }
    },
    SUBMIT: (bytes) => parseRelations(splitSubmission(bytes, 0, bytes.length).relations, 65_536),
    SUBSCRIBE: (bytes) => parseSubscription(readJson(bytes, 0, bytes.length)),
    COMPLETE: drain(new CompletionReader()),
    RELEASE: drain(new ReleaseReader()),
    FAIL: drain(new FailureReader()),
    DELIVER: (bytes) => {
      for (const run of new DeliveryReader(WireRun).read(bytes, 0, bytes.length)) {
        for (let index = 0; index < run.length; index++)
          [run.id(index), run.headers(index), run.text(index), run.bytes(index)];
      }
    },
    CONFIRM: (bytes) => readConfirm(bytes, 0, bytes.length),
    SETTLED: (bytes) => readIds(bytes, 0, bytes.length, () => {}),
    BEGUN: (bytes) => readToken(bytes, 0, bytes.length),
    REVOKE: (bytes) => readRevocations(bytes, 0, bytes.length, () => {}),
    RESULT: (bytes) => readResults(bytes, 0, bytes.length, () => {}),
    'an error': (bytes) => [parseTaskError(bytes), parseAttemptFailure(bytes), keptTaskError(bytes)],
  };

  test('reads or refuses the body of any frame, also at every byte at which it may be cut', async () => {
    const bodies = fc.tuple(fc.oneof(...CLIENT_FRAMES, ...SERVER_FRAMES), fewMutations);
    await fuzz(
      bodies,
      ([[, body], mutations]) => {
        const bytes = mutate(body, mutations);
        for (const decode of Object.values(decoders)) attempt(bytes.length, () => decode(bytes));
      },
      { runs: 400, boxMs: 250 },
    );
    for (const { type, body } of samples([...CLIENT_FRAMES, ...SERVER_FRAMES])) {
      const decode = decoders[frameName(type)];
      for (let length = 0; length < body.length && decode !== undefined; length++) {
        // A copy: reading beyond the end must not find the rest.
        const cut = Buffer.from(body.subarray(0, length));
        tolerate(() => decode(cut));
      }
    }
  });
});
