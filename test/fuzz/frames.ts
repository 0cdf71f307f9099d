import fc from 'fast-check';
import type { TaskSpec, When } from '../../src/broker/contract.ts';
import { SEQUENCE_COUNT } from '../../src/ids.ts';
import { BatchWriter } from '../../src/protocol/batch-writer.ts';
import { writeRunHeader } from '../../src/protocol/delivery.ts';
import { FRAME, HEADER_BYTES } from '../../src/protocol/frames.ts';
import { writeResult } from '../../src/protocol/settlement.ts';
import { CompletionWriter, writeFailure } from '../../src/protocol/settlement-writer.ts';
import { encodeSpec } from '../../src/protocol/spec.ts';
import { packTrailer } from '../../src/protocol/submission.ts';
import { packHeaders } from '../../src/protocol/task-headers.ts';
import { BufferPool, type FrameWriter } from '../../src/protocol/writer.ts';
import { body as bodyOf } from '../support/frame-body.ts';
import { EDGES, fewMutations, type Mutation, mutate } from './mutations.ts';
import { anyJson, brokenText, type JsonText, jsonOf, listOf, mostly, objectOf } from './texts.ts';

/** A frame as it goes over the wire; `bodyLength` is what its header says, when that is a lie. */
export interface FuzzedFrame {
  readonly type: number;
  readonly requestId: number;
  readonly body: Buffer;
  readonly bodyLength?: number;
}

export function frameBytes({ type, requestId, body, bodyLength = body.length }: FuzzedFrame): Buffer {
  const bytes = Buffer.alloc(HEADER_BYTES + body.length);
  bytes.writeUInt32LE(bodyLength, 0);
  bytes[4] = type;
  bytes.writeUInt32LE(requestId, 5);
  body.copy(bytes, HEADER_BYTES);
  return bytes;
}

const json = (type: number, text: JsonText): fc.Arbitrary<[number, Buffer]> =>
  brokenText(text).map((each): [number, Buffer] => [type, Buffer.from(each)]);

const body = <T>(type: number, values: fc.Arbitrary<T>, fill: (writer: FrameWriter, value: T) => void) =>
  values.map((value): [number, Buffer] => [type, bodyOf(type, (writer) => fill(writer, value))]);

// ── What frames speak of ────────────────────────────────────────────────────────────────────────────────────────────

const QUEUES = ['q', 'other', '__proto__', 'constructor'];

/** Ids and tokens: some of the few that there are, and any. */
const anyId = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.tuple(fc.constantFrom(0, 1, 2), fc.nat(12)).map(([high, low]) => high * SEQUENCE_COUNT + low),
  },
  { weight: 1, arbitrary: fc.constantFrom(0, SEQUENCE_COUNT - 1, Number.MAX_SAFE_INTEGER) },
);
const idText = jsonOf(fc.constantFrom('1-0', '1-1', '1-2', '1-3', '0-0', '1n4rj-1z141z3', 'zzzzz-0', '__proto__', ''));
const tokenText = jsonOf(fc.constantFrom('4294967296', '4294967297', '4294967298', '0', '-1', 'NaN', '1e400', ''));
const queueText = jsonOf(fc.constantFrom(...QUEUES));
const few = jsonOf(fc.constantFrom(0, 1, 2, 10, 65_536, 65_537, -1));
const ms = jsonOf(fc.constantFrom(0, 1, 100, 1000, 60_000, 2 ** 32, 1e15, -1));

const spec: fc.Arbitrary<TaskSpec> = fc.record(
  {
    queue: fc.constantFrom(...QUEUES),
    name: fc.constantFrom('n', 'batch', 'nobody', '__proto__'),
    priority: fc.nat(9),
    maxAttempts: fc.constantFrom(1, 2, 1000),
    timeoutMs: fc.constantFrom(10, 60_000),
    backoff: fc.record({
      type: fc.constantFrom('fixed' as const, 'exponential' as const),
      delayMs: fc.constantFrom(0, 1000),
      maxDelayMs: fc.constantFrom(0, 1000),
      jitter: fc.boolean(),
    }),
    concurrencyKey: fc.constantFrom('k', '__proto__'),
  },
  { requiredKeys: ['queue', 'name', 'priority', 'maxAttempts', 'timeoutMs', 'backoff'] },
);
const when: fc.Arbitrary<When> = fc.oneof(
  { weight: 3, arbitrary: fc.constant({ kind: 'now' } as const) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constantFrom('delay' as const, 'at' as const), ms: fc.nat(2000) }) },
);
const payload = fc.oneof(anyJson, fc.uint8Array({ maxLength: 20 }));
const headers = fc
  .array(fc.tuple(fc.constantFrom('tenant', '__proto__', 'constructor', 'é'), fc.string({ maxLength: 8 })), {
    maxLength: 3,
  })
  .map((entries) => (entries.length === 0 ? undefined : packHeaders(Object.fromEntries(entries))));
