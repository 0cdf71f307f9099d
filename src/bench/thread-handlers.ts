import { defineTask } from '../index.ts';
import { burn } from './burn.ts';
import { type BenchPayload, indexOf } from './payload.ts';
import { SharedLedger, threadScene } from './shared-ledger.ts';
import { TASK_NAME } from './workload.ts';

/** What the worker's threads load. */
const { ledger, rounds } = threadScene();
const shared = new SharedLedger(ledger.expected, ledger.from, ledger.buffer);

export const each = defineTask<BenchPayload>(TASK_NAME).handle(async (input) => {
  burn(rounds);
  shared.mark(indexOf(input));
  return { sent: input.number };
});
