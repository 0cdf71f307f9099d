import { appendFileSync } from 'node:fs';
import type { TaskContext } from '../index.ts';
import {
  type AttemptOutcome,
  DEMO_SETTINGS,
  DEMO_TASK,
  type DemoSettings,
  ledgerLine,
  taskKey,
} from './demo-ledger.ts';
import { simulatedWork } from './simulated-work.ts';

/** The `--handlers` file of the demo's workers: the built-in handler's work, with a line in the ledger for each attempt. */
const settings = JSON.parse(process.env[DEMO_SETTINGS] ?? '{}') as DemoSettings;
const work = simulatedWork(settings);

const FLUSH_MS = 50;
let unwritten = '';
let timer: NodeJS.Timeout | undefined;

async function handle(input: unknown, context: TaskContext): Promise<void> {
  try {
    await work(input, context);
  } catch (error) {
    // An attempt that was told to end goes on elsewhere, or does not count.
    if (!context.signal.aborted) note(input, context, context.attempt >= context.maxAttempts ? 'dead' : 'failed');
    throw error;
  }
  note(input, context, 'done');
}

function note(input: unknown, { attempt }: TaskContext, outcome: AttemptOutcome): void {
  const { client, task } = input as { client: number; task: number };
  unwritten += ledgerLine(taskKey(client, task), attempt, outcome);
  timer ??= setTimeout(flush, FLUSH_MS);
}

function flush(): void {
  clearTimeout(timer);
  timer = undefined;
  if (unwritten !== '') appendFileSync(settings.ledger, unwritten);
  unwritten = '';
}

process.on('exit', flush);

export default { [DEMO_TASK]: handle };