const error = objectOf({
  name: jsonOf(fc.constant('Error')),
  message: jsonOf(fc.string({ maxLength: 20 })),
  code: jsonOf(fc.constantFrom('HANDLER_FAILED', 'constructor')),
  worker: jsonOf(fc.constant('w')),
  startedAtMs: ms,
});

// ── From a client ───────────────────────────────────────────────────────────────────────────────────────────────────

/** As the server takes it, but for `members`: what else a HELLO must say is to be said here. */
export function hello(members: Readonly<Record<string, unknown>> = {}): Buffer {
  const identity = { protocol: 1, client: 'fuzz', host: 'here', pid: 1, version: '1', producer: '0'.repeat(32) };
  return Buffer.from(JSON.stringify({ ...identity, ...members }));
}

const anyHello = objectOf({
  protocol: few,
  client: jsonOf(fc.constant('fuzz')),
  host: jsonOf(fc.constant('here')),
  pid: few,
  version: jsonOf(fc.constant('1')),
  producer: jsonOf(fc.constantFrom('0'.repeat(32), 'f'.repeat(32), 'x')),
  lifelineOf: jsonOf(fc.constantFrom('', 'nobody', '0'.repeat(32))),
});

const section = fc.record({ spec, when, headers, payloads: fc.array(payload, { minLength: 1, maxLength: 3 }) });
const batchNumber = fc.oneof(fc.integer({ min: 1, max: 20 }), fc.constantFrom(513, 2 ** 47));

function batch(
  number: number,
  lowest: number,
  sections: readonly {
    spec: TaskSpec;
    when: When;
    headers: Buffer | undefined;
    payloads: readonly (string | Uint8Array)[];
  }[],
  trailer?: Buffer,
): Buffer {
  const writer = new BatchWriter(new BufferPool());
  for (const { spec, when, headers, payloads } of sections) {
    for (const payload of payloads) writer.add(spec, when, payload, headers);
    writer.separate();
  }
  const frame = writer.seal(number, trailer);
  writer.address(1, lowest);
  return Buffer.from(frame.subarray(HEADER_BYTES));
}

const sections = fc.array(section, { minLength: 1, maxLength: 3 });
const enqueue = fc
  .tuple(batchNumber, batchNumber, sections)
  .map(([number, lowest, all]): [number, Buffer] => [FRAME.ENQUEUE, batch(number, Math.min(lowest, number), all)]);

const dependency: JsonText = fc
  .tuple(mostly(fc.oneof(few, idText)), mostly(jsonOf(fc.constantFrom('cancel', 'run', 'wait'))))
  .map((pair) => `[${pair.join()}]`);
const relations = objectOf({
  tasks: listOf(
    objectOf({
      index: few,
      dependsOn: listOf(mostly(dependency)),
      unique: objectOf({
        key: jsonOf(fc.constantFrom('k', '__proto__', '')),
        scope: fc.oneof(jsonOf(fc.constantFrom('waiting', 'unfinished')), ms),
      }),
    }),
  ),
});
const submit = fc.tuple(batchNumber, sections, brokenText(relations)).map(([number, all, text]): [number, Buffer] => {
  const trailer = Buffer.concat([Buffer.from(text), packTrailer({}).subarray(-4)]);
  trailer.writeUInt32LE(trailer.length - 4, trailer.length - 4);
  return [FRAME.SUBMIT, batch(number, 1, all, trailer)];
});

const completions = fc.array(
  fc.record({
    id: anyId,
    token: anyId,
    count: fc.integer({ min: 1, max: 4 }),
    results: fc.option(fc.array(payload, { minLength: 4, maxLength: 4 })),
  }),
  { maxLength: 4 },
);
const complete = body(FRAME.COMPLETE, completions, (writer, all) => {
  const completions = new CompletionWriter(writer);
  for (const { id, token, count, results } of all) {
    if (results === null) completions.add(id, token, count);
    else completions.addWithResults(id, token, count, results, 0);
  }
  completions.finish();
});
const failures = fc.array(
  fc.record({
    id: anyId,
    token: anyId,
    error: brokenText(error),
    final: fc.boolean(),
    retryDelayMs: fc.constantFrom(undefined, 0, 1000, -1, Number.NaN),
  }),
  { maxLength: 4 },
);
const fail = body(FRAME.FAIL, failures, (writer, all) => {
  for (const { id, token, error, ...options } of all) writeFailure(writer, id, token, error, options);
});
const runs = fc.array(fc.tuple(anyId, anyId, fc.oneof(fc.nat(5), fc.constantFrom(...EDGES))), { maxLength: 4 });
const release = body(FRAME.RELEASE, runs, (writer, all) => {
  for (const [id, token, count] of all) {
    writer.u64(id);
    writer.u64(token);
    writer.u32(count);
  }
});

