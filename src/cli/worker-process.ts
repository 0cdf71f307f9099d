import type { Worker } from '../index.ts';
import type { Order, Word } from '../scaling/steering.ts';
import { describeFailure } from './failure.ts';
import { tolerateBrokenPipe } from './output.ts';
import { type Steering, type WorkerValues, work } from './worker.ts';

/** What a supervisor starts: `millrace worker` with the values that it is sent, steered by it. */
function say(word: Word): Promise<void> {
  return new Promise((resolve) => {
    // The supervisor is gone: nobody needs to know.
    if (process.send === undefined || !process.connected) resolve();
    else process.send(word, undefined, undefined, () => resolve());
  });
}

interface Ordered extends Steering {
  readonly values: Promise<WorkerValues>;
}

function listen(): Ordered {
  let start!: (values: WorkerValues) => void;
  let stop!: (reason: string) => void;
  let retire!: (reason: string) => void;
  let isWorking = false;
  const ordered: Ordered = {
    values: new Promise((resolve) => {
      start = resolve;
    }),
    stopped: new Promise((resolve) => {
      stop = resolve;
    }),
    retired: new Promise((resolve) => {
      retire = resolve;
    }),
    started: ({ queues }: Worker) => {
      isWorking = true;
      void say({ type: 'working', queues });
    },
  };
  // There is nothing yet that has to end in order, and what is waited for (handlers that load, a server) may never come.
  const endUnlessWorking = (): void => {
    if (!isWorking) process.exit(0);
  };
  process.on('message', (order: Order) => {
    if (order.type === 'start') {
      start(order.values as WorkerValues);
      return;
    }
    endUnlessWorking();
    if (order.type === 'retire') retire('not needed any more');
    else stop('the supervisor stops');
  });
  process.on('disconnect', () => {
    endUnlessWorking();
    stop('the supervisor is gone');
  });
  return ordered;
}

async function main(): Promise<number> {
  const ordered = listen();
  try {
    await work(await ordered.values, ordered);
    return 0;
  } catch (error) {
    const { line, exitCode } = describeFailure(error);
    const [code = '', ...rest] = line.split(': ');
    await say({ type: 'failed', code, message: rest.join(': ') });
    return exitCode;
  }
}

tolerateBrokenPipe();
// At once: what a module of handlers holds open must not keep it.
process.exit(await main());
