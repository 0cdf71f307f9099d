import { createReadStream, openSync, writeSync } from 'node:fs';
import { createInterface } from 'node:readline';

/**
 * What a process did, one line of words each, in a file that outlives it: a line is with the kernel when `write` returns, so
 * that a process which is killed cannot take it back.
 *
 * ```
 * a KEY MANNER AT      is about to be enqueued          s KEY ATTEMPT AT LATENCY   a handler begins
 * k KEY                its enqueue was confirmed        e KEY AT                   and is through
 * n KEY ERROR…         it was refused                   c KEY OUTCOME              the answer to a cancel
 * r KEY STATE          its result was waited for
 * ```
 * Times are milliseconds of the machine's monotonic clock; a latency is from the call of `enqueue` on.
 */
export class Book {
  readonly #file: number;

  constructor(path: string) {
    this.#file = openSync(path, 'a');
  }

  write(...words: (string | number)[]): void {
    writeSync(this.#file, `${words.join(' ')}\n`);
  }
}

/** The last line may be half a line: its process was killed. */
export async function readBook(path: string, each: (words: string[]) => void): Promise<void> {
  const words = (line: string): string[] => line.split(' ');
  let last: string | undefined;
  const stream = createReadStream(path, 'utf8');
  let endsWhole = true;
  stream.on('data', (chunk) => {
    endsWhole = String(chunk).endsWith('\n');
  });
  for await (const line of createInterface({ input: stream })) {
    if (last !== undefined) each(words(last));
    last = line;
  }
  if (last !== undefined && endsWhole) each(words(last));
}
