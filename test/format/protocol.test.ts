import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { FRAME, type FrameType, frameName } from '../../src/protocol/frames.ts';
import { Server } from '../../src/server/server.ts';
import { RawClient, type ReceivedFrame } from '../server/raw-client.ts';
import { ManualClock } from '../twins/manual-clock.ts';

/** What a client of protocol 1 said and was answered when that was released; never written since. */
const GOLDEN = join(import.meta.dirname, 'protocol-v1.ndjson');
/** JSON whose members may become more; of the others each byte is as it was. */
const JSON_FRAMES: readonly number[] = [
  FRAME.HELLO,
  FRAME.WELCOME,
  FRAME.ERROR,
  FRAME.SUBSCRIBE,
  FRAME.WATCH,
  FRAME.EVENTS,
  FRAME.CALL,
  FRAME.REPLY,
];

interface Line {
  readonly from: 'client' | 'server';
  readonly frame: string;
  readonly requestId: number;
  readonly json?: object;
  readonly hex?: string;
}

test('a client of protocol 1 is understood for as long as that is spoken, and answered as it was', async () => {
  if (process.env.MILLRACE_WRITE_GOLDEN === '1' && !existsSync(GOLDEN)) await writeGolden();
  const lines = readFileSync(GOLDEN, 'utf8')
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as Line);
  const heard = await converse(lines.map((line) => (line.from === 'client' ? line : undefined)));
  const answered = lines.map((line) => (line.from === 'client' ? line : (heard.shift() as Line)));
  expect(inTurns(answered).map(withoutMethods)).toMatchObject(inTurns(lines).map(withoutMethods));
  const spoken = new Set(lines.map(({ frame }) => frame));
  // A server that stops ends a conversation.
  expect(Object.keys(FRAME).filter((frame) => !spoken.has(frame))).toEqual(['GOAWAY']);
});

/** Methods may become more, as members may, and an error names them all. */
function withoutMethods(turn: readonly Line[]): unknown[] {
  return turn.map(({ json, ...line }) => {
    const { message, ...others } = (json ?? {}) as { message?: string };
    if (message === undefined) return { json, ...line };
    return { ...line, json: { ...others, message: message.replace(/(there is no method .*; there are): .*/, '$1') } };
  });
}

/** What one frame of the client is answered with may come in another order. */
function inTurns(lines: readonly Line[]): Line[][] {
  const turns: Line[][] = [];
  for (const line of lines) {
    if (line.from === 'client') turns.push([]);
    turns.at(-1)?.push(line);
  }
  return turns.map(([said, ...answers]) => [
    said as Line,
    ...answers.sort((a, b) => a.frame.localeCompare(b.frame) || a.requestId - b.requestId),
  ]);
}

/** Says each line in its turn; where there is none, a frame of the server is waited for. Resolves with these. */
async function converse(lines: readonly (Line | undefined)[]): Promise<Line[]> {
  const clock = new ManualClock(Date.UTC(2026, 0, 15, 12));
  const random = { float: () => 0.5, hex: (bytes: number) => 'ab'.repeat(bytes) };
  const server = await Server.start({ directory: null, port: 0, clock, random });
  const client = await RawClient.open(server.port);
  const heard: Line[] = [];
  try {
    for (const line of lines) {
      if (line !== undefined) client.socket.write(bytesOf(line));
      else heard.push(lineOf(await client.next()));
    }
  } finally {
    client.close();
    await server.stop({ timeoutMs: 0 });
  }
  return heard;
}

function lineOf(frame: ReceivedFrame | undefined): Line {
  if (frame === undefined) throw new Error('the server has ended the connection');
  const { type, requestId, body } = frame;
  const about = { from: 'server', frame: frameName(type), requestId } as const;
  if (!JSON_FRAMES.includes(type)) return { ...about, hex: body.toString('hex') };
  return { ...about, json: JSON.parse(body.toString()) as object };
}

function bytesOf({ frame, requestId, json, hex = '' }: Line): Buffer {
  const body = json === undefined ? Buffer.from(hex, 'hex') : Buffer.from(JSON.stringify(json));
  return Buffer.concat([u32(body.length), Buffer.from([FRAME[frame as keyof typeof FRAME]]), u32(requestId), body]);
}

// ── How it came to be: by docs/protocol.md, not by the code that is tested ────────────────────────────────────────────

const u16 = (value: number): Buffer => Buffer.from([value & 255, value >>> 8]);
const text = (value: string): Buffer => Buffer.concat([Buffer.from([Buffer.byteLength(value)]), Buffer.from(value)]);
const packed = (...parts: Uint8Array[]): string => Buffer.concat(parts).toString('hex');

function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}

function u48(value: number): Buffer {
  const bytes = Buffer.alloc(6);
  bytes.writeUIntLE(value, 0, 6);
  return bytes;
}

/** An id or a token of the first start. */
function u64(counter: number, epoch = 1): Buffer {
  return Buffer.concat([u32(counter), u32(epoch)]);
}

function f64(value: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeDoubleLE(value);
  return bytes;
}

const SPEC = Buffer.concat([
  ...[text('mail'), text('send'), Buffer.from([4]), u16(3), u32(60_000)],
  ...[Buffer.from([1]), u32(1000), u32(600_000)],
]);

function task(payload: string, header?: readonly [string, string]): Buffer {
  const bytes = Buffer.from(payload);
  if (header === undefined) return Buffer.concat([u32(bytes.length), bytes]);
  const headers = Buffer.concat([text(header[0]), u16(Buffer.byteLength(header[1])), Buffer.from(header[1])]);
  const whole = Buffer.concat([u16(headers.length), headers, bytes]);
  return Buffer.concat([u32((whole.length | 0x80000000) >>> 0), whole]);
}

