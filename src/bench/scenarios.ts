import type { Ratio } from './comparison.ts';
import { HEADLINE_TASKS, headline } from './headline.ts';
import { quietAmongNoise } from './quiet-scene.ts';
import { consumeAgainstBare, consumeWithStore, publishAgainstBare, publishWithStore } from './rabbit-scenes.ts';
import {
  awaitedByMany,
  awaitedByOne,
  backlog,
  endToEnd,
  startLatency,
  threadsAgainstLoop,
  threadsAgainstOne,
} from './scenes.ts';
import type { RunResult, Settings } from './workload.ts';

export interface Goal {
  readonly value: number;
  readonly better: 'higher' | 'lower';
}

export interface Figure {
  readonly row: number;
  readonly name: string;
  readonly title: string;
  readonly unit: string;
  readonly goal?: Goal;
}

/** Something that is run and gives figures. */
export interface Scenario {
  title: string;
  figures: readonly Figure[];
  /** Runs count from 0. */
  run: (settings: Settings, run: number) => Promise<RunResult>;
}

/** Rows that need `--url amqp://…`, and those of them that need `--store` as well. */
export const RABBIT_ROWS = [8, 9];
export const RABBIT_STORE_ROWS = [10, 11];

const RATES_PER_SECOND = [500, 1000];
const BACKLOGS = [1_000_000, 10_000_000];
/** For these numbers of tasks: what one takes of the server's memory, and how soon it is there again. */
const BACKLOG_GOALS: Readonly<Record<number, { memoryBytes: number; restartMs: number }>> = {
  1000000: { memoryBytes: 100, restartMs: 1000 },
  10000000: { memoryBytes: 60, restartMs: 5000 },
};
const JOURNAL_BYTES = 150;
const BACKLOGS_QUICK = [20_000];

/** In the order of the table. */
export function scenarios(settings: Settings): Scenario[] {
  const backlogs = settings.tasks !== undefined ? [settings.tasks] : settings.quick ? BACKLOGS_QUICK : BACKLOGS;
  const all = [
    END_TO_END_BATCH,
    END_TO_END_EACH,
    AWAITED_BY_MANY,
    AWAITED_BY_ONE,
    ...RATES_PER_SECOND.map(paced),
    ...backlogs.map(queuedUp),
    ...OVER_RABBITMQ,
    CPU_IN_THREADS,
    NOTHING_IN_THREADS,
    IN_PROCESS,
    AMONG_NOISE,
  ];
  return all.filter(({ figures }) => figures.some(({ row }) => settings.rows.includes(row)));
}

const END_TO_END_BATCH: Scenario = {
  title: 'end to end with a batch handler',
  figures: [
    {
      row: 1,
      name: 'end-to-end-batch',
      title: 'end to end, batch handler',
      unit: 'tasks/s',
      goal: { value: 1_000_000, better: 'higher' },
    },
  ],
  run: (settings) => endToEnd(settings, 'row1', 'batch'),
};

const END_TO_END_EACH: Scenario = {
  title: 'end to end with a handler call per task',
  figures: [
    {
      row: 2,
      name: 'end-to-end-each',
      title: 'end to end, handler and result per task',
      unit: 'tasks/s',
      goal: { value: 500_000, better: 'higher' },
    },
  ],
  run: (settings) => endToEnd(settings, 'row2', 'each'),
};

const AWAITED_BY_MANY: Scenario = {
  title: '256 callers await their enqueues',
  figures: [
    {
      row: 3,
      name: 'enqueue-256-callers',
      title: 'enqueue awaited by 256 callers',
      unit: 'tasks/s',
      goal: { value: 150_000, better: 'higher' },
    },
  ],
  run: awaitedByMany,
};

const AWAITED_BY_ONE: Scenario = {
  title: 'one caller awaits its enqueues',
  figures: [
    { row: 4, name: 'enqueue-one', title: 'enqueue awaited by one caller, p50', unit: 'µs' },
    {
      row: 4,
      name: 'enqueue-one-to-fdatasync',
      title: '  times the disk’s own write + fdatasync',
      unit: '×',
      goal: { value: 1.5, better: 'lower' },
    },
    { row: 4, name: 'enqueue-one-to-dsync', title: '  times its pre-zeroed O_DSYNC write', unit: '×' },
  ],
  run: awaitedByOne,
};

function paced(perSecond: number): Scenario {
  const title = `enqueue to handler start, ${grouped(perSecond)}/s`;
  const name = `start-latency-${perSecond}`;
  return {
    title,
    figures: [
      { row: 5, name: `${name}-p50`, title: `${title}, p50`, unit: 'ms', goal: { value: 0.15, better: 'lower' } },
      { row: 5, name: `${name}-p99`, title: `${title}, p99`, unit: 'ms', goal: { value: 1.5, better: 'lower' } },
    ],
    run: (settings) => startLatency(settings, perSecond),
  };
}

function queuedUp(tasks: number): Scenario {
  const queued = `${grouped(tasks)} queued`;
  const goals = BACKLOG_GOALS[tasks];
  return {
    title: `${queued}, then a crash`,
    figures: [
      {
        ...{ row: 6, name: `memory-per-task-${tasks}`, title: `server memory a task, ${queued}`, unit: 'bytes' },
        ...atMost(goals?.memoryBytes),
      },
      {
        ...{ row: 6, name: `journal-per-task-${tasks}`, title: `journal a task, ${queued}`, unit: 'bytes' },
        ...atMost(JOURNAL_BYTES),
      },
      { row: 6, name: `disk-per-task-${tasks}`, title: '  with what is allocated ahead', unit: 'bytes' },
      {
        ...{ row: 7, name: `restart-${tasks}`, title: `restart to first delivery, ${queued}`, unit: 'ms' },
        ...atMost(goals?.restartMs),
      },
    ],
    run: (settings) => backlog(settings, tasks),
  };
}

