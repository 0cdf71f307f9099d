import { readdirSync, readFileSync } from 'node:fs';
import { type IntervalHistogram, monitorEventLoopDelay } from 'node:perf_hooks';
import { getHeapStatistics } from 'node:v8';
import { type MetricFamily, single } from './metric-family.ts';

const NS_PER_SECOND = 1e9;
const RESOLUTION_MS = 20;

/**
 * Of the process that serves them, under the names that all Prometheus clients use. Our own few in place of prom-client's
 * many: those watch every garbage collection, and never stop.
 */
export class ProcessMetrics {
  #delays: IntervalHistogram | undefined;
  /** Shown again when no timer has run since. */
  #lags: readonly MetricFamily[] = [];

  /** The delays of the event loop are watched from the first scrape on, and are those since the last. */
  scrape(): MetricFamily[] {
    const { user, system } = process.cpuUsage();
    const heap = getHeapStatistics();
    const startSeconds = performance.timeOrigin / 1000;
    return [
      single('counter', 'process_cpu_seconds_total', 'User and system CPU time spent.', (user + system) / 1e6),
      single('gauge', 'process_start_time_seconds', 'Start of the process, in seconds since 1970.', startSeconds),
      single('gauge', 'nodejs_heap_size_used_bytes', 'Used part of the JavaScript heap.', heap.used_heap_size),
      single('gauge', 'nodejs_heap_size_total_bytes', 'Size of the JavaScript heap.', heap.total_heap_size),
      single('gauge', 'nodejs_external_memory_bytes', 'Memory outside the heap that it holds.', heap.external_memory),
      ...asFarAsTold(residentMemory),
      ...asFarAsTold(openFiles),
      ...this.#eventLoop(),
    ];
  }

  stop(): void {
    this.#delays?.disable();
  }

  #eventLoop(): readonly MetricFamily[] {
    const delays = this.#delays;
    if (delays === undefined) {
      this.#delays = monitorEventLoopDelay({ resolution: RESOLUTION_MS });
      this.#delays.enable();
    } else if (delays.count > 0) {
      const lag = (name: string, help: string, delayNs: number): MetricFamily =>
        single('gauge', `nodejs_eventloop_lag_${name}_seconds`, `${help} since the last scrape.`, lagSeconds(delayNs));
      this.#lags = [
        lag('p50', 'Median of how much later than due a timer ran,', delays.percentile(50)),
        lag('p99', '99th percentile of how much later than due a timer ran,', delays.percentile(99)),
        lag('max', 'How much later than due a timer ran at most,', delays.max),
      ];
      delays.reset();
    }
    return this.#lags;
  }
}

/** What was measured is from one timer to the next. */
function lagSeconds(delayNs: number): number {
  return Math.max(0, delayNs / NS_PER_SECOND - RESOLUTION_MS / 1000);
}

function residentMemory(): MetricFamily[] {
  return [single('gauge', 'process_resident_memory_bytes', 'Resident memory.', process.memoryUsage.rss())];
}

function openFiles(): MetricFamily[] {
  const open = readdirSync('/proc/self/fd').length;
  const max = /^Max open files\s+(\d+)/m.exec(readFileSync('/proc/self/limits', 'utf8'))?.[1];
  return [
    single('gauge', 'process_open_fds', 'Open files and sockets.', open),
    ...(max === undefined ? [] : [single('gauge', 'process_max_fds', 'Open files that there may be.', Number(max))]),
  ];
}

/** The system tells some things through files: not every one has them, and while none can be opened they are not known. */
function asFarAsTold(read: () => MetricFamily[]): MetricFamily[] {
  try {
    return read();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).syscall === undefined) throw error;
    return [];
  }
}
