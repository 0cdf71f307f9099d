import { describe, expect, test } from 'vitest';
import { LIMITS } from '../limits.ts';
import { type EnqueueLine, NdjsonStream } from './ndjson-stream.ts';

const accept: EnqueueLine = async (value) => ({ id: String(value), isNew: true });

function bodyOf(...chunks: (string | Uint8Array)[]): ReadableStream<Uint8Array> {
  return new ReadableStream({
    start(controller) {
      for (const chunk of chunks) controller.enqueue(Buffer.from(chunk));
      controller.close();
    },
  });
}

async function answersOf(stream: NdjsonStream): Promise<unknown[]> {
  const text = await new Response(stream.answers).text();
  return text
    .split('\n')
    .slice(0, -1)
    .map((line) => JSON.parse(line));
}

describe('a stream of tasks', () => {
  test('is answered line by line, wherever its bytes are cut', async () => {
    const bytes = Buffer.from('"ä"\n"b"\r\n\n"c"');
    const chunks = [...bytes].map((byte) => Uint8Array.of(byte));
    const answers = [
      { id: 'ä', isNew: true },
      { id: 'b', isNew: true },
      { id: 'c', isNew: true },
    ];
    expect(await answersOf(new NdjsonStream(bodyOf(bytes), accept))).toEqual(answers);
    expect(await answersOf(new NdjsonStream(bodyOf(...chunks), accept))).toEqual(answers);
  });

  test('goes on after lines that are no tasks, and says which they were', async () => {
    const long = `"${'x'.repeat(LIMITS.ndjsonLineBytesMax)}"`;
    const body = bodyOf('1\n{\n', Uint8Array.of(0x22, 0xff, 0x22, 0x0a), `\n${long}\n`, '2\n');
    expect(await answersOf(new NdjsonStream(body, accept))).toMatchObject([
      { id: '1' },
      { line: 2, code: 'INVALID_ARGUMENT', status: 400 },
      { line: 3, code: 'INVALID_ARGUMENT', detail: 'the line is not UTF-8' },
      { line: 5, code: 'PAYLOAD_TOO_LARGE', details: { bytes: long.length } },
      { id: '2' },
    ]);
  });

  test('is answered in order, however its lines end', async () => {
    const waiting: (() => void)[] = [];
    const stream = new NdjsonStream(
      bodyOf('1\n2\n3\n'),
      (value) => new Promise((resolve) => waiting.push(() => resolve({ id: String(value), isNew: true }))),
    );
    const answers = answersOf(stream);
    await expect.poll(() => waiting.length).toBe(3);
    for (const resolve of waiting.reverse()) resolve();
    expect(await answers).toMatchObject([{ id: '1' }, { id: '2' }, { id: '3' }]);
  });

  test('of which nobody reads the answers is not read on', async () => {
    const linesInChunk = 1000;
    let chunks = 0;
    const body = new ReadableStream<Uint8Array>(
      { pull: (controller) => controller.enqueue(Buffer.from(`${++chunks}\n`.repeat(linesInChunk))) },
      { highWaterMark: 0 },
    );
    const stream = new NdjsonStream(body, accept);
    const full = LIMITS.ndjsonLinesMax / linesInChunk;
    await expect.poll(() => chunks).toBe(full);
    for (let turn = 0; turn < 20; turn++) await new Promise((resolve) => setImmediate(resolve));
    expect(chunks).toBe(full);
    const reader = stream.answers.getReader();
    await reader.read();
    await expect.poll(() => chunks).toBeGreaterThan(full);
    await reader.cancel();
    await stream.ended;
  });

  test('that breaks ends its answers with the reason', async () => {
    const body = new ReadableStream<Uint8Array>({
      pull: (controller) => controller.error(new Error('connection reset')),
    });
    const stream = new NdjsonStream(body, accept);
    await expect(answersOf(stream)).rejects.toThrow('connection reset');
    await stream.ended;
  });
});
