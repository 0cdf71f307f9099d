import type { RunResult } from './workload.ts';

/** How the figure of a comparison is made of its two rates. */
export type Ratio = 'times as many' | 'times as long';

/**
 * Both, one after the other. Which of them begins changes with each run: what comes second meets a warmer machine and a
 * fuller disk.
 *
 * @param run Counts from 0.
 */
export async function inTurn<T>(run: number, one: () => Promise<T>, other: () => Promise<T>): Promise<[T, T]> {
  if (run % 2 === 0) {
    const first = await one();
    return [first, await other()];
  }
  const first = await other();
  return [await one(), first];
}

/** How many times as many tasks the first rate is, or how many times as long the same number takes at it. */
export function ratioOf(ratio: Ratio, one: number, other: number): number {
  return ratio === 'times as many' ? one / other : other / one;
}

/**
 * Runs what gives one rate each, in turn; gives both rates, then their ratio. What was lost, repeated or synced in either
 * counts.
 */
export async function compare(
  run: number,
  ratio: Ratio,
  one: () => Promise<RunResult>,
  other: () => Promise<RunResult>,
): Promise<RunResult> {
  const [first, second] = await inTurn(run, one, other);
  const [rate = null] = first.values;
  const [otherRate = null] = second.values;
  return {
    values: [rate, otherRate, rate === null || otherRate === null ? null : ratioOf(ratio, rate, otherRate)],
    fsyncs: first.fsyncs === null || second.fsyncs === null ? null : first.fsyncs + second.fsyncs,
    lost: first.lost + second.lost,
    duplicated: first.duplicated + second.duplicated,
  };
}

/** What one side gives. `tookNs`: null when it cannot be told, since tasks were lost. */
export function paceOf(
  tasks: number,
  tookNs: number | null,
  ledger: { lost: number; duplicated: number },
  fsyncs: number | null,
): RunResult {
  const { lost, duplicated } = ledger;
  return { values: [tookNs === null ? null : tasks / (tookNs / 1e9)], fsyncs, lost, duplicated };
}
