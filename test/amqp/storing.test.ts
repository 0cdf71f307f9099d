import sql, { type Sql } from 'postgres';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { Client } from '../../src/index.ts';
import { LIMITS } from '../../src/limits.ts';
import { Arrivals, failure } from '../conformance/events.ts';
import { type Portion, sharedPostgres, sharedRabbit } from '../support/services.ts';
import { AmqpScene } from './scene.ts';

const rabbit = await sharedRabbit();
const postgres = rabbit === undefined ? undefined : await sharedPostgres();

describe.skipIf(postgres === undefined)('a store that does not take', () => {
  let scene: AmqpScene;
  let portion: Portion;
  let database: Sql;
  let client: Client;

  beforeEach(async () => {
    if (rabbit === undefined || postgres === undefined) return;
    scene = await AmqpScene.open(rabbit);
    portion = await postgres.database();
    database = sql(portion.url, { max: 1, onnotice: () => {}, connection: { search_path: 'millrace' } });
    client = await scene.connect({ store: portion.url });
  });

  afterEach(async () => {
    await scene.close();
    await database.end();
    await portion.drop();
  });

  /** From now on the tables take no change of a task that makes this true. */
  async function refuse(
    condition: string,
    change: 'INSERT' | 'UPDATE' = 'UPDATE',
    code = 'data_exception',
  ): Promise<void> {
    await database.unsafe(`
      CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN RAISE EXCEPTION 'never that' USING ERRCODE = '${code}'; END $$;
      CREATE TRIGGER refuse BEFORE ${change} ON tasks FOR EACH ROW WHEN (${condition}) EXECUTE FUNCTION refuse()`);
  }

  test('a message finds it among the dead letters, with the reason, and what came with it runs', async () => {
    const ran = new Arrivals<unknown>();
    await client.enqueue('fine', 0);
    await refuse(`NEW.id = 'bad-1'`, 'INSERT');
    const bad =
      '{"task":"fine","queue":"default","attempt":1,"maxAttempts":3,"id":"bad-1","enqueuedAtMs":1,"payload":"bad"}';
    scene.publish('millrace.default', bad, { type: 'millrace.task' });
    for (let n = 1; n < 6; n++) scene.publish('millrace.default', `{"task": "fine", "payload": ${n}, "id": "f-${n}"}`);
    const worker = await client.work({ fine: (input) => ran.add(input) });
    expect((await ran.count(6)).toSorted()).toEqual([0, 1, 2, 3, 4, 5]);
    const { content, properties } = await scene.get('millrace.default.dead');
    expect(JSON.parse(content.toString())).toMatchObject({ id: 'bad-1', payload: 'bad' });
    expect(properties.headers?.['millrace-reason']).toBe('INVALID_ARGUMENT');
    expect(JSON.parse(properties.headers?.['millrace-error']).message).toContain('the store does not take the task');
    // Nothing of it is left to come again.
    await worker.stop();
    expect(await scene.channel.checkQueue('millrace.default')).toMatchObject({ messageCount: 0 });
  });

  test('queues more than allowed are refused alone, not with what was enqueued at the same time', async () => {
    await client.enqueue('any', 0, { queue: 'known' });
    await database`INSERT INTO queues (name) SELECT 'queue ' || n FROM generate_series(1, ${LIMITS.queuesMax - 2}) n`;
    const queues = ['known', 'last', 'more', 'known', 'even more', 'last'];
    const enqueued = await Promise.allSettled(queues.map((queue, n) => client.enqueue('any', n + 1, { queue })));
    expect(enqueued.map(({ status }) => status === 'fulfilled')).toEqual([true, true, false, true, false, true]);
    expect(enqueued[4]).toMatchObject({ reason: { code: 'QUEUE_FULL', details: { queue: 'even more' } } });
    const [counted] = await database`SELECT count(*)::integer AS queues FROM queues`;
    expect(counted?.queues).toBe(LIMITS.queuesMax);
    const ran = new Arrivals<unknown>();
    await client.work({ any: (input) => ran.add(input) }, { queues: ['known', 'last'] });
    expect((await ran.count(5)).toSorted()).toEqual([0, 1, 2, 4, 6]);
  });

  test.each(['data_exception', 'check_violation', 'raise_exception'])(
    'a result makes its task dead, for that reason, and what ended with it has its own: %s',
    async (code) => {
      await refuse(`NEW.result = '"bad"'`, 'UPDATE', code);
      await client.work({ echo: (input) => input });
      const inputs = ['fine', 'bad', 'well'];
      const [fine, bad, well] = await Promise.all(inputs.map((input) => client.enqueue('echo', input)));
      expect(await fine?.result()).toBe('fine');
      expect(await well?.result()).toBe('well');
      const error = await failure(bad?.result() as Promise<unknown>);
      expect(error).toMatchObject({ code: 'TASK_DEAD', cause: { code: 'INVALID_ARGUMENT' } });
      expect(await bad?.info()).toMatchObject({ state: 'dead', attempt: 1 });
      expect((await bad?.info())?.failures[0]?.error.message).toContain('never that');
    },
  );

  test('how a task ended in any way ends the worker, which says so, and the task goes to the next', async () => {
    await refuse('NEW.state > 1');
    const worker = await client.work({ any: () => 'done' });
    const task = await client.enqueue('any');
    const error = await worker.ended;
    expect(error).toMatchObject({ code: 'INVALID_ARGUMENT' });
    expect(error?.message).toContain(task.id);
    expect(error?.message).toContain('never that');
    await database`DROP TRIGGER refuse ON tasks`;
    await client.work({ any: () => 'done after all' });
    expect(await task.result()).toBe('done after all');
  });
});
