import { once } from 'node:events';
import { printableJson } from './printable.ts';

let mustKeepRunning = false;
const broken = new Set<NodeJS.WriteStream>();
/** The reader went away, which is its right. */
const GONE = ['EPIPE', 'EIO', 'ERR_STREAM_DESTROYED'];

/**
 * The reader of our output may go away at any time (`millrace task list | head`). A command that only prints is done
 * then; one that does something else goes on in silence (`keepRunningWithoutReader`), also when the file that it prints
 * to lies on a full disk.
 */
export function tolerateBrokenPipe(): void {
  for (const stream of [process.stdout, process.stderr]) {
    stream.on('error', (error: NodeJS.ErrnoException) => {
      broken.add(stream);
      if (mustKeepRunning) return;
      if (GONE.includes(error.code ?? '')) process.exit();
      printNote(`millrace: ${error.code ?? error.name}: the output cannot be written`);
      process.exit(1);
    });
  }
}

export function keepRunningWithoutReader(): void {
  mustKeepRunning = true;
}

export function print(text: string): void {
  if (!broken.has(process.stdout)) process.stdout.write(`${text}\n`);
}

export function printJson(value: unknown): void {
  print(printableJson(value));
}

/** For streams of lines: resolves when the reader has room for more. */
export async function printSlowly(text: string): Promise<void> {
  if (broken.has(process.stdout) || process.stdout.write(`${text}\n`)) return;
  try {
    await once(process.stdout, 'drain');
  } catch (error) {
    if (!broken.has(process.stdout)) throw error;
  }
}

export function printNote(text: string): void {
  if (!broken.has(process.stderr)) process.stderr.write(`${text}\n`);
}

/** Undefined when a line may be as long as it likes: nobody looks at it in a terminal. */
export function screenColumns(): number | undefined {
  return process.stdout.isTTY ? process.stdout.columns : undefined;
}