/** Two rates, and what `compare` makes of them. */
interface Comparison {
  row: number;
  name: string;
  title: string;
  /** What it is held against. */
  other: string;
  ratio: Ratio;
  goal: number;
  run: Scenario['run'];
}

function comparison({ row, name, title, other, ratio, goal, run }: Comparison): Scenario {
  return {
    title: `${title}, and ${other}`,
    figures: [
      { row, name, title, unit: 'tasks/s' },
      { row, name: `${name}-other`, title: `  ${other}`, unit: 'tasks/s' },
      {
        row,
        name: `${name}-times`,
        title: `  ${ratio}`,
        unit: '×',
        goal: { value: goal, better: ratio === 'times as many' ? 'higher' : 'lower' },
      },
    ],
    run,
  };
}

function atMost(value: number | undefined): { goal?: Goal } {
  return value === undefined ? {} : { goal: { value, better: 'lower' } };
}

const TWO_AND_ONE = comparison({
  row: 12,
  name: 'threads-cpu',
  title: '1 ms of CPU a task, 2 threads',
  other: '1 thread',
  ratio: 'times as many',
  goal: 1.9,
  run: threadsAgainstOne,
});

const CPU_IN_THREADS: Scenario = {
  ...TWO_AND_ONE,
  figures: [
    ...TWO_AND_ONE.figures,
    { row: 12, name: 'threads-cpu-bare-times', title: '  and bare threads, without a queue', unit: '×' },
  ],
};

const NOTHING_IN_THREADS = comparison({
  row: 13,
  name: 'threads-each',
  title: 'end to end, handler per task, 2 threads',
  other: 'in the event loop',
  ratio: 'times as long',
  goal: 2,
  run: threadsAgainstLoop,
});

const OVER_RABBITMQ = [
  comparison({
    row: 8,
    name: 'amqp-publish',
    title: 'publish, all confirmed',
    other: 'the amqplib loop alone',
    ratio: 'times as long',
    goal: 1.3,
    run: publishAgainstBare,
  }),
  comparison({
    row: 9,
    name: 'amqp-consume',
    title: 'consume, all acknowledged',
    other: 'the amqplib consumer alone',
    ratio: 'times as long',
    goal: 1.3,
    run: consumeAgainstBare,
  }),
  comparison({
    row: 10,
    name: 'amqp-store-publish',
    title: 'publish with a store',
    other: 'without a store',
    ratio: 'times as long',
    goal: 3,
    run: publishWithStore,
  }),
  comparison({
    row: 11,
    name: 'amqp-store-consume',
    title: 'consume with a store',
    other: 'without a store',
    ratio: 'times as long',
    goal: 3,
    run: consumeWithStore,
  }),
];

/** The claim is somebody else's, of a queue that keeps nothing either. */
const CLAIMED_MS = 0.6956;

const IN_PROCESS: Scenario = {
  title: 'in this process, in memory',
  figures: [
    {
      row: 14,
      name: 'in-process',
      title: `${grouped(HEADLINE_TASKS)} tasks in process, nothing kept, JSON parsed`,
      unit: 'ms',
      goal: { value: CLAIMED_MS, better: 'lower' },
    },
    { row: 14, name: 'in-process-best', title: '  the fastest round', unit: 'ms' },
    { row: 14, name: 'in-process-first', title: '  the first round of a process', unit: 'ms' },
    { row: 14, name: 'in-process-parse', title: '  JSON.parse alone', unit: 'ms' },
    { row: 14, name: 'in-process-cpp', title: '  C++, four threads and a mutex', unit: 'ms' },
    { row: 14, name: 'in-process-cpp-start', title: '  C++, with the start of its threads', unit: 'ms' },
  ],
  run: headline,
};

const AMONG_NOISE: Scenario = {
  title: 'a quiet client beside noisy ones',
  figures: [
    { row: 15, name: 'quiet-alone-p50', title: 'enqueue to result, 200/s, alone, p50', unit: 'ms' },
    { row: 15, name: 'quiet-alone-p99', title: '  p99', unit: 'ms' },
    ...beside('small', 'lists of 1,000 tasks', 'tasks/s'),
    ...beside('large', 'payloads of 100 KiB', 'tasks/s'),
    ...beside('lists', 'task lists asked for', 'calls/s'),
    ...beside('connections', 'connections opened', 'connections/s'),
    ...beside('slow', 'workers that do not read', 'workers'),
  ],
  run: quietAmongNoise,
};

function beside(name: string, what: string, unit: string): Figure[] {
  return [
    { row: 15, name: `quiet-${name}-p50`, title: `beside ${what}, p50`, unit: 'ms' },
    { row: 15, name: `quiet-${name}-p99`, title: '  p99', unit: 'ms' },
    { row: 15, name: `quiet-${name}-noise`, title: `  ${what}`, unit },
  ];
}

function grouped(count: number): string {
  return count.toString().replaceAll(/\B(?=(\d{3})+$)/g, ',');
}
