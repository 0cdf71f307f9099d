import { mkdirSync, mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { checkPrototypes, Faults } from '../harness.ts';
import { Corpus } from './corpus.ts';
import { Coverage } from './coverage.ts';
import { TARGETS } from './targets.ts';
import { Watchdog } from './watchdog.ts';

/**
 * `npm run test:fuzz -- --seconds 60 --target frames`: changes inputs at random, and keeps those that run something that none
 * before has run, to change them further. Without `--target` each has its turn. What breaks something is written to a file, and
 * ends the run of its target.
 */
const { values } = parseArgs({
  options: {
    seconds: { type: 'string', default: '60' },
    target: { type: 'string', default: '' },
    seed: { type: 'string', default: String(Date.now() & 0x7fff_ffff) },
    out: { type: 'string', default: '' },
  },
});

/** Inputs run one by one first; then so many for each look at what has run, which costs as much as a few of them. */
const INPUTS_PER_LOOK = 4;

const out = values.out === '' ? mkdtempSync(join(tmpdir(), 'millrace-fuzz-')) : values.out;
mkdirSync(out, { recursive: true });

/** mulberry32 */
function seeded(seed: number): () => number {
  let state = seed | 0;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Returns whether nothing was broken. */
async function run(name: string): Promise<boolean> {
  const make = TARGETS[name];
  if (make === undefined) throw new Error(`there is no target ${name}; there are ${Object.keys(TARGETS).join(', ')}`);
  const faults = new Faults().listen();
  const target = await make(faults);
  const watchdog = new Watchdog(join(out, `${name}-hang.bin`));
  const corpus = new Corpus(seeded(Number(values.seed)), target.words, target.bytesMax);
  const coverage = new Coverage((url) => /\/src\/(?!.*\.test\.)/.test(url));
  const endMs = performance.now() + Number(values.seconds) * 1000;
  const startHeap = process.memoryUsage().heapUsed;
  let inputs = 0;
  let current: Buffer = Buffer.alloc(0);
  const feed = async (input: Buffer): Promise<void> => {
    current = input;
    inputs++;
    watchdog.begin(input);
    await target.run(Buffer.from(input));
    checkPrototypes();
    watchdog.end();
  };
  try {
    for (const seed of target.seeds) {
      await feed(seed);
      coverage.foundNew();
      corpus.add(seed);
    }
    const begun = coverage.blockCount + coverage.functionCount;
    while (performance.now() < endMs) await explore(corpus, coverage, feed);
    await target.stop();
    const found = coverage.blockCount + coverage.functionCount - begun;
    const grownMb = Math.round((process.memoryUsage().heapUsed - startHeap) / 1e6);
    console.log(
      `${name}: ${inputs} inputs, ${corpus.inputs.length - target.seeds.length} kept, ${found} blocks found beside those of the seeds, heap ${grownMb} MB more; nothing broken`,
    );
    return true;
  } catch (error) {
    const path = join(out, `${name}-${inputs}.bin`);
    writeFileSync(path, current);
    console.log(
      `${name}: input ${inputs} (seed ${values.seed}) is in ${path}\n${error instanceof Error ? error.stack : String(error)}`,
    );
    return false;
  } finally {
    watchdog.end();
    coverage.close();
    faults.ignore();
    await watchdog.stop();
  }
}

/** A few inputs; when they ran something new together, each once more, to see which did. */
async function explore(corpus: Corpus, coverage: Coverage, feed: (input: Buffer) => Promise<void>): Promise<void> {
  const few = Array.from({ length: INPUTS_PER_LOOK }, () => corpus.next());
  for (const input of few) await feed(input);
  if (!coverage.foundNew()) return;
  // Which of them it was cannot be told any more: what has run once is known. All have something to do with it.
  for (const input of few) corpus.add(input);
}

const names = values.target === '' ? Object.keys(TARGETS) : [values.target];
let isSound = true;
for (const name of names) isSound = (await run(name)) && isSound;
if (!isSound) process.exitCode = 1;
