import { once } from 'node:events';

let onBrokenPipe: () => void = () => process.exit();
let isBroken = false;

/**
 * The reader of our output may go away at any time (`millrace task list | head`). A command that only prints is done
 * then; one that does something else goes on in silence (`keepRunningWithoutReader`).
 */
export function tolerateBrokenPipe(): void {
  for (const stream of [process.stdout, process.stderr]) {
    stream.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code !== 'EPIPE' && error.code !== 'EIO' && error.code !== 'ERR_STREAM_DESTROYED') throw error;
      if (stream === process.stdout) isBroken = true;
      onBrokenPipe();
    });
  }
}

export function keepRunningWithoutReader(): void {
  onBrokenPipe = () => {};
}

export function print(text: string): void {
  if (!isBroken) process.stdout.write(`${text}\n`);
}

export function printJson(value: unknown): void {
  print(JSON.stringify(value));
}

/** For streams of lines: resolves when the reader has room for more. */
export async function printSlowly(text: string): Promise<void> {
  if (isBroken || process.stdout.write(`${text}\n`)) return;
  try {
    await once(process.stdout, 'drain');
  } catch (error) {
    if (!isBroken) throw error;
  }
}

export function printNote(text: string): void {
  process.stderr.write(`${text}\n`);
}

/** Undefined when a line may be as long as it likes: nobody looks at it in a terminal. */
export function screenColumns(): number | undefined {
  return process.stdout.isTTY ? process.stdout.columns : undefined;
}
