import { createInterface } from 'node:readline/promises';
import { UsageError } from './failure.ts';
import { printNote } from './output.ts';

/** Throws USAGE where there is nobody to ask. `why`: what is asked for could not be taken back. */
export function checkMayAsk(why: string): void {
  if (process.stdin.isTTY && process.stderr.isTTY) return;
  throw new UsageError(`${why}: add --yes, since there is no terminal to ask in`);
}

export async function confirm(question: string): Promise<boolean> {
  const terminal = createInterface({ input: process.stdin, output: process.stderr });
  try {
    const answer = await terminal.question(`${question} [y/N] `);
    return /^y(es)?$/i.test(answer.trim());
  } catch {
    // Ctrl-C or Ctrl-D instead of an answer.
    printNote('');
    return false;
  } finally {
    terminal.close();
  }
}
