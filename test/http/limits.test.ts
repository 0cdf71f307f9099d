import { afterAll, beforeAll, expect, test } from 'vitest';
import { ask } from './ask.ts';
import { HttpPlace } from './place.ts';

let place: HttpPlace;

beforeAll(async () => {
  place = await HttpPlace.open();
});
afterAll(() => place.close());

test('limits of a queue are set, changed one by one, and taken away', async () => {
  const path = `${place.url}/v1/queues/limited`;
  const rate = { count: 5, periodMs: 1000 };
  expect(await ask(`${path}/limits`, 'PUT', { concurrency: 3, rate })).toMatchObject({
    status: 200,
    json: { concurrency: 3, rate: { ...rate, burst: 5 }, concurrencyPerKey: null, length: null },
  });
  const changed = await ask(`${path}/limits`, 'PUT', { concurrency: null });
  expect(changed.json).toEqual({
    concurrency: null,
    rate: { ...rate, burst: 5 },
    concurrencyPerKey: null,
    length: null,
  });
  expect((await ask(path)).json.limits).toEqual(changed.json);
  expect(await ask(`${path}/limits`, 'PUT', { konkurrency: 3 })).toMatchObject({ status: 400 });
  expect(await ask(`${path}/limits`, 'PUT', { concurrency: 0 })).toMatchObject({
    status: 400,
    json: { detail: expect.stringContaining('concurrency is 0') },
  });
});
