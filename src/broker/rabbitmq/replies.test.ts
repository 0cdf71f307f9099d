import { expect, test } from 'vitest';
import { ManualClock } from '../../../test/twins/manual-clock.ts';
import { LIMITS } from '../../limits.ts';
import { Replies } from './replies.ts';

test('ends that make room for later ones are counted, unless a store still knows them', () => {
  for (const hasStore of [false, true]) {
    const replies = new Replies(new ManualClock(), hasStore);
    for (let n = 0; n < LIMITS.amqpOutcomesKeptMax + 2; n++) replies.ended(`t${n}`, { state: 'cancelled' });
    replies.ended(`t${LIMITS.amqpOutcomesKeptMax}`, { state: 'cancelled' });
    expect(replies.forgotten).toBe(hasStore ? 0 : 2);
    expect(replies.unreadable).toBe(0);
  }
});
