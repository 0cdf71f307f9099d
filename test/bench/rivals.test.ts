import { describe, expect, test } from 'vitest';
import { orderOf } from '../../bench/lib/order.mjs';
import { BEGIN, END, withPart } from '../../bench/lib/page.mjs';
import { renderLosses, renderTables, type Standing } from '../../bench/lib/tables.mjs';
import { atLeastOnce, atMostThose, exactlyOnce } from '../../bench/lib/verdict.mjs';

const at = (median: number, min = median, max = median) => ({ median, min, max });

const OURS: Standing = {
  name: 'millrace',
  title: 'Millrace',
  syncs: true,
  figures: {
    'enqueue-bulk': at(900_000, 800_000, 950_000),
    drain: at(150_000),
    'latency-500-p99': at(1.234),
    half: at(200_000),
  },
};
const SYNCING: Standing = {
  name: 'careful',
  title: 'Careful',
  syncs: true,
  figures: { 'enqueue-bulk': at(60_000), drain: at(152_000), 'latency-500-p99': at(9.8) },
};
const LAX: Standing = {
  name: 'lax',
  title: 'Lax',
  syncs: false,
  figures: { 'enqueue-bulk': at(81_000), drain: at(186_000), 'latency-500-p99': at(0.5) },
};

describe('the comparison with other queues', () => {
  test('marks the best of those that sync and the best of all, also where that is not Millrace', () => {
    const [throughput, latency] = renderTables([LAX, OURS, SYNCING]);
    expect(throughput?.split('\n').slice(-3)).toEqual([
      '| Millrace | **900,000** \\* (800,000–950,000) | – | 150,000 | – |',
      '| Careful | 60,000 | – | **152,000** | – |',
      '| Lax ¹ | 81,000 | – | 186,000 \\* | – |',
    ]);
    expect(latency).toContain('| Millrace | – | – | **1.23** | 200,000 | – | – |');
    expect(latency).toContain('| Lax ¹ | – | – | 0.50 \\* | – | – | – |');
  });

  test('names each figure in which another is better, the best of them first', () => {
    expect(renderLosses([OURS, SYNCING, LAX])).toEqual([
      '- drain: Millrace 150,000 tasks/s; Lax ¹ 186,000, Careful 152,000',
      '- to the handler at 500/s, p99: Millrace 1.23 ms; Lax ¹ 0.50',
    ]);
  });

  test('finds tasks that were lost, repeated, or that nobody enqueued', () => {
    const whole = { seen: 10, duplicated: 0, foreign: 0, last: 9 };
    expect(exactlyOnce(10, whole)).toBeUndefined();
    expect(exactlyOnce(10, { ...whole, seen: 8 })).toBe('2 of 10 tasks were lost');
    expect(exactlyOnce(10, { ...whole, duplicated: 3 })).toBe('3 times a task was processed again');
    expect(exactlyOnce(10, { ...whole, last: 10 })).toContain('nobody enqueued');
    expect(exactlyOnce(10, { ...whole, foreign: 1 })).toContain('nobody enqueued');
    expect(atLeastOnce(10, { ...whole, duplicated: 3 })).toBeUndefined();
    expect(atLeastOnce(10, { ...whole, seen: 9, duplicated: 3 })).toBe('1 of 10 tasks were lost');
    expect(atMostThose(10, { ...whole, seen: 4 })).toBeUndefined();
    expect(atMostThose(10, { ...whole, seen: 4, last: 12 })).toContain('nobody enqueued');
  });

  test('begins each run at another system, and goes every second one backwards', () => {
    const systems = ['a', 'b', 'c', 'd', 'e', 'f'];
    const runs = [0, 1, 2].map((run) => orderOf(systems, run, 3).join(''));
    expect(runs).toEqual(['abcdef', 'bafedc', 'efabcd']);
    expect(new Set(runs.map((run) => run[0])).size).toBe(3);
  });

  test('writes between the marks of the page and leaves the rest', () => {
    const first = withPart('# Benchmarks\n', 'one');
    expect(first).toBe(`# Benchmarks\n\n${BEGIN}\n\none\n\n${END}\n`);
    expect(withPart(`${first}\n## After\n`, 'two')).toBe(`# Benchmarks\n\n${BEGIN}\n\ntwo\n\n${END}\n\n## After\n`);
    expect(() => withPart(`# Benchmarks\n${BEGIN}\n`, 'two')).toThrow(END);
  });
});
