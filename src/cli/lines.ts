import type { MillraceError } from '../errors.ts';
import { CommandFailed, describeFailure } from './failure.ts';
import { printNote, printSlowly } from './output.ts';
import { formatCount, plural } from './units.ts';

export interface InputLine {
  /** From 1. */
  number: number;
  text: string;
}

/** The lines of each piece of input as it arrives; empty ones are left out. Throws LINE_TOO_LONG. */
export async function* readLines(input: AsyncIterable<Buffer>, bytesMax: number): AsyncGenerator<InputLine> {
  const rest: Buffer[] = [];
  let restBytes = 0;
  let number = 1;
  for await (const chunk of input) {
    let from = 0;
    for (let end = chunk.indexOf(10); end !== -1; end = chunk.indexOf(10, from)) {
      rest.push(chunk.subarray(from, end));
      yield { number: number++, text: Buffer.concat(rest.splice(0)).toString('utf8') };
      restBytes = 0;
      from = end + 1;
    }
    rest.push(chunk.subarray(from));
    restBytes += chunk.length - from;
    if (restBytes > bytesMax) {
      throw new CommandFailed('LINE_TOO_LONG', `line ${number} is longer than ${bytesMax} bytes`);
    }
  }
  yield { number, text: Buffer.concat(rest).toString('utf8') };
}

/** What there is to print for a task that was enqueued. */
export interface Said {
  line: string | undefined;
  /** It ended badly. */
  failure?: MillraceError;
}

/** What may be on its way to the server, or be waited for, at the same time. */
const TASKS_AHEAD_MAX = 10_000;
const BYTES_AHEAD_MAX = 16 * 1024 * 1024;

/**
 * Enqueues lines ahead of the answers, which are printed in the order of the lines as they come.
 *
 * A line that cannot be enqueued ends it; a task that ended badly does not, but `run` fails in the end.
 */
export class LinesAhead<Added extends { id: string }> {
  readonly #add: (text: string) => Promise<Added>;
  readonly #say: (added: Added) => Promise<Said>;
  readonly #ahead: { answer: Promise<string | undefined>; bytes: number }[] = [];
  #bytesAhead = 0;
  #answered = 0;
  #unsuccessful = 0;
  #failure: unknown;
  #printing: Promise<void> | undefined;
  #roomMade: () => void = () => {};

  constructor(add: (text: string) => Promise<Added>, say: (added: Added) => Promise<Said>) {
    this.#add = add;
    this.#say = say;
  }

  async run(lines: AsyncIterable<InputLine>): Promise<void> {
    try {
      for await (const { number, text } of lines) {
        if (text.trim() === '') continue;
        this.#take(number, text);
        while (this.#isFull && this.#failure === undefined) await this.#room();
        if (this.#failure !== undefined) break;
      }
    } catch (error) {
      await this.#printing;
      if (!(error instanceof CommandFailed)) throw error;
      const before = `${plural(this.#answered, 'task')} before it ${this.#answered === 1 ? 'was' : 'were'} enqueued`;
      throw new CommandFailed(error.code, `${error.message}; ${before}`, { cause: error });
    }
    await this.#printing;
    if (this.#failure !== undefined) throw this.#failure;
    if (this.#unsuccessful === 0) return;
    const message = `${formatCount(this.#unsuccessful)} of ${plural(this.#answered, 'task')} did not complete`;
    throw new CommandFailed('NOT_COMPLETED', message);
  }

  #take(number: number, text: string): void {
    try {
      JSON.parse(text);
    } catch (error) {
      throw new CommandFailed('NOT_JSON', `line ${number} is not JSON: ${(error as Error).message}`);
    }
    const answer = this.#answer(text);
    // Looked at when its turn comes.
    answer.catch(() => {});
    this.#ahead.push({ answer, bytes: text.length });
    this.#bytesAhead += text.length;
    this.#printing ??= this.#print();
  }

  async #answer(text: string): Promise<string | undefined> {
    const added = await this.#add(text);
    const { line, failure } = await this.#say(added);
    if (failure !== undefined) {
      this.#unsuccessful++;
      if (line === undefined) printNote(`${added.id}: ${describeFailure(failure).line}`);
    }
    return line;
  }

  get #isFull(): boolean {
    return this.#ahead.length >= TASKS_AHEAD_MAX || this.#bytesAhead >= BYTES_AHEAD_MAX;
  }

  #room(): Promise<void> {
    return new Promise((resolve) => {
      this.#roomMade = resolve;
    });
  }

  async #print(): Promise<void> {
    try {
      for (let first = this.#ahead[0]; first !== undefined; first = this.#ahead[0]) {
        const text = await first.answer;
        this.#answered++;
        if (text !== undefined) await printSlowly(text);
        this.#ahead.shift();
        this.#bytesAhead -= first.bytes;
        if (!this.#isFull) this.#roomMade();
      }
    } catch (error) {
      this.#failure = error;
      this.#roomMade();
      return;
    }
    this.#printing = undefined;
  }
}
