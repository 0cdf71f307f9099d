import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { FRAME } from '../../../src/protocol/frames.ts';
import { handleConfigFile } from '../configs.ts';
import { FuzzedClient, FuzzedServer } from '../ends.ts';
import { CLIENT_FRAMES, frameBytes, hello, SERVER_FRAMES, welcome } from '../frames.ts';
import type { Faults } from '../harness.ts';
import { type Files, handleJournal, resealed, soundJournal } from '../journals.ts';
import { handleMessage, readerOf } from '../messages.ts';

/** Something that reads bytes, and what such bytes look like. */
export interface Target {
  readonly seeds: readonly Buffer[];
  readonly words: readonly (string | Buffer)[];
  readonly bytesMax: number;
  /** Throws for what no input may do. */
  run(input: Buffer): Promise<void> | void;
  stop(): Promise<void> | void;
}

const JSON_WORDS = [
  '{',
  '}',
  '[',
  ']',
  ',',
  ':',
  '"',
  '""',
  '\\',
  '\\u0000',
  'null',
  'true',
  '0',
  '-1',
  '1e400',
  '0.5',
  '"__proto__":',
  '"constructor":',
  '"toString":1',
];
const CLIENT_WORDS = [
  '"queue":"q"',
  '"task":',
  '"id":"1-0"',
  '"token":"4294967296"',
  '"queues":["q"]',
  '"concurrency":1',
  '"prefetch":1',
  '"resume":[',
  '"method":',
  '"params":{',
  'task.get',
  'task.list',
  'queue.purge',
  'schedule.set',
  '"cron":"* * * * *"',
  '"dependsOn":[[0,"cancel"]]',
  '"unique":',
];
const INPUTS_PER_SERVER = 500;

/** Frames of each type, well-formed, as they come over a connection. */
function frames(types: readonly fc.Arbitrary<[number, Buffer]>[]): Buffer[] {
  return types.flatMap((type, index) =>
    fc
      .sample(type, { numRuns: 4, seed: index + 1 })
      .map(([kind, body]) => frameBytes({ type: kind, requestId: index + 1, body })),
  );
}

/** What clients send a server, behind a greeting. */
function framesTarget(faults: Faults): Target {
  const greeting = frameBytes({ type: FRAME.HELLO, requestId: 1, body: hello() });
  let server: FuzzedServer | undefined;
  let inputs = 0;
  const stop = async (): Promise<void> => {
    await server?.stop();
    server = undefined;
  };
  return {
    seeds: [...frames(CLIENT_FRAMES), Buffer.concat(frames(CLIENT_FRAMES).slice(0, 30))],
    words: [
      ...JSON_WORDS,
      ...CLIENT_WORDS,
      ...Object.values(FRAME).map((type) => frameBytes({ type, requestId: 3, body: Buffer.alloc(0) })),
    ],
    bytesMax: 4096,
    run: async (input) => {
      if (++inputs % INPUTS_PER_SERVER === 0) await stop();
      server ??= await FuzzedServer.start(faults);
      await server.feed([[greeting, input]]);
    },
    stop,
  };
}

/** What a server sends a client, before and after a reconnect. */
function clientTarget(faults: Faults): Target {
  const greeting = frameBytes({ type: FRAME.WELCOME, requestId: 1, body: welcome() });
  const kept = frameBytes({ type: FRAME.REPLY, requestId: 2, body: Buffer.from('{"kept":[],"lost":[]}') });
  return {
    seeds: [...frames(SERVER_FRAMES), Buffer.concat(frames(SERVER_FRAMES))],
    words: [
      ...JSON_WORDS,
      '"kept":[["1-0","1"]]',
      '"existing":',
      '"firstId":"1-0"',
      '"events":[{"type":"dropped"}]',
      '"count":',
    ],
    bytesMax: 4096,
    run: async (input) => {
      const half = Math.floor(input.length / 2);
      await new FuzzedClient(faults).meet({ greeting, first: [input], second: [kept, input.subarray(half)] });
    },
    stop: () => {},
  };
}

/** One segment of a journal: as it is, and with the checksums of its records made right. */
async function journalTarget(faults: Faults): Promise<Target> {
  const sound = await soundJournal(faults);
  const names = [...sound.keys()].filter((name) => name.endsWith('.segment'));
  const [first = ''] = names;
  const used = (bytes: Buffer): Buffer => bytes.subarray(0, bytes.findLastIndex((byte) => byte !== 0) + 64);
  const withFirst = (bytes: Buffer): Files => new Map(sound).set(first, bytes);
  return {
    seeds: names.map((name) => Buffer.from(used(sound.get(name) ?? Buffer.alloc(0)))),
    words: [
      ...JSON_WORDS,
      'MILLRACE',
      Buffer.from([1, 1, 0, 0]),
      Buffer.from([3, 1, 0, 0]),
      Buffer.from([19, 1, 0, 0]),
      Buffer.alloc(32),
      '"ids":[1,1]',
      '"op":"cancel"',
    ],
    bytesMax: 16 * 1024,
    run: async (input) => {
      await handleJournal(withFirst(Buffer.from(input)), faults);
      await handleJournal(withFirst(resealed(input)), faults);
    },
    stop: () => {},
  };
}

function messageTarget(): Target {
  const reader = readerOf();
  const body =
    '{"task":"n","queue":"q","attempt":1,"maxAttempts":3,"id":"a-1","enqueuedAtMs":5,"headers":{"a":"b"},"payload":{"x":1}}';
  const other =
    '{"task":"n","payload":"e30=","payloadEncoding":"base64","backoff":{"type":"fixed"},"priority":9,"runAtMs":1,"trace":1}';
  return {
    seeds: [Buffer.from(body), Buffer.from(other), Buffer.from(body.replace(',"headers":{"a":"b"}', ''))],
    words: [
      ...JSON_WORDS,
      '"id":"',
      '","enqueuedAtMs":',
      ',"headers":',
      '},"payload":',
      ',"payload":',
      '"payloadEncoding":"base64"',
      '"backoff":',
      Buffer.from([0xff]),
      Buffer.from([0xef, 0xbb, 0xbf]),
    ],
    bytesMax: 1024,
    run: (input) => {
      handleMessage(reader, input, {});
    },
    stop: () => {},
  };
}

function configTarget(): Target {
  const directory = mkdtempSync(join(tmpdir(), 'millrace-fuzz-'));
  const path = join(directory, 'millrace.config.json');
  return {
    seeds: [
      '{}',
      '{"url":"tcp://x","server":{"port":5555,"queues":["a"],"header":{"a":"b"}}}',
      '{"task":{"from":"7d"},"json":true}',
    ].map((text) => Buffer.from(text)),
    words: [
      ...JSON_WORDS,
      '"server":',
      '"task":',
      '"enqueue":',
      '"port":',
      '"failRate":',
      '"queues":',
      '"from":',
      '"header":',
      '"backoff":"fixed"',
    ],
    bytesMax: 1024,
    run: (input) => {
      writeFileSync(path, input);
      handleConfigFile(path);
    },
    stop: () => rmSync(directory, { recursive: true }),
  };
}

export const TARGETS: Readonly<Record<string, (faults: Faults) => Target | Promise<Target>>> = {
  frames: framesTarget,
  client: clientTarget,
  journal: journalTarget,
  message: messageTarget,
  config: configTarget,
};
