import { expect, it } from 'vitest';
import { EngineBench, SPEC, turns } from '../../test/model/engine-bench.ts';
import { formatTaskId } from '../ids.ts';
import type { EventFilter, EventSink } from './events.ts';

interface Told {
  type: string;
  id: string;
  attempt?: number;
  count?: number;
  sequence: number;
}

function watch(bench: EngineBench, filter: EventFilter = {}): { told: Told[]; end: () => void } {
  const told: Told[] = [];
  const sink: EventSink = { push: (text, sequence) => told.push({ ...JSON.parse(text), sequence }) };
  bench.engine.events.add(filter, sink);
  return { told, end: () => bench.engine.events.remove(filter, sink) };
}

function typesOf(told: readonly Told[]): string[] {
  return told.map(({ type, attempt }) => (attempt === undefined ? type : `${type} ${attempt}`));
}

it('tells of a lost worker’s tasks what was begun as failed, and of the others nothing', async () => {
  const bench = await EngineBench.open({ directory: null });
  const { told } = watch(bench);
  bench.enqueue(['a', 'b']);
  const worker = await bench.addWorker(['q'], 2);
  bench.begin(worker, 1);
  bench.removeWorker(worker, true);
  expect(typesOf(told)).toEqual(['enqueued', 'started 1', 'failed 1']);
  await bench.engine.close();
});

it('tells of a start at the latest before the end, and of a handed back task only when it had started', async () => {
  const bench = await EngineBench.open({ directory: null });
  const [first, second, third] = bench.enqueue(['a', 'b', 'c']);
  const { told } = watch(bench);
  const worker = await bench.addWorker(['q'], 3);
  bench.complete(worker, [{ delivery: worker.take(first as number) }]);
  bench.begin(worker, 1);
  bench.release(worker, [worker.take(second as number), worker.take(third as number)]);
  const of = (id: number | undefined): string[] =>
    typesOf(told.filter((each) => each.id === formatTaskId(id as number)));
  expect(of(first)).toEqual(['started 1', 'completed 1']);
  expect(of(second)).toEqual(['started 1', 'released 1']);
  expect(of(third)).toEqual([]);
  await bench.engine.close();
});

it('says under which record of the journal each is durable', async () => {
  const bench = await EngineBench.open();
  const { told } = watch(bench);
  const { journal } = bench.engine;
  bench.enqueue(['a', 'b', 'c']);
  expect(told).toMatchObject([{ type: 'enqueued', count: 3, sequence: journal.appendedSequence }]);
  expect(journal.durableSequence).toBeLessThan(journal.appendedSequence);
  await bench.engine.commands.purgeQueue('q');
  expect(told.slice(1)).toMatchObject(new Array(3).fill({ type: 'cancelled', sequence: journal.appendedSequence }));
  await bench.engine.close();
});

it('leaves the core without a watcher when the last one has ended', async () => {
  const bench = await EngineBench.open({ directory: null });
  const { core, events } = bench.engine;
  const other = watch(bench, { queue: 'other' });
  const all = watch(bench);
  bench.enqueue(['a'], { ...SPEC, queue: 'other' });
  bench.enqueue(['a']);
  await turns();
  expect([other.told.length, all.told.length]).toEqual([1, 2]);
  all.end();
  expect(events.isWatched).toBe(true);
  other.end();
  expect([events.isWatched, core.watcher]).toEqual([false, undefined]);
  await bench.engine.close();
});
