import { Readable } from 'node:stream';
import { expect, test } from 'vitest';
import { type InputLine, LinesAhead, readLines } from './lines.ts';

async function collect(pieces: Buffer[]): Promise<InputLine[]> {
  const lines: InputLine[] = [];
  for await (const line of readLines(Readable.from(pieces), 1000)) lines.push(line);
  return lines;
}

test('lines may be cut anywhere, also within a letter', async () => {
  const [first = Buffer.of(), second = Buffer.of()] = [Buffer.from('{"a":"é'), Buffer.from('"}\n2\n3')];
  const lines = await collect([first.subarray(0, -1), Buffer.concat([first.subarray(-1), second])]);
  expect(lines.map(({ text }) => text)).toEqual(['{"a":"é"}', '2', '3']);
  expect(lines.map(({ number }) => number)).toEqual([1, 2, 3]);
});

test('a line without an end is refused before it fills the memory', async () => {
  await expect(collect(['1\n', 'x'.repeat(600), 'x'.repeat(600)].map((text) => Buffer.from(text)))).rejects.toThrow(
    'line 2 is longer than 1000 bytes',
  );
});

test('a line that is not JSON ends it and says what was done before', async () => {
  const added: string[] = [];
  const lines = new LinesAhead<{ id: string }>(
    async (text) => {
      added.push(text);
      return { id: text };
    },
    async () => ({ line: undefined }),
  );
  await expect(lines.run(readLines(Readable.from([Buffer.from('1\n\n2\nx\n3\n')]), 1000))).rejects.toThrow(
    /line 4 is not JSON: .*; 2 tasks before it were enqueued/,
  );
  expect(added).toEqual(['1', '2']);
});

test('no more than a bounded number is on its way', async () => {
  let open = 0;
  let openMax = 0;
  let waiting: (() => void)[] = [];
  const lines = new LinesAhead<{ id: string }>(
    async (text) => {
      openMax = Math.max(openMax, ++open);
      if (open < 10_000) await new Promise<void>((resolve) => waiting.push(resolve));
      for (const goOn of waiting) goOn();
      waiting = [];
      open--;
      return { id: text };
    },
    async () => ({ line: undefined }),
  );
  const numbers = Array.from({ length: 20_000 }, (_, index) => `${index}\n`).join('');
  await lines.run(readLines(Readable.from([Buffer.from(numbers)]), 1000));
  expect(openMax).toBe(10_000);
});
