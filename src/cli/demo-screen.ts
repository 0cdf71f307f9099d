import type { DemoValues } from './demo.ts';
import type { WorkerView } from './demo-view.ts';
import type { DemoWatch } from './demo-watch.ts';
import { printNote } from './output.ts';
import { cut } from './table.ts';
import { formatBar, formatCount, formatDuration, formatRate, formatShare } from './units.ts';

/** What is seen while the demo runs: one picture that changes on a terminal, else a line now and then. */
export interface DemoScreen {
  note(text: string): void;
  show(watch: DemoWatch, total: number): void;
  /** Shows no more; may be called again. */
  close(): void;
}

const LINE_EVERY_MS = 1000;
const BAR_WIDTH = 40;
const HIDE_CURSOR = '\u001b[?25l';
const SHOW_CURSOR = '\u001b[?25h';
const ERASE_BELOW = '\u001b[J';

/** `--json` leaves standard output to the result, and standard error to what went wrong. */
export function openDemoScreen({ json }: DemoValues): DemoScreen {
  if (json) return { note: printNote, show: () => {}, close: () => {} };
  return process.stdout.isTTY ? new Picture() : new Lines();
}

class Lines implements DemoScreen {
  #lastMs = Number.NEGATIVE_INFINITY;

  note(text: string): void {
    process.stdout.write(`${text}\n`);
  }

  show({ samples }: DemoWatch, total: number): void {
    const now = samples.at(-1);
    if (now === undefined || now.atMs - this.#lastMs < LINE_EVERY_MS) return;
    this.#lastMs = now.atMs;
    const counts = [
      `in ${formatCount(now.enqueued)}`,
      `done ${formatCount(now.completed)} of ${formatCount(total)}`,
      `queued ${formatCount(now.queued)}`,
      `failed attempts ${formatCount(now.failed)}`,
      `dead ${formatCount(now.dead)}`,
    ];
    this.note(`${(now.atMs / 1000).toFixed(1).padStart(5)} s  ${counts.join(', ')}`);
  }

  close(): void {}
}

class Picture implements DemoScreen {
  #height = 0;
  #isOpen = true;

  constructor() {
    process.stdout.write(HIDE_CURSOR);
  }

  note(text: string): void {
    this.#erase();
    process.stdout.write(`${text}\n`);
  }

  show(watch: DemoWatch, total: number): void {
    if (!this.#isOpen) return;
    const { columns } = process.stdout;
    const lines = picture(watch, total).map((line) => cut(line, columns - 1));
    this.#erase();
    process.stdout.write(`${lines.join('\n')}\n`);
    this.#height = lines.length;
  }

  close(): void {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    this.#erase();
    process.stdout.write(SHOW_CURSOR);
  }

  #erase(): void {
    if (this.#height > 0) process.stdout.write(`\u001b[${this.#height}A\r${ERASE_BELOW}`);
    this.#height = 0;
  }
}

/** Over how long the rates are taken. */
const RATE_MS = 1000;

function picture({ samples, status, workers }: DemoWatch, total: number): string[] {
  const now = samples.at(-1);
  if (now === undefined) return [];
  const before = samples.findLast(({ atMs }) => atMs <= now.atMs - RATE_MS) ?? samples[0] ?? now;
  const seconds = Math.max(0.001, (now.atMs - before.atMs) / 1000);
  const bar = (label: string, of: 'enqueued' | 'completed'): string => {
    const count = `${formatCount(now[of])} of ${formatCount(total)}`;
    const rate = formatRate((now[of] - before[of]) / seconds);
    return `  ${label}  ${formatBar(now[of] / total, BAR_WIDTH)}  ${count.padStart(20)}  ${rate.padStart(10)}`;
  };
  const head = [`  ${(now.atMs / 1000).toFixed(1)} s`, bar('in      ', 'enqueued'), bar('done    ', 'completed')];
  if (status === undefined) {
    return [
      ...head,
      `  queue     ${formatCount(now.queued)} not done, ${formatCount(now.failed)} failed attempts, ${formatCount(now.dead)} dead`,
      `  workers   ${workers.map(({ name, completed }) => `${name} ${formatCount(completed)}`).join('   ')}`,
    ];
  }
  const { start, total: whole } = status.latencyMs;
  return [
    ...head,
    `  queue     ${formatCount(now.ready)} ready, ${formatCount(now.active)} with workers, ` +
      `${formatCount(now.scheduled)} waiting for another attempt, ${formatCount(now.dead)} dead`,
    `  latency   start p50 ${formatDuration(start.p50)}, p99 ${formatDuration(start.p99)}; ` +
      `done p50 ${formatDuration(whole.p50)}, p99 ${formatDuration(whole.p99)}`,
    `  workers   ${workers.map(describeWorker).join('   ')}`,
  ];
}

function describeWorker({ name, running = 0, concurrency }: WorkerView): string {
  const share = running / concurrency;
  return `${name} ${formatBar(share, 10)} ${formatShare(share).padStart(5)}`;
}
