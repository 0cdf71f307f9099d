import { parentPort, workerData } from 'node:worker_threads';
import type { BareThreadData } from './bare-threads.ts';
import { burn } from './burn.ts';

const { rounds, tasks } = workerData as BareThreadData;
burn(rounds);
parentPort?.once('message', () => {
  for (let task = 0; task < tasks; task++) burn(rounds);
  parentPort?.postMessage('done');
});
parentPort?.postMessage('ready');
