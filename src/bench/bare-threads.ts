import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import { inTurn, ratioOf } from './comparison.ts';

export interface BareThreadData {
  readonly rounds: number;
  readonly tasks: number;
}

/** How many times as much `threads` threads do as one, of work that has to do with nothing else: what a queue can reach at best. */
export async function bareThreadsAgainstOne(run: number, threads: number, data: BareThreadData): Promise<number> {
  const [many, one] = await inTurn(
    run,
    () => rate(threads, data),
    () => rate(1, data),
  );
  return ratioOf('times as many', many, one);
}

async function rate(threads: number, workerData: BareThreadData): Promise<number> {
  const workers = Array.from({ length: threads }, () => {
    return new Worker(new URL('./bare-thread.js', import.meta.url), { workerData });
  });
  try {
    await Promise.all(workers.map((worker) => once(worker, 'message')));
    const done = workers.map((worker) => once(worker, 'message'));
    const startMs = performance.now();
    for (const worker of workers) worker.postMessage('go');
    await Promise.all(done);
    return (threads * workerData.tasks) / (performance.now() - startMs);
  } finally {
    await Promise.all(workers.map((worker) => worker.terminate()));
  }
}
