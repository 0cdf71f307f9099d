import { expect, test } from 'vitest';
import { EngineBench, KEEP_ALL, SPEC, turns } from '../../test/model/engine-bench.ts';
import { memoryDirectory } from '../../test/twins/memory-disk.ts';
import { NONE } from '../core/task-table.ts';
import { inspectTask, listTasks } from './inspect.ts';

const DETAILS = { worker: () => undefined, workerIndex: () => undefined, progress: () => undefined };
const PAGE_BYTES = 16 * 1024;

function openSmall(retention = KEEP_ALL): Promise<EngineBench> {
  return EngineBench.open({ cacheBytes: PAGE_BYTES, retention });
}

/** Enough to drive everything before it out of the memory. */
async function fill(bench: EngineBench): Promise<void> {
  for (let i = 0; i < 8; i++) bench.enqueue(['x'.repeat(8000)], { ...SPEC, queue: 'filler' });
  await bench.flush();
}

function place(bench: EngineBench, id: number): { segment: number; offset: number } {
  const { core } = bench.engine;
  const slot = core.index.get(id);
  expect(slot).not.toBe(NONE);
  return { segment: core.table.segment(slot), offset: core.table.offset(slot) };
}

/** Changes a byte of the record in which the task lies; returns what puts it right again. */
function damage(bench: EngineBench, id: number): () => void {
  const { segment, offset } = place(bench, id);
  const path = `${memoryDirectory()}/${String(segment).padStart(10, '0')}.segment`;
  const flip = (): void => {
    const bytes = bench.disk.bytes(path);
    bytes[offset + 4] ^= 1;
  };
  flip();
  return flip;
}

test('a result that is damaged is refused to those who ask for it, and nobody else notices', async () => {
  const bench = await openSmall();
  const [id, other] = bench.enqueue(['a', 'b']);
  const worker = await bench.addWorker();
  bench.complete(worker, [{ delivery: worker.take(id), result: 'done' }]);
  await fill(bench);
  bench.complete(worker, [{ delivery: worker.take(other), result: 'well' }]);
  await fill(bench);
  const repair = damage(bench, id);
  for (let i = 0; i < 2; i++) {
    expect(await bench.outcome(id)).toMatchObject({ state: 'unreadable', error: { code: 'JOURNAL_DAMAGED' } });
  }
  await expect(inspectTask(bench.engine, id, DETAILS)).rejects.toMatchObject({ code: 'JOURNAL_DAMAGED' });
  expect(bench.notices).toEqual([expect.stringMatching(/^0000000001\.segment is damaged at offset \d+/)]);
  expect(await bench.outcome(other)).toEqual({ state: 'completed', result: Buffer.from('well') });
  expect(bench.failures).toEqual([]);
  repair();
  expect(await bench.outcome(id)).toEqual({ state: 'completed', result: Buffer.from('done') });
  await bench.engine.close();
});

test('a result that cannot be read now can be asked for again', async () => {
  const bench = await openSmall();
  const [id] = bench.enqueue(['a']);
  const worker = await bench.addWorker();
  bench.complete(worker, [{ delivery: worker.take(id), result: 'done' }]);
  await fill(bench);
  bench.disk.fail('read', 'EIO');
  expect(await bench.outcome(id)).toMatchObject({ state: 'unreadable', error: { code: 'STORAGE_FAILED' } });
  expect(await bench.outcome(id)).toEqual({ state: 'completed', result: Buffer.from('done') });
  expect(bench.failures).toEqual([]);
  await bench.engine.close();
});

test('an error that is damaged is listed as that', async () => {
  const bench = await openSmall();
  const [id] = bench.enqueue(['a'], { ...SPEC, maxAttempts: 1 });
  const worker = await bench.addWorker();
  bench.fail(worker, [worker.take(id)]);
  await fill(bench);
  damage(bench, id);
  const { tasks } = await listTasks(bench.engine, { queue: 'q' }, DETAILS);
  expect(tasks).toMatchObject([{ state: 'dead', failures: [{ attempt: 1, error: { code: 'JOURNAL_DAMAGED' } }] }]);
  await bench.engine.close();
});

test('ready tasks in a damaged page end dead, those behind it are delivered, and all can be redriven', async () => {
  const bench = await openSmall();
  const lost = bench.enqueue(['a', 'b', 'c']);
  const outcome = bench.outcome(lost[0]);
  await fill(bench);
  const kept = bench.enqueue(['d', 'e']);
  await fill(bench);
  const repair = damage(bench, lost[1]);
  const worker = await bench.addWorker(['q']);
  expect(await outcome).toMatchObject({ state: 'dead', error: expect.any(Buffer) });
  await turns(20);
  expect(worker.held.map(({ id }) => id)).toEqual(kept);
  expect(lost.map((id) => bench.state(id))).toEqual(['dead', 'dead', 'dead']);
  expect(await bench.errors(lost[2])).toEqual([expect.stringContaining('is damaged at offset')]);
  expect(bench.notices).toEqual([
    expect.stringContaining('is damaged at offset'),
    '3 ready tasks of queue q lie there and end dead: redrive them after the repair',
  ]);
  expect(bench.failures).toEqual([]);
  repair();
  await bench.flush();
  await bench.crash();
  expect(lost.map((id) => bench.state(id))).toEqual(['dead', 'dead', 'dead']);
  await bench.engine.commands.redriveQueue('q');
  const again = await bench.addWorker(['q']);
  await turns(20);
  expect(again.held.map(({ payload }) => payload).sort()).toEqual(['a', 'b', 'c', 'd', 'e']);
  await bench.engine.close();
});

test('ready tasks that cannot be read now are asked for again, and nothing is charged', async () => {
  const bench = await openSmall();
  bench.enqueue(['a']);
  await fill(bench);
  bench.disk.fail('read', 'EIO', { times: 1 });
  const worker = await bench.addWorker(['q']);
  await turns(20);
  expect(worker.held).toEqual([]);
  expect(bench.notices).toEqual([expect.stringContaining('cannot be read')]);
  bench.clock.advance(1000);
  await turns(20);
  expect(worker.held).toMatchObject([{ payload: 'a', attempt: 1 }]);
  expect(bench.failures).toEqual([]);
  await bench.engine.close();
});

test('a damaged segment is not cleaned, and the engine goes on', async () => {
  const bench = await openSmall({ ...KEEP_ALL, completedCountMax: 0 });
  const [id] = bench.enqueue(['a'], { ...SPEC, queue: 'kept' });
  const worker = await bench.addWorker(['filler'], 100);
  await fill(bench);
  damage(bench, id);
  for (let i = 0; i < 10; i++) {
    bench.complete(
      worker,
      worker.held.map((delivery) => ({ delivery })),
    );
    await fill(bench);
    await turns(20);
    bench.clock.advance(1000);
  }
  expect(bench.notices).toEqual([expect.stringContaining('is damaged at offset')]);
  expect(bench.failures).toEqual([]);
  expect(bench.segmentNames()[0]).toBe('0000000001.segment');
  await bench.engine.close();
});
