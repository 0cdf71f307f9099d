import { type DiskProbe, inScratch, probeDisk } from './disk-probe.ts';
import { describeMachine, describeVersions, type Machine, type Versions } from './machine.ts';
import { CLOCK_IS_SHARED, spread } from './numbers.ts';
import { rotated } from './order.ts';
import { PAYLOAD_BYTES } from './payload.ts';
import { type Goal, type Scenario, scenarios } from './scenarios.ts';
import type { RunResult, Settings } from './workload.ts';

/** What `bench --json` prints. */
export interface BenchReport {
  machine: Machine;
  versions: Versions;
  durability: string;
  payloadBytes: number;
  /** Whether they were encrypted. */
  encrypted: boolean;
  /** False where processes share only the wall clock: spans then carry an error of about a millisecond. */
  clockIsShared: boolean;
  disk: DiskProbe;
  /** What is to be known of single rows. */
  notes: string[];
  rows: BenchRow[];
  /** Of everything that was run, also of what gave no figure since its tasks were lost. */
  ledgers: LedgerReport[];
}

/** What became of the tasks of all runs of a scenario together. */
export interface LedgerReport {
  name: string;
  lost: number;
  duplicated: number;
}

export interface BenchRow {
  name: string;
  row: number;
  title: string;
  unit: string;
  median: number;
  min: number;
  max: number;
  runs: number;
  /** Syncs of the server's journal in the measured part of a run; median. Null over RabbitMQ, which does not tell. */
  fsyncs: number | null;
  /** In all runs together. */
  lost: number;
  duplicated: number;
  goal?: Goal;
  reached?: boolean;
}

const DISK_WRITES = 2000;
const DISK_WRITES_QUICK = 50;

export async function runSuite(settings: Settings): Promise<BenchReport> {
  const machine = describeMachine(settings.directory);
  const writes = settings.quick ? DISK_WRITES_QUICK : DISK_WRITES;
  const disk = inScratch(settings.directory, (own) => probeDisk(own, writes));
  const chosen = scenarios(settings);
  const results = new Map<Scenario, RunResult[]>(chosen.map((scenario) => [scenario, []]));
  for (let run = 0; run < settings.runs; run++) {
    for (const scenario of rotated(chosen, run, settings.runs)) {
      settings.onProgress(`run ${run + 1} of ${settings.runs}: ${scenario.title}`);
      results.get(scenario)?.push(await scenario.run(settings, run));
    }
  }
  return {
    machine,
    versions: describeVersions(),
    durability:
      settings.rabbit === undefined
        ? `fsync ${settings.fsync}`
        : 'RabbitMQ, quorum queues, persistent messages, confirms',
    payloadBytes: PAYLOAD_BYTES,
    encrypted: settings.encrypted,
    clockIsShared: CLOCK_IS_SHARED,
    disk,
    notes: [...new Set([...results.values()].flat().flatMap(({ notes }) => notes ?? []))],
    rows: [...results]
      .flatMap(([scenario, runs]) => toRows(scenario, runs))
      .filter(({ row }) => settings.rows.includes(row)),
    ledgers: [...results].map(([scenario, runs]) => ledgerOf(scenario, runs)),
  };
}

export function ledgerOf({ title }: Pick<Scenario, 'title'>, runs: readonly RunResult[]): LedgerReport {
  const sum = (of: (run: RunResult) => number): number => runs.reduce((total, run) => total + of(run), 0);
  return { name: title, lost: sum(({ lost }) => lost), duplicated: sum(({ duplicated }) => duplicated) };
}

export function toRows(scenario: Pick<Scenario, 'title' | 'figures'>, runs: readonly RunResult[]): BenchRow[] {
  const { lost, duplicated } = ledgerOf(scenario, runs);
  return scenario.figures.flatMap(({ row, name, title, unit, goal }, index) => {
    const values = runs.map((run) => run.values[index]).filter((value) => value !== null);
    // A figure that this machine cannot give has no row, and neither has one that no run gave since all lost their tasks.
    if (values.length === 0) return [];
    const { median, min, max } = spread(values);
    return {
      name,
      row,
      title,
      unit,
      median,
      min,
      max,
      runs: runs.length,
      fsyncs: medianSyncs(runs),
      lost,
      duplicated,
      ...(goal === undefined
        ? {}
        : { goal, reached: goal.better === 'higher' ? median >= goal.value : median <= goal.value }),
    };
  });
}

/** Null where nobody counted. */
function medianSyncs(runs: readonly RunResult[]): number | null {
  const counts = runs.flatMap(({ fsyncs }) => (fsyncs === null ? [] : [fsyncs]));
  return counts.length === 0 ? null : spread(counts).median;
}
