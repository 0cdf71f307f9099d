import fc from 'fast-check';
import { ERROR_CODES, type ErrorCode, MillraceError } from '../../src/errors.ts';

/**
 * What every input must leave behind, whoever made it: nothing but errors of ours came out, in bounded time and memory, and no
 * built-in prototype has changed.
 *
 * `MILLRACE_FUZZ_SEED=7` draws the same inputs again, `MILLRACE_FUZZ_RUNS=100000` as many of each kind, however long they take,
 * and new ones each time. Without either the inputs are always the same: a change is judged by what it changed.
 */
const RUNS = integerFrom('MILLRACE_FUZZ_RUNS');
const SEED = integerFrom('MILLRACE_FUZZ_SEED') ?? (RUNS === undefined ? 1 : Date.now() & 0x7fff_ffff);

/** More is tried than each `npm test` has the time for. */
export const IS_LONG = RUNS !== undefined;

/** One input may take so long. A machine that is busy is no failure; what hangs takes longer than any. */
const INPUT_MS_MAX = 5000;
/** What one input may cost beside what its own bytes do. */
const INPUT_BYTES_MAX = 8 * 1024 * 1024;
/** Copies of an input, parsed and as text, that may exist at the same time. */
const BYTES_PER_BYTE = 64;
/** The longest message that an error may have, whatever was given. */
const MESSAGE_CHARACTERS_MAX = 8000;

function integerFrom(name: string): number | undefined {
  const text = process.env[name];
  return text === undefined || text === '' ? undefined : Number(text);
}

/** Something that no input may do. */
export class Broken extends Error {
  override readonly name = 'Broken';
}

/**
 * Draws inputs until there were `runs` of them, or `boxMs` is over, and gives each to `run`. A failure says the seed and the
 * smallest input that was found to fail.
 */
export async function fuzz<T>(
  inputs: fc.Arbitrary<T>,
  run: (input: T) => unknown,
  { runs, boxMs = 500 }: { runs: number; boxMs?: number },
): Promise<void> {
  const property = fc.asyncProperty(inputs, async (input) => {
    await run(input);
    checkPrototypes();
  });
  const details = await fc.check(property, {
    seed: SEED,
    numRuns: RUNS ?? runs,
    // It also ends a search for a smaller input; the smallest so far is told then.
    ...(RUNS === undefined ? { interruptAfterTimeLimit: boxMs, markInterruptAsFailure: false } : {}),
  });
  if (RUNS !== undefined) console.log(`${details.numRuns} inputs, seed ${details.seed}`);
  // A machine that is very busy may have had no time for a single one.
  if (!details.failed || details.counterexample === null) return;
  const report = await fc.asyncDefaultReportMessage(details);
  throw new Broken(`MILLRACE_FUZZ_SEED=${details.seed} does it again.\n${report}`, { cause: details.errorInstance });
}

/** An error of ours, with a code that exists and a message that a person can read. Throws Broken for any other. */
export function ours(error: unknown): MillraceError {
  if (error instanceof Broken) throw error;
  if (!(error instanceof MillraceError))
    throw new Broken(`no error of ours came out: ${describe(error)}`, { cause: error });
  if (!Object.hasOwn(ERROR_CODES, error.code)) throw new Broken(`there is no code ${error.code}`);
  if (error.message.length > MESSAGE_CHARACTERS_MAX) {
    throw new Broken(`a message of ${error.message.length} characters: ${error.message.slice(0, 200)}…`);
  }
  return error;
}

export function oursWith(error: unknown, codes: readonly ErrorCode[]): MillraceError {
  const known = ours(error);
  if (codes.includes(known.code)) return known;
  throw new Broken(`${known.code} came, which is none of ${codes.join(', ')}: ${known.message}`, { cause: known });
}

function describe(error: unknown): string {
  return error instanceof Error ? (error.stack ?? `${error.name}: ${error.message}`) : String(error);
}

/** What may be refused with an error of ours. Returns with which, or undefined when it was not. */
export function tolerate(read: () => unknown): MillraceError | undefined {
  try {
    read();
    return undefined;
  } catch (error) {
    return ours(error);
  }
}

/** Reads an input of so many bytes. Returns what came out, or with which error of ours it was refused. */
export function attempt<T>(bytes: number, read: () => T): { value: T } | { refusal: MillraceError } {
  const before = process.memoryUsage();
  const startMs = performance.now();
  let outcome: { value: T } | { refusal: MillraceError };
  try {
    outcome = { value: read() };
  } catch (error) {
    outcome = { refusal: ours(error) };
  }
  checkTime(performance.now() - startMs);
  const after = process.memoryUsage();
  const grown = after.heapUsed - before.heapUsed + after.arrayBuffers - before.arrayBuffers;
  // Less is seen when garbage was collected meanwhile; what is told a length and believes it shows in most of the runs.
  if (grown > INPUT_BYTES_MAX + BYTES_PER_BYTE * bytes)
    throw new Broken(`${bytes} bytes cost ${grown} bytes of memory`);
  return outcome;
}

export async function inTime<T>(work: () => Promise<T>): Promise<T> {
  const startMs = performance.now();
  try {
    return await work();
  } finally {
    checkTime(performance.now() - startMs);
  }
}

function checkTime(ms: number): void {
  if (ms > INPUT_MS_MAX) throw new Broken(`one input took ${Math.round(ms)} ms`);
}

const PROTOTYPES = { Object, Array, Function, String, Number, Boolean, Map, Set, Promise, Error, Uint8Array, Buffer };

function namesOfPrototypes(): string {
  return Object.entries(PROTOTYPES)
    .map(([name, { prototype }]) => `${name}: ${Reflect.ownKeys(prototype).map(String).sort().join()}`)
    .join('\n');
}

const SOUND = namesOfPrototypes();

/** Throws Broken when something has put anything into a built-in prototype, or taken it out. */
export function checkPrototypes(): void {
  const found = namesOfPrototypes();
  if (found === SOUND && Object.getPrototypeOf(Object.prototype) === null) return;
  const [sound, changed] = [SOUND.split('\n'), found.split('\n')];
  const line = changed.find((each, index) => each !== sound[index]) ?? 'the prototype of Object.prototype';
  throw new Broken(`a built-in prototype has changed: ${line}`);
}

/** What nobody caught: thrown in a callback that was deferred, or rejected where nobody listens. Either ends a process. */
export class Faults {
  #seen: unknown[] = [];
  readonly #onRejection = (error: unknown): void => {
    this.add(error);
  };

  listen(): this {
    process.on('unhandledRejection', this.#onRejection);
    return this;
  }

  ignore(): void {
    process.off('unhandledRejection', this.#onRejection);
  }

  add(error: unknown): void {
    this.#seen.push(error);
  }

  /** The callback, of which no exception gets out. */
  guard<Args extends unknown[]>(callback: (...args: Args) => void): (...args: Args) => void {
    return (...args) => {
      try {
        callback(...args);
      } catch (error) {
        this.add(error);
      }
    };
  }

  /** Throws Broken for the first that was seen since the last check. */
  check(): void {
    const [first] = this.#seen;
    const count = this.#seen.length;
    this.#seen = [];
    if (count > 0) throw new Broken(`nobody caught this: ${describe(first)}`, { cause: first });
  }
}

/** Lets what was deferred, and what that defers, go on. */
export async function turns(count = 3): Promise<void> {
  for (let turn = 0; turn < count; turn++) await new Promise<void>((resolve) => setImmediate(resolve));
}