const ids = fc.array(anyId, { maxLength: 6 });
const idsOf = (type: number) =>
  body(type, ids, (writer, all) => {
    for (const id of all) writer.u64(id);
  });

const backoff = objectOf({
  type: jsonOf(fc.constantFrom('fixed', 'exponential')),
  delayMs: ms,
  maxDelayMs: ms,
  jitter: jsonOf(fc.boolean()),
});
const text = jsonOf(fc.constantFrom('n', 'a', '__proto__', '', '\u0000'));
const filter = {
  queue: queueText,
  name: text,
  state: jsonOf(fc.constantFrom('ready', 'dead', 'active', 'scheduled')),
  error: text,
  errorGroup: text,
  worker: text,
  order: jsonOf(fc.constantFrom('oldest', 'newest')),
  after: idText,
  limit: few,
  fromMs: ms,
  toMs: ms,
};
const schedule = {
  name: text,
  cron: jsonOf(fc.constantFrom('* * * * *', '0 0 29 2 *', '0 0 30 2 *', '*/0 * * * *', '@daily', '59 59 23 31 12 7')),
  timeZone: jsonOf(fc.constantFrom('UTC', 'Europe/Berlin', 'Mars/Phobos')),
  everyMs: ms,
  misfire: jsonOf(fc.constantFrom('skip', 'once', 'all')),
  payload: objectOf({ encoding: jsonOf(fc.constantFrom('utf8', 'base64')), data: text }),
  headers: objectOf({ tenant: text }),
  task: text,
  queue: queueText,
  priority: few,
  maxAttempts: few,
  timeoutMs: ms,
  backoff,
  concurrencyKey: text,
};
const report = {
  id: jsonOf(fc.constantFrom('abcdefgh', 'x')),
  name: text,
  host: text,
  pid: few,
  queues: listOf(queueText),
  min: few,
  max: few,
  current: few,
  retiring: few,
  decisions: listOf(objectOf({ atMs: ms, from: few, to: few, reason: text })),
};
const METHODS = new Map<string, JsonText>(
  Object.entries({
    status: objectOf({}),
    'task.get': objectOf({ id: idText }),
    'task.parents': objectOf({ id: idText, from: few }),
    'task.list': objectOf(filter),
    'task.retryMany': objectOf(filter),
    'task.cancelMany': objectOf(filter),
    'task.deadGroups': objectOf({ queue: queueText }),
    'task.cancel': objectOf({ id: idText }),
    'task.retry': objectOf({ id: idText }),
    'queue.pause': objectOf({ queue: queueText }),
    'queue.resume': objectOf({ queue: queueText }),
    'queue.purge': objectOf({ queue: queueText }),
    'queue.redrive': objectOf({ queue: queueText }),
    'queue.limit': objectOf({
      queue: queueText,
      concurrency: few,
      concurrencyPerKey: few,
      length: few,
      rate: objectOf({ count: few, periodMs: ms, burst: few }),
    }),
    'queue.retention': objectOf({
      queue: queueText,
      completedCountMax: few,
      completedAgeMs: ms,
      deadCountMax: few,
      deadAgeMs: ms,
    }),
    'scaling.report': objectOf(report),
    'schedule.set': objectOf(schedule),
    'schedule.get': objectOf({ name: text }),
    'schedule.list': objectOf({}),
    'schedule.pause': objectOf({ name: text }),
    'schedule.resume': objectOf({ name: text }),
    'schedule.remove': objectOf({ name: text }),
    'schedule.run': objectOf({ name: text, key: jsonOf(fc.constantFrom('0'.repeat(16), '1234567890abcdef', 'x')) }),
    toString: objectOf({}),
  }),
);
const call: JsonText = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.oneof(
      ...[...METHODS].map(([method, params]) =>
        params.map((each) => `{"method":${JSON.stringify(method)},"params":${each}}`),
      ),
    ),
  },
  {
    weight: 1,
    arbitrary: objectOf({ method: jsonOf(fc.constantFrom('__proto__', ...METHODS.keys())), params: anyJson }),
  },
);

