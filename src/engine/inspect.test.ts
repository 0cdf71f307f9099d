import { describe, expect, it } from 'vitest';
import { EngineBench, KEEP_ALL, SPEC, turns } from '../../test/model/engine-bench.ts';
import { body } from '../../test/support/frame-body.ts';
import type { CoreWorker } from '../core/worker.ts';
import { formatTaskId } from '../ids.ts';
import { FRAME } from '../protocol/frames.ts';
import { writeFailure } from '../protocol/settlement-writer.ts';
import type { TaskFilter } from '../protocol/task-filter.ts';
import { inspectTask, listTasks } from './inspect.ts';

const DETAILS = {
  worker: (index: number) => ({ id: `w${index}`, name: `worker ${index}` }),
  workerIndex: (id: string) => Number(id.slice(1)),
  progress: () => ({ value: 40 }),
};

async function pages(bench: EngineBench, filter: TaskFilter): Promise<string[][]> {
  const found: string[][] = [];
  let after: string | undefined;
  do {
    const page = await listTasks(bench.engine, { ...filter, after }, DETAILS);
    found.push(page.tasks.map(({ id }) => id));
    after = page.next;
  } while (after !== undefined);
  return found;
}

/** Pushes everything so far out of the memory. */
async function fill(bench: EngineBench): Promise<void> {
  for (let i = 0; i < 20; i++) bench.enqueue(['x'.repeat(8000)], { ...SPEC, queue: 'filler' });
  await bench.flush();
}

describe('a task that is looked at', () => {
  it('shows what it was given, how it ended and how it failed before', async () => {
    const bench = await EngineBench.open();
    const [id] = bench.enqueue(['{"a":1}']);
    const worker = await bench.addWorker();
    bench.clock.advance(5);
    bench.fail(worker, [worker.take(id)], { final: false, retryDelayMs: 0 });
    await turns();
    bench.clock.advance(5);
    bench.complete(worker, [{ delivery: worker.take(id), result: Buffer.from([0xff, 0x00]) }]);
    const startMs = bench.clock.steadyMs() - 10;
    expect(await inspectTask(bench.engine, id, DETAILS)).toEqual({
      id: formatTaskId(id),
      queue: 'q',
      name: 'n',
      state: 'completed',
      priority: 4,
      attempt: 2,
      maxAttempts: 3,
      timeoutMs: 60_000,
      enqueuedAtMs: startMs,
      finishedAtMs: startMs + 10,
      payloadBytes: 7,
      payload: { encoding: 'utf8', data: '{"a":1}' },
      result: { encoding: 'base64', data: '/wA=' },
      failures: [
        {
          attempt: 1,
          atMs: startMs + 5,
          error: { name: 'Error', message: `error of ${id} in attempt 1`, code: 'HANDLER_FAILED' },
        },
      ],
    });
    await bench.engine.close();
  });

  it('shows who runs it, how far it is and that it should stop', async () => {
    const bench = await EngineBench.open();
    const [id] = bench.enqueue(['a']);
    await bench.addWorker();
    bench.engine.commands.cancel(id);
    expect(await inspectTask(bench.engine, id, DETAILS)).toMatchObject({
      state: 'active',
      attempt: 1,
      worker: 'worker 0',
      progress: { value: 40 },
      cancelRequested: true,
    });
    await bench.engine.close();
  });

  it('shows when it will run', async () => {
    const bench = await EngineBench.open();
    const [id] = bench.enqueue(['a'], SPEC, { kind: 'delay', ms: 700 });
    const task = await inspectTask(bench.engine, id, DETAILS);
    expect(task).toMatchObject({ state: 'scheduled', attempt: 0, runAtMs: bench.clock.steadyMs() + 700 });
    await bench.engine.close();
  });

  it('shows an error that is no JSON as text', async () => {
    const bench = await EngineBench.open();
    const [id] = bench.enqueue(['a']);
    const worker = await bench.addWorker();
    const { token } = worker.take(id);
    const bytes = body(FRAME.FAIL, (writer) =>
      writeFailure(writer, id, token, 'Traceback …', { final: false, retryDelayMs: undefined }),
    );
    bench.engine.settlements.fail(worker.worker as CoreWorker, bytes, 0, bytes.length, []);
    const { failures } = await inspectTask(bench.engine, id, DETAILS);
    expect(failures.map(({ error }) => error)).toEqual([
      { name: 'Error', message: 'Traceback …', code: 'HANDLER_FAILED' },
    ]);
    await bench.engine.close();
  });

  it('that is forgotten while its bytes are read, or was never there, is not found', async () => {
    const bench = await EngineBench.open({ cacheBytes: 16 * 1024 });
    const [id] = bench.enqueue(['a']);
    await fill(bench);
    bench.disk.hold('read');
    const looked = inspectTask(bench.engine, id, DETAILS);
    await bench.disk.held('read');
    await bench.engine.commands.purgeQueue('q');
    bench.disk.release();
    await expect(looked).rejects.toMatchObject({ code: 'NOT_FOUND' });
    await expect(inspectTask(bench.engine, 5, DETAILS)).rejects.toMatchObject({ code: 'NOT_FOUND' });
    await bench.engine.close();
  });

  it('shows what is left of its failures when a charge is taken back meanwhile', async () => {
    const bench = await EngineBench.open({ cacheBytes: 16 * 1024 });
    const [id] = bench.enqueue(['a']);
    await fill(bench);
    const lost = await bench.addWorker();
    bench.begin(lost);
    bench.removeWorker(lost, true);
    await fill(bench);
    bench.disk.hold('read');
    const looked = inspectTask(bench.engine, id, DETAILS);
    await bench.disk.held('read');
    // The payload comes; the error does not yet.
    bench.disk.release();
    bench.disk.hold('read');
    await bench.disk.held('read');
    bench.engine.core.uncharge(bench.engine.core.index.get(id));
    bench.disk.release();
    expect((await looked).failures).toEqual([]);
    await bench.engine.close();
  });
});

