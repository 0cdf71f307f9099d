import { MillraceError } from '../errors.ts';
import type { Client } from '../index.ts';
import { type ConnectionValues, withClient } from './connection.ts';
import { CommandFailed, describeFailure } from './failure.ts';
import { print, printJson, printNote } from './output.ts';
import { printable } from './printable.ts';

/** What the arguments of a command name. */
export interface Subject {
  /** `schedule`; the command is `millrace schedule`. */
  readonly noun: string;
  /** Of the argument in the JSON that is printed. */
  readonly key: string;
}

export interface Done {
  /** A line for people, after the name. */
  said: string;
  /** What --json prints beside the name. */
  result: object;
}

/** All are tried, and told of one by one; the command fails when one could not be done. */
export async function forEachOf(
  { noun, key }: Subject,
  values: ConnectionValues & { json: boolean },
  names: readonly string[],
  act: (client: Client, name: string) => Promise<Done>,
): Promise<void> {
  await withClient(values, { name: `millrace ${noun}` }, async (client) => {
    let refused = 0;
    for (const name of names) {
      try {
        const { said, result } = await act(client, name);
        if (values.json) printJson({ [key]: name, ...result });
        else print(`${printable(name)}: ${said}`);
      } catch (error) {
        if (names.length === 1 || !(error instanceof MillraceError)) throw error;
        refused++;
        if (values.json) printJson({ [key]: name, error: error.toJSON() });
        else printNote(`${printable(name)}: ${describeFailure(error).line}`);
      }
    }
    if (refused > 0) throw new CommandFailed('REFUSED', `${refused} of ${names.length} ${noun}s were left as they are`);
  });
}
