import { getHeapStatistics } from 'node:v8';

export interface ProcessUsage {
  pid: number;
  rssBytes: number;
  heapBytes: number;
}

let rssBytes = 0;

/** The system tells the resident size through a file: while none can be opened, it is the last that was known. */
export function usageOfThisProcess(): ProcessUsage {
  try {
    rssBytes = process.memoryUsage.rss();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).syscall === undefined) throw error;
  }
  return { pid: process.pid, rssBytes, heapBytes: getHeapStatistics().used_heap_size };
}