const resumed: JsonText = fc.tuple(mostly(idText), mostly(tokenText), mostly(few)).map((entry) => `[${entry.join()}]`);
const remark = { id: idText, token: tokenText };
const line: JsonText = fc.tuple(mostly(ms), mostly(text)).map((pair) => `[${pair.join()}]`);

/** Every type that a client sends; in the order of their numbers, so that a test can take one of each. */
export const CLIENT_FRAMES: readonly fc.Arbitrary<[number, Buffer]>[] = [
  json(FRAME.HELLO, anyHello),
  fc.constant<[number, Buffer]>([FRAME.PING, Buffer.alloc(0)]),
  fc.constant<[number, Buffer]>([FRAME.PONG, Buffer.alloc(0)]),
  enqueue,
  submit,
  json(
    FRAME.SUBSCRIBE,
    objectOf({
      worker: text,
      queues: listOf(queueText),
      concurrency: few,
      prefetch: few,
      resume: listOf(mostly(resumed)),
    }),
  ),
  complete,
  fail,
  release,
  fc.constant<[number, Buffer]>([FRAME.UNSUBSCRIBE, Buffer.alloc(0)]),
  json(FRAME.PROGRESS, objectOf({ ...remark, progress: objectOf({ value: anyJson, message: text }) })),
  body(FRAME.BEGUN, anyId, (writer, token) => writer.u64(token)),
  json(FRAME.LOG, objectOf({ ...remark, lines: listOf(mostly(line)), dropped: few })),
  idsOf(FRAME.WAIT),
  idsOf(FRAME.UNWAIT),
  json(FRAME.WATCH, fc.oneof(objectOf({ queue: queueText }), objectOf({ task: idText }), fc.constant('{}'))),
  json(FRAME.UNWATCH, objectOf({ watch: few })),
  json(FRAME.CALL, call),
];

// ── From a server ───────────────────────────────────────────────────────────────────────────────────────────────────

export function welcome(members: Readonly<Record<string, unknown>> = {}): Buffer {
  return Buffer.from(
    JSON.stringify({ protocol: 1, server: '1', session: '1', lifelineKey: 'k', epoch: 1, ...members }),
  );
}

const anyWelcome = objectOf({
  protocol: few,
  server: text,
  session: text,
  lifelineKey: jsonOf(fc.constantFrom('k', 'x'.repeat(5000))),
  epoch: few,
});
const refusal = objectOf({
  code: jsonOf(
    fc.constantFrom('INVALID_ARGUMENT', 'STOPPING', 'QUEUE_FULL', 'PROTOCOL', 'CONFLICT', 'constructor', 'NEWER'),
  ),
  message: text,
  details: anyJson,
});
const taskRun = fc.record({
  id: anyId,
  token: anyId,
  attempt: fc.constantFrom(0, 1, 2, 0x7fff),
  suspect: fc.boolean(),
  enqueuedAtMs: fc.constantFrom(0, 1e12, -1, Number.NaN, Number.POSITIVE_INFINITY),
  spec,
  tasks: fc.array(fc.tuple(headers, payload), { minLength: 1, maxLength: 4 }),
  count: fc.oneof(
    { weight: 9, arbitrary: fc.constant(undefined) },
    { weight: 1, arbitrary: fc.constantFrom(...EDGES) },
  ),
});
const deliver = body(FRAME.DELIVER, fc.array(taskRun, { maxLength: 3 }), (writer, all) => {
  for (const { id, token, tasks, count = tasks.length, spec, ...rest } of all) {
    const bytes = Buffer.concat(tasks.map(([prefix, payload]) => packTask(prefix, Buffer.from(payload as string))));
    writeRunHeader(
      writer,
      { firstId: id, firstToken: token, count, byteLength: bytes.length, ...rest },
      encodeSpec(spec),
    );
    writer.bytes(bytes);
  }
});

function packTask(prefix: Buffer | undefined, payload: Buffer): Buffer {
  const length = Buffer.alloc(4);
  length.writeUInt32LE(((prefix?.length ?? 0) + payload.length + (prefix === undefined ? 0 : 0x8000_0000)) >>> 0);
  return Buffer.concat([length, prefix ?? Buffer.alloc(0), payload]);
}