function batch(number: number, when: readonly [kind: number, ms: number], tasks: readonly Buffer[]): Buffer {
  const bytes = Buffer.concat(tasks);
  return Buffer.concat([
    ...[u48(number), u48(number), u32(tasks.length)],
    ...[u16(SPEC.length), SPEC, Buffer.from([when[0]]), f64(when[1]), u32(tasks.length), u32(bytes.length), bytes],
  ]);
}

function completion(id: number, token: number, result: string | undefined): string {
  const bytes = result === undefined ? Buffer.alloc(0) : task(result);
  return packed(u64(id), u64(token), u32(1), u32(bytes.length), bytes);
}

function failure(id: number, token: number): string {
  const error = Buffer.from(JSON.stringify({ name: 'TypeError', message: 'not that', code: 'HANDLER_FAILED' }));
  return packed(u64(id), u64(token), Buffer.from([1]), f64(0), u32(error.length), error);
}

const NOW = [0, 0] as const;
const TWO = batch(1, NOW, [task('"first"'), task('"second"', ['tenant', 'a'])]);
const RELATIONS = Buffer.from(JSON.stringify({ tasks: [{ index: 1, dependsOn: [[0, 'cancel']] }] }));

/** With the token of its first delivery. */
const ABOUT_FIRST = { id: '1-0', token: String(2 ** 32) };

let lastRequestId = 0;

function says(type: FrameType, about: { json?: object; hex?: string } = {}, isAsking = true): Line {
  const requestId = isAsking ? ++lastRequestId : 0;
  return { from: 'client', frame: frameName(type), requestId, ...about };
}

/** What the client says, and how many frames of the server it then waits for. */
function script(): [Line, number][] {
  const hello = { protocol: 1, client: 'golden', host: 'here', pid: 1, producer: '0123456789abcdef'.repeat(2) };
  const submitted = Buffer.concat([
    batch(3, NOW, [task('"parent"'), task('"child"')]),
    RELATIONS,
    u32(RELATIONS.length),
  ]);
  return [
    [says(FRAME.HELLO, { json: hello }), 1],
    [says(FRAME.PING), 1],
    [says(FRAME.WATCH, { json: { queue: 'mail' } }), 1],
    [says(FRAME.ENQUEUE, { hex: packed(TWO) }), 2],
    [says(FRAME.UNWATCH, { json: { watch: 3 } }, false), 0],
    [says(FRAME.ENQUEUE, { hex: packed(TWO) }), 1],
    [says(FRAME.ENQUEUE, { hex: packed(batch(2, [1, 3_600_000], [task('"in an hour"')])) }), 1],
    [says(FRAME.SUBMIT, { hex: packed(submitted) }), 1],
    [says(FRAME.SUBSCRIBE, { json: { worker: 'w', queues: ['mail'], concurrency: 1, prefetch: 3, resume: [] } }), 2],
    [says(FRAME.BEGUN, { hex: packed(u64(0)) }, false), 0],
    [says(FRAME.PROGRESS, { json: { ...ABOUT_FIRST, progress: { value: 0.5, message: 'half' } } }, false), 0],
    [says(FRAME.LOG, { json: { ...ABOUT_FIRST, lines: [[1_768_478_400_000, 'so far']], dropped: 0 } }, false), 0],
    [says(FRAME.COMPLETE, { hex: completion(0, 0, '"done"') }), 1],
    [says(FRAME.FAIL, { hex: failure(1, 1) }), 1],
    // Comes again under another token; the old one is worth nothing any more.
    [says(FRAME.RELEASE, { hex: packed(u64(3), u64(2), u32(1)) }), 2],
    [says(FRAME.COMPLETE, { hex: completion(3, 2, undefined) }), 1],
    [says(FRAME.COMPLETE, { hex: completion(3, 3, undefined) }), 2],
    [says(FRAME.CALL, { json: { method: 'task.cancel', params: { id: '1-4' } } }), 2],
    [says(FRAME.COMPLETE, { hex: completion(4, 4, '"too late"') }), 1],
    ...[0, 1, 3, 9].map((counter): [Line, number] => [says(FRAME.WAIT, { hex: packed(u64(counter)) }), 1]),
    [says(FRAME.WAIT, { hex: packed(u64(2)) }), 0],
    [says(FRAME.UNWAIT, { hex: packed(u64(2)) }), 0],
    [says(FRAME.CALL, { json: { method: 'task.get', params: { id: '1-0' } } }), 1],
    [says(FRAME.CALL, { json: { method: 'task.fly', params: {} } }), 1],
    [says(FRAME.UNSUBSCRIBE), 1],
  ];
}

async function writeGolden(): Promise<void> {
  const spoken = script();
  const asked = spoken.flatMap(([line, answers]) => [line, ...Array.from({ length: answers }, () => undefined)]);
  const heard = await converse(asked);
  const lines = asked.map((line) => line ?? stable(heard.shift() as Line));
  writeFileSync(GOLDEN, `${lines.map((line) => JSON.stringify(line)).join('\n')}\n`);
}

/** Without what every release says differently. */
function stable(line: Line): Line {
  if (line.frame !== 'WELCOME') return line;
  const { protocol, epoch } = line.json as { protocol: number; epoch: number };
  return { ...line, json: { protocol, epoch } };
}
