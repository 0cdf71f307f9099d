import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { Readable, Writable } from 'node:stream';
import { pathToFileURL } from 'node:url';
import { type CommandOptions, commandEnvironment, type Finished, MAIN } from './command.ts';

type Surroundings = Pick<CommandOptions, 'directory' | 'environment' | 'input'>;

/** They share what a process has one of: its directory, environment, input and output. */
let last: Promise<unknown> = Promise.resolve();

/**
 * A command as it is called in a process that has loaded it already, which takes a tenth of the time of a `RunningCommand`:
 * for what a command does, says and resolves with. That its process ends, and what signals and readers do to it, is for a
 * process of its own to show, and so is a command that stays.
 */
export function callCommand(args: readonly string[], surroundings: Surroundings): Promise<Finished> {
  const called = last.then(() => call(args, surroundings));
  last = called.catch(() => {});
  return called;
}

async function call(args: readonly string[], { directory, environment, input }: Surroundings): Promise<Finished> {
  const file = join(dirname(MAIN), 'run.js');
  if (!existsSync(file)) throw new Error(`${file} is missing: npm run build`);
  const { run } = (await import(pathToFileURL(file).href)) as { run(args: readonly string[]): Promise<number> };
  const [stdout, stderr] = [new Captured(), new Captured()];
  const streams = { stdin: Readable.from(input === undefined ? [] : [Buffer.from(input)]), stdout, stderr };
  const leave = enter(directory, commandEnvironment(environment), streams);
  try {
    return { code: await run(args), stdout: stdout.text, stderr: stderr.text };
  } finally {
    leave();
  }
}

/** Makes these the surroundings of this process; what it gives brings back those before. */
function enter(directory: string, environment: NodeJS.ProcessEnv, streams: object): () => void {
  const [home, env] = [process.cwd(), process.env];
  const before = Object.keys(streams).map((name) => [name, Object.getOwnPropertyDescriptor(process, name)] as const);
  process.chdir(directory);
  process.env = environment;
  for (const [name, value] of Object.entries(streams)) {
    Object.defineProperty(process, name, { value, configurable: true });
  }
  return () => {
    for (const [name, descriptor] of before) Object.defineProperty(process, name, descriptor as PropertyDescriptor);
    process.env = env;
    process.chdir(home);
  };
}

class Captured extends Writable {
  text = '';

  override _write(chunk: Buffer, _encoding: BufferEncoding, written: () => void): void {
    this.text += chunk.toString('utf8');
    written();
  }
}