const outcomes = fc.array(fc.tuple(anyId, fc.nat(7), fc.oneof(error, anyJson)), { maxLength: 4 });
const confirm = body(
  FRAME.CONFIRM,
  fc.tuple(batchNumber, anyId, fc.oneof(fc.constantFrom(1, 2, 3), fc.constantFrom(...EDGES))),
  (writer, [number, firstId, count]) => {
    writer.u48(number);
    writer.u64(firstId);
    writer.u32(count);
  },
);
const revocations = fc.array(fc.tuple(anyId, anyId, fc.nat(3)), { maxLength: 4 });
const event = objectOf({
  type: jsonOf(fc.constantFrom('enqueued', 'started', 'completed', 'failed', 'dropped', 'progress')),
  id: idText,
  queue: queueText,
  name: text,
  atMs: ms,
  attempt: few,
  count: fc.oneof(few, fc.constantFrom('0.5', '-1', '1e300', '"2"', 'null')),
  error,
});

/** What any call may be answered with: each finds some of what it looks for. */
const reply = objectOf({
  kept: listOf(mostly(resumed)),
  lost: listOf(mostly(idText)),
  batch: few,
  firstId: idText,
  count: few,
  existing: listOf(mostly(fc.tuple(mostly(few), mostly(idText)).map((pair) => `[${pair.join()}]`))),
  outcome: jsonOf(fc.constantFrom('cancelled', 'requested', 'other')),
  queues: listOf(objectOf({ name: queueText, paused: jsonOf(fc.boolean()), totals: objectOf({ enqueued: few }) })),
  workers: listOf(objectOf({ id: text, concurrency: few, utilisation: few })),
  tasks: listOf(objectOf({ id: idText, state: text })),
  next: fc.oneof(idText, few),
  parents: listOf(
    objectOf({
      id: idText,
      name: text,
      state: jsonOf(fc.constantFrom('completed', 'dead')),
      result: objectOf({ encoding: jsonOf(fc.constantFrom('utf8', 'base64')), data: text }),
      error,
    }),
  ),
  schedules: listOf(objectOf({ name: text })),
  groups: listOf(objectOf({ group: text, count: few })),
  removed: jsonOf(fc.boolean()),
  id: idText,
});

/** Every type that a server sends. */
export const SERVER_FRAMES: readonly fc.Arbitrary<[number, Buffer]>[] = [
  json(FRAME.WELCOME, anyWelcome),
  json(FRAME.ERROR, refusal),
  fc.constant<[number, Buffer]>([FRAME.PING, Buffer.alloc(0)]),
  fc.constant<[number, Buffer]>([FRAME.PONG, Buffer.alloc(0)]),
  json(FRAME.GOAWAY, objectOf({ reason: text })),
  confirm,
  deliver,
  idsOf(FRAME.SETTLED),
  body(FRAME.REVOKE, revocations, (writer, all) => {
    for (const [id, token, reason] of all) {
      writer.u64(id);
      writer.u64(token);
      writer.u8(reason);
    }
  }),
  body(FRAME.RESULT, outcomes, (writer, all) => {
    for (const [id, state, bytes] of all) writeResult(writer, id, state, Buffer.from(bytes));
  }),
  json(FRAME.EVENTS, objectOf({ events: listOf(mostly(event)) })),
  json(FRAME.REPLY, fc.oneof(reply, fc.constant('{}'))),
];

// ── Frames, changed ─────────────────────────────────────────────────────────────────────────────────────────────────

function changed(
  [type, body]: [number, Buffer],
  requestId: number,
  mutations: readonly Mutation[],
  lie: number | undefined,
): FuzzedFrame {
  return { type, requestId, body: mutate(body, mutations), ...(lie === undefined ? {} : { bodyLength: lie }) };
}

const lie = fc.oneof(
  { weight: 20, arbitrary: fc.constant(undefined) },
  { weight: 1, arbitrary: fc.constantFrom(...EDGES) },
);
const requestId = fc.oneof(
  { weight: 9, arbitrary: fc.integer({ min: 0, max: 24 }) },
  { weight: 1, arbitrary: fc.constantFrom(...EDGES) },
);

/** Frames of these types, most of them with something changed. */
export function fuzzedFrames(types: readonly fc.Arbitrary<[number, Buffer]>[]): fc.Arbitrary<FuzzedFrame> {
  const known = fc.oneof(...types);
  const unknown = fc.tuple(
    fc.nat(255),
    fc.uint8Array({ maxLength: 30 }).map((bytes) => Buffer.from(bytes)),
  );
  const frame = fc.oneof({ weight: 30, arbitrary: known }, { weight: 1, arbitrary: unknown });
  return fc.tuple(frame, requestId, fewMutations, lie).map((parts) => changed(...parts));
}
