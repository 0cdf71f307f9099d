import { expect, test } from 'vitest';
import { bulkFilterOf, filterOf, pageQueryOf } from './task-filter.ts';

test('what the address says is what the server is asked', () => {
  expect(filterOf({ queue: 'mail', state: 'dead', from: '1000', order: 'oldest', after: '1-5', name: '' })).toEqual({
    queue: 'mail',
    state: 'dead',
    fromMs: 1000,
  });
});

test('a change of everything says so: the server refuses a filter that names nothing', () => {
  expect(bulkFilterOf({})).toEqual({ fromMs: 0 });
  expect(bulkFilterOf({ queue: 'mail' })).toEqual({ queue: 'mail' });
});

test('newer tasks than those of a page are asked for from its first one on, the other way round', () => {
  expect(pageQueryOf({ before: '1-9' }, true)).toMatchObject({ order: 'oldest', after: '1-9' });
  expect(pageQueryOf({ before: '1-9', order: 'oldest' }, true)).toMatchObject({ order: 'newest', after: '1-9' });
  expect(pageQueryOf({ after: '1-9' }, true)).toMatchObject({ order: 'newest', after: '1-9' });
});

test('a backend that cannot search is not asked for an order', () => {
  expect(pageQueryOf({}, false)).not.toHaveProperty('order');
});
