import { execFile } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import type { HeadlineMethods } from './headline-process.ts';
import { spread } from './numbers.ts';
import { PART_TIMEOUT_MS } from './stage.ts';
import { Troupe } from './troupe.ts';
import type { RunResult, Settings } from './workload.ts';

/** What a task of this row carries: as small as JSON with a field to look at can sensibly be. */
export interface HeadlinePayload {
  id: number;
  value: number;
}

export const HEADLINE_TASKS = 10_000;
const TASKS_QUICK = 500;
const ROUNDS = { normal: 101, quick: 3 };
/** V8 has compiled what matters by then. */
const WARM_UP_ROUNDS = { normal: 50, quick: 1 };
const THREADS = 4;
const FIELD = 'value';
const SOURCE = fileURLToPath(new URL('../../examples/cpp/headline.cpp', import.meta.url));

export function headlinePayload(index: number): HeadlinePayload {
  return { id: index, value: (index * 7919) % 1000 };
}

/** What all fields come to: whoever reads another sum has lost, doubled or misread a task. */
export function headlineSum(tasks: number): number {
  let sum = 0;
  for (let index = 0; index < tasks; index++) sum += headlinePayload(index).value;
  return sum;
}

/** Ours, what `JSON.parse` alone takes of it, and a C++ program; in milliseconds. */
export async function headline(settings: Settings): Promise<RunResult> {
  const tasks = settings.quick ? TASKS_QUICK : HEADLINE_TASKS;
  const choose = (of: { normal: number; quick: number }): number => (settings.quick ? of.quick : of.normal);
  const rounds = { warmUp: choose(WARM_UP_ROUNDS), rounds: choose(ROUNDS) };
  return await Troupe.play(settings, async (troupe) => {
    const child = troupe.start<HeadlineMethods>('headline', 'row14');
    const ours = await child.call('drain', { tasks, ...rounds }, PART_TIMEOUT_MS);
    await child.leave();
    const native = await runNative(tasks, rounds.rounds);
    const { median, min } = spread(ours.tookMs);
    return {
      values: [median, min, ours.firstMs, ours.parseMs, native?.gatedMs ?? null, native?.startedMs ?? null],
      fsyncs: null,
      lost: ours.lost,
      duplicated: ours.duplicated,
      ...(native === undefined
        ? { notes: ['row 14 has no C++ program beside it: there is no g++ here that compiles it'] }
        : {}),
    };
  });
}

interface NativeRun {
  tasks: number;
  sum: number;
  startedNs: number;
  gatedNs: number;
}

/** Medians of the C++ program over the very same texts; undefined where it cannot be compiled. */
async function runNative(tasks: number, rounds: number): Promise<{ gatedMs: number; startedMs: number } | undefined> {
  const directory = await mkdtemp(join(tmpdir(), 'millrace-bench-'));
  try {
    const program = join(directory, 'headline');
    const isCompiled = await compile(program);
    if (!isCompiled) return undefined;
    const running = promisify(execFile)(program, [String(rounds), String(THREADS), FIELD], { maxBuffer: 2 ** 24 });
    const lines = Array.from({ length: tasks }, (_, index) => `${JSON.stringify(headlinePayload(index))}\n`);
    running.child.stdin?.end(lines.join(''));
    const { stdout } = await running;
    const runs = stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as NativeRun);
    const expected = headlineSum(tasks);
    const wrong = runs.find((run) => run.tasks !== tasks || run.sum !== expected);
    if (wrong !== undefined) {
      const message = `the C++ program did ${wrong.tasks} of ${tasks} tasks, with the sum ${wrong.sum} instead of ${expected}`;
      throw new Error(message);
    }
    const medianMs = (of: (run: NativeRun) => number): number => spread(runs.map(of)).median / 1e6;
    return { gatedMs: medianMs(({ gatedNs }) => gatedNs), startedMs: medianMs(({ startedNs }) => startedNs) };
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

/** False where there is no compiler; a compiler that refuses the program is an error. */
async function compile(program: string): Promise<boolean> {
  try {
    await promisify(execFile)('g++', ['-std=c++17', '-O2', '-pthread', SOURCE, '-o', program]);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return false;
    throw error;
  }
}
