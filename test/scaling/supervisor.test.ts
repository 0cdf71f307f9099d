import { expect, test } from 'vitest';
import type { Status } from '../../src/broker/contract.ts';
import { LIMITS } from '../../src/limits.ts';
import { DEFAULT_POLICY } from '../../src/scaling/decision.ts';
import { Supervisor } from '../../src/scaling/supervisor.ts';
import type { Ending, WorkerProcess } from '../../src/scaling/worker-process.ts';
import { Deferred } from '../conformance/events.ts';
import { settle } from '../support/scripted-server.ts';
import { ManualClock } from '../twins/manual-clock.ts';

const CONNECT_MS = 10_000;
const START_MS = CONNECT_MS + LIMITS.workerStartMs;

/** A process that does what the test says. */
class ScriptedProcess {
  readonly gotToWork = new Deferred<readonly string[]>();
  readonly ending = new Deferred<Ending>();
  readonly working = this.gotToWork.promise;
  readonly ended = this.ending.promise;
  readonly pid = 7;
  readonly name: string;

  constructor(name: string) {
    this.name = name;
  }

  kill(failure?: Ending['failure']): void {
    this.ending.resolve({ isInOrder: false, how: 'SIGKILL', failure });
  }

  stop(): void {
    this.ending.resolve({ isInOrder: true, how: 'exit code 0', failure: undefined });
  }
}

function supervise(min: number): {
  clock: ManualClock;
  started: ScriptedProcess[];
  stop: Deferred<string>;
  over: Promise<unknown>;
} {
  const clock = new ManualClock();
  const started: ScriptedProcess[] = [];
  const stop = new Deferred<string>();
  const supervisor = new Supervisor(
    {
      ...{ policy: { ...DEFAULT_POLICY, min, max: min }, intervalMs: 86_400_000, startTimeoutMs: START_MS },
      ...{ stopTimeoutMs: 1000, name: 'w', id: 'id', host: 'here', pid: 1 },
    },
    {
      clock,
      start: (name) => {
        const process = new ScriptedProcess(name);
        started.push(process);
        return process as unknown as WorkerProcess;
      },
      status: async () => ({}) as Status,
      report: async () => {},
      logger: { info: () => {}, warn: () => {} },
    },
  );
  return { clock, started, stop, over: supervisor.run(stop.promise).catch((error: unknown) => error) };
}

test('a process that does not get to work in its time is killed and replaced', async () => {
  const { clock, started, stop, over } = supervise(2);
  started[0]?.gotToWork.resolve(['q']);
  await settle();
  clock.advance(START_MS - 1);
  await settle();
  expect(started).toHaveLength(2);
  clock.advance(1);
  await settle();
  clock.advance(500);
  expect(started.map(({ name }) => name)).toEqual(['w/1', 'w/2', 'w/2']);
  started[2]?.gotToWork.resolve(['q']);
  await settle();
  clock.advance(START_MS);
  await settle();
  expect(started).toHaveLength(3);
  stop.resolve('SIGTERM');
  expect(await over).toBeUndefined();
});

test('when none gets to work in its time, that is what the supervisor fails with', async () => {
  const { clock, over } = supervise(1);
  await settle();
  clock.advance(START_MS);
  expect(await over).toMatchObject({
    name: 'WorkersFailed',
    ending: { failure: { code: 'TIMEOUT', message: expect.stringContaining(`within ${START_MS / 1000} s`) } },
  });
});
