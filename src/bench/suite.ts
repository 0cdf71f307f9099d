import { mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { type DiskProbe, probeDisk } from './disk-probe.ts';
import { describeMachine, describeVersions, type Machine, type Versions } from './machine.ts';
import { CLOCK_IS_SHARED, spread } from './numbers.ts';
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
  const disk = probeIn(settings.directory, settings.quick ? DISK_WRITES_QUICK : DISK_WRITES);
  const chosen = scenarios(settings);
  const results = new Map<Scenario, RunResult[]>(chosen.map((scenario) => [scenario, []]));
  for (let run = 0; run < settings.runs; run++) {
    // Each run begins at another row: what comes late in a fixed order meets a warmer machine and a fuller disk.
    const first = Math.floor((run * chosen.length) / settings.runs);
    for (const scenario of [...chosen.slice(first), ...chosen.slice(0, first)]) {
      settings.onProgress(`run ${run + 1} of ${settings.runs}: ${scenario.title}`);
      results.get(scenario)?.push(await scenario.run(settings));
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
  };
}

function toRows({ figures }: Scenario, runs: readonly RunResult[]): BenchRow[] {
  const sum = (of: (run: RunResult) => number): number => runs.reduce((total, run) => total + of(run), 0);
  return figures.flatMap(({ row, name, title, unit, goal }, index) => {
    const values = runs.map((run) => run.values[index]).filter((value) => value !== null);
    // A figure that this machine cannot give has no row; one that only some runs gave lost its tasks, and is told by `lost`.
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
      lost: sum(({ lost }) => lost),
      duplicated: sum(({ duplicated }) => duplicated),
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

function probeIn(directory: string, writes: number): DiskProbe {
  const own = mkdtempSync(join(directory, 'millrace-bench-'));
  try {
    return probeDisk(own, writes);
  } finally {
    rmSync(own, { recursive: true, force: true });
  }
}