describe('a list of tasks', () => {
  it('comes in pages, in the order of ids, filtered', async () => {
    const bench = await EngineBench.open();
    const ids = bench.enqueue(Array.from({ length: 7 }, (_, i) => `p${i}`)).map(formatTaskId);
    const others = bench.enqueue(['x'], { ...SPEC, queue: 'other', name: 'm' }).map(formatTaskId);
    const worker = await bench.addWorker(['q'], 2);
    bench.complete(worker, [{ delivery: worker.held[0] }]);
    await turns();
    expect(await pages(bench, { limit: 3 })).toEqual([ids.slice(0, 3), ids.slice(3, 6), [ids[6], ...others]]);
    expect((await pages(bench, { queue: 'other' })).flat()).toEqual(others);
    expect((await pages(bench, { name: 'm', queue: 'q' })).flat()).toEqual([]);
    expect((await pages(bench, { state: 'active', limit: 1 })).flat()).toEqual(ids.slice(1, 3));
    expect((await pages(bench, { state: 'completed' })).flat()).toEqual([ids[0]]);
    await bench.engine.close();
  });

  it('shows the newest failure of each', async () => {
    const bench = await EngineBench.open();
    const [id] = bench.enqueue(['abc']);
    const worker = await bench.addWorker();
    for (let attempt = 1; attempt <= 2; attempt++) {
      bench.fail(worker, [worker.take(id)], { final: false, retryDelayMs: 0 });
      await turns();
    }
    const { tasks } = await listTasks(bench.engine, {}, DETAILS);
    expect(tasks.map(({ payloadBytes, failures }) => [payloadBytes, failures.map(({ attempt }) => attempt)])).toEqual([
      [3, [2]],
    ]);
    await bench.engine.close();
  });

  it('goes on without a task that is forgotten meanwhile', async () => {
    const bench = await EngineBench.open({ cacheBytes: 16 * 1024, retention: { ...KEEP_ALL, deadCountMax: 2 } });
    const ids = bench.enqueue(['a', 'b'], { ...SPEC, maxAttempts: 1 });
    const worker = await bench.addWorker();
    for (const id of ids) bench.fail(worker, [worker.take(id)]);
    await fill(bench);
    bench.disk.hold('read');
    const listed = listTasks(bench.engine, { queue: 'q' }, DETAILS);
    await bench.disk.held('read');
    bench.engine.commands.setRetention('q', { deadCountMax: 1 });
    bench.disk.release();
    expect((await listed).tasks.map(({ id }) => id)).toEqual([formatTaskId(ids[1])]);
    await bench.engine.close();
  });
});
