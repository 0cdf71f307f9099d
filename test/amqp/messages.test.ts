import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type Client, defineTask } from '../../src/index.ts';
import { Arrivals, failure } from '../conformance/events.ts';
import { sharedRabbit } from '../support/services.ts';
import { AmqpScene } from './scene.ts';

const AT_ONCE = { type: 'fixed', delayMs: 0, jitter: false } as const;

const rabbit = await sharedRabbit();

describe.skipIf(rabbit === undefined)('messages', () => {
  let scene: AmqpScene;
  let client: Client;

  beforeEach(async () => {
    if (rabbit === undefined) return;
    scene = await AmqpScene.open(rabbit);
    client = await scene.connect();
  });

  afterEach(() => scene.close());

  test('of another program need no more than a task and a payload', async () => {
    const ran = new Arrivals<unknown>();
    await client.work({
      'email.send': (input, { id, attempt, maxAttempts }) => ran.add({ input, id, attempt, maxAttempts }),
    });
    scene.publish('millrace.default', '{"task": "email.send", "payload": {"to": "ada@example.org"}}');
    expect(await ran.count(1)).toEqual([
      { input: { to: 'ada@example.org' }, id: expect.stringMatching(/\S{10}/), attempt: 1, maxAttempts: 3 },
    ]);
  });

  test('of another program may say everything that ours do', async () => {
    const seen = new Arrivals<unknown>();
    await client.work({
      all: (input, { id, attempt, maxAttempts, enqueuedAt }) =>
        seen.add({ input, id, attempt, maxAttempts, enqueuedAt: enqueuedAt.getTime() }),
    });
    const body = { task: 'all', id: 'my own id/ü"', attempt: 2, maxAttempts: 7, enqueuedAtMs: 1_700_000_000_000 };
    scene.publish('millrace.default', JSON.stringify({ payload: [1, 'ü'], ...body, trace: 'kept' }));
    expect(await seen.count(1)).toEqual([
      { input: [1, 'ü'], id: 'my own id/ü"', attempt: 2, maxAttempts: 7, enqueuedAt: 1_700_000_000_000 },
    ]);
  });

  test('keep a payload as it was written, also in a further attempt, and what else the body and the headers said', async () => {
    const texts = new Arrivals<string>();
    const raw = defineTask('raw', { payload: 'bytes' });
    await client.work([
      raw.handle((bytes, { attempt }) => {
        texts.add(Buffer.from(bytes).toString());
        if (attempt < 3) throw new Error('again');
      }),
    ]);
    const payload = '{ "big": 12345678901234567890.10,\n "same": 1, "same": 2, "text": "\\u00fc}\\"" }';
    const start =
      '{"trace": {"id": "t-1"}, "maxAttempts": 3, "backoff": {"type": "fixed", "delayMs": 0}, "task":"raw", "payload": ';
    scene.publish('millrace.default', `${start}${payload}}`, { headers: { tenant: 'a' }, messageId: 'by-property' });
    expect(await texts.count(3)).toEqual([payload, payload, payload]);
  });

  test('of ours can be read by another program', async () => {
    const task = await client.enqueue('email.send', { to: 'ada@example.org' }, { priority: 9, maxAttempts: 5 });
    const message = await scene.get('millrace.default.high');
    expect(JSON.parse(message.content.toString())).toEqual({
      ...{ task: 'email.send', queue: 'default', id: task.id, attempt: 1, maxAttempts: 5, priority: 9 },
      enqueuedAtMs: expect.any(Number),
      payload: { to: 'ada@example.org' },
    });
    expect(message.properties).toMatchObject({
      ...{ contentType: 'application/json', deliveryMode: 2, messageId: task.id, type: 'millrace.task' },
      replyTo: expect.stringMatching(/^millrace-reply\./),
    });
  });

  test('of ours and of another program carry headers of their task', async () => {
    const sent = { tenant: 'a', quoted: '"},"payload":{"no": 1}' };
    await client.enqueue('job', { n: 1 }, { headers: sent });
    const { content, properties } = await scene.get('millrace.default');
    expect(JSON.parse(content.toString())).toMatchObject({ payload: { n: 1 }, headers: sent });
    const ran = new Arrivals<unknown>();
    const job = defineTask('job');
    await client.work([
      job.handleBatch((batch) => {
        ran.add(batch.inputs.map((input, index) => [input, batch.headers(index)]));
      }),
    ]);
    const again = { type: properties.type, messageId: properties.messageId };
    scene.publish('millrace.default', content, again);
    expect(await ran.count(1)).toEqual([[[{ n: 1 }, sent]]]);
    scene.publish('millrace.default', '{"headers": {"tenant": "b"}, "task": "job", "payload": 2}');
    expect((await ran.count(2))[1]).toEqual([[2, { tenant: 'b' }]]);
  });

  test('of ours with bytes say so', async () => {
    await client.enqueue(defineTask('raw', { payload: 'bytes', queue: 'a.b' }), Uint8Array.of(0, 255, 10));
    const { content } = await scene.get('millrace.a%2Eb');
    expect(JSON.parse(content.toString())).toMatchObject({ payloadEncoding: 'base64', payload: 'AP8K' });
  });

  test('that are no tasks go to the dead letters as they came, with the reason, and what follows runs', async () => {
    const ran = new Arrivals<unknown>();
    await client.work({ fine: (input) => ran.add(input) });
    const wrong: [string | Buffer, string][] = [
      ['', 'JSON'],
      ['not JSON', 'JSON'],
      ['[1]', 'JSON'],
      ['"text"', 'JSON'],
      [Buffer.from([0xff, 0xfe, 0x7b]), 'UTF-8'],
      ['{"payload": 1}', '"task"'],
      ['{"task": "fine"}', '"payload"'],
      ['{"task": "", "payload": 1}', '"task"'],
      ['{"task": 5, "payload": 1}', '"task"'],
      ['{"task": "fine", "payload": 1, "priority": 11}', '"priority"'],
      ['{"task": "fine", "payload": 1, "attempt": 0}', '"attempt"'],
      ['{"task": "fine", "payload": 1, "headers": ["a"]}', 'headers must be an object'],
      [
        '{"task":"fine","queue":"default","attempt":1,"maxAttempts":3,"id":"i-2","enqueuedAtMs":1,"headers":{"a":{"x":"y"},"payload":1},"payload":1}',
        'the header "a" must be text',
      ],
      ['{"task": "fine", "payload": 1, "headers": {"a": 1}}', 'the header "a" must be text'],
      // As one of ours would look.
      [
        '{"task":"fine","queue":"default","attempt":1,"maxAttempts":3,"id":"i-1","enqueuedAtMs":1,"headers":{"a":1},"payload":1}',
        'the header "a" must be text',
      ],
      ['{"task": "fine", "payload": 1, "maxAttempts": "3"}', '"maxAttempts"'],
      ['{"task": "fine", "payload": 1, "timeoutMs": 1}', '"timeoutMs"'],
      ['{"task": "fine", "payload": 1, "id": ""}', '"id"'],
      [`{"task": "fine", "payload": 1, "id": "${'x'.repeat(129)}"}`, '"id"'],
      ['{"task": "fine", "payload": 1, "backoff": 5}', '"backoff"'],
      ['{"task": "fine", "payload": 1, "backoff": {"type": "linear"}}', '"backoff"'],
      ['{"task": "fine", "payload": 1, "runAtMs": "soon"}', '"runAtMs"'],
      ['{"task": "fine", "payload": 1, "payloadEncoding": "zip"}', '"payloadEncoding"'],
      [`{"task": "fine", "payload": "${'x'.repeat(1_100_000)}"}`, 'bytes'],
      ['{"task": "fine", "payload": 1, "enqueuedAtMs": 1e300}', '"enqueuedAtMs"'],
      ['{"task": "fine", "payload": 1, "runAtMs": 1e300}', '"runAtMs"'],
      // As one of ours would look, with an id that no message can have.
      [
        `{"task":"fine","queue":"default","attempt":1,"maxAttempts":3,"id":"${'y'.repeat(300)}","enqueuedAtMs":1,"payload":1}`,
        '"id"',
      ],
    ];
    for (const [body] of wrong) scene.publish('millrace.default', body, { type: 'millrace.task' });
    scene.publish('millrace.default', '{"task": "fine", "payload": "last"}');
    expect(await ran.count(1)).toEqual(['last']);
    const found = new Map<string, string>();
    for (const _ of wrong) {
      const { content, properties } = await scene.get('millrace.default.dead');
      expect(properties.headers?.['millrace-reason']).toBe('INVALID_MESSAGE');
      found.set(content.toString('hex'), JSON.parse(properties.headers?.['millrace-error']).message);
    }
    for (const [body, named] of wrong) expect(found.get(Buffer.from(body).toString('hex'))).toContain(named);
  });

  test('with members nested as deep as JSON can be run, and are passed on as they came', async () => {
    const deep = `${'['.repeat(20_000)}${']'.repeat(20_000)}`;
    const ran = new Arrivals<number>();
    await client.work({
      a: (_, { attempt }) => {
        ran.add(attempt);
        throw new Error('no');
      },
    });
    scene.publish(
      'millrace.default',
      `{"task":"a","payload":1,"x":${deep},"maxAttempts":2,"backoff":{"type":"fixed","delayMs":0}}`,
    );
    await ran.count(2);
    expect((await scene.get('millrace.default.dead')).content.toString()).toContain(`"x":${deep}`);
  });

  test('that answer a client with what no answer is are dropped, and the true answer arrives', async () => {
    const task = await client.enqueue('double', 2);
    const { properties } = await scene.get('millrace.default');
    const outcomes = [
      `{"id":"x","state":"completed","resultEncoding":"base64","result":{"toString":1}}`,
      `{"id":"x","state":"dead","error":${'['.repeat(20_000)}${']'.repeat(20_000)}}`,
      `{"id":${JSON.stringify(task.id)},"state":"completed","result":4}`,
    ];
    scene.publish(String(properties.replyTo), 'not JSON');
    scene.publish(String(properties.replyTo), `{"outcomes":[${outcomes.join(',')}]}`);
    expect(await task.result()).toBe(4);
    expect((await client.status()).replies).toEqual({ undelivered: 0, unreadable: 3, forgotten: 0 });
  });

  test('whose answer nobody can get are done, and the answer is counted', async () => {
    await client.work({ double: (input) => Number(input) * 2 });
    scene.publish('millrace.default', '{"task": "double", "payload": 1}', { replyTo: 'nobody' });
    await expect.poll(async () => (await client.status()).replies).toMatchObject({ undelivered: 1 });
  });

  test('of ours that were changed on their way are read all the same', async () => {
    const ran = new Arrivals<unknown>();
    await client.work([defineTask('any').handle((input, { id }) => ran.add([input, id]))]);
    await client.enqueue('any', 1, { queue: 'other' });
    const { content, properties } = await scene.get('millrace.other');
    const text = content.toString().replace('"payload":1', '"payload" : 2');
    scene.publish('millrace.default', text, { type: properties.type, messageId: properties.messageId });
    expect(await ran.count(1)).toEqual([[2, properties.messageId]]);
  });

  test('of a task that has no attempts left are dead letters with its last error', async () => {
    await client.work({ broken: () => Promise.reject(new RangeError('out of it')) });
    const task = await client.enqueue('broken', { n: 1 }, { maxAttempts: 2, backoff: AT_ONCE });
    expect((await failure(task.result())).code).toBe('TASK_DEAD');
    const { content, properties } = await scene.get('millrace.default.dead');
    expect(JSON.parse(content.toString())).toMatchObject({
      task: 'broken',
      id: task.id,
      attempt: 2,
      payload: { n: 1 },
    });
    expect(properties.headers).toMatchObject({ 'millrace-reason': 'HANDLER_FAILED' });
    expect(JSON.parse(properties.headers?.['millrace-error'])).toMatchObject({
      name: 'RangeError',
      message: 'out of it',
    });
  });

  test('of a task that is dead have an error and headers that can be read, however long both were', async () => {
    await client.work({
      broken: () => {
        throw new Error('\u0001'.repeat(50_000));
      },
    });
    const headers = { tenant: 'a', long: 'x'.repeat(60_000), also: { nested: ['b', Buffer.from('c')] } };
    scene.publish('millrace.default', '{"task": "broken", "payload": 1, "maxAttempts": 1}', { headers });
    const { properties } = await scene.get('millrace.default.dead');
    expect(properties.headers).toMatchObject({ tenant: 'a', also: headers.also, 'millrace-reason': 'HANDLER_FAILED' });
    expect(properties.headers).not.toHaveProperty('long');
    const error = JSON.parse(properties.headers?.['millrace-error']);
    expect(error.name).toBe('Error');
    expect(error.message).toContain('\u0001'.repeat(1000));
    expect(error.stack).toContain(`Error: ${'\u0001'.repeat(100)}`);
  });

  test('are answered where they say, one by one when they have a correlation id', async () => {
    await client.work({ double: (input) => Number(input) * 2 });
    const { queue } = await scene.channel.assertQueue('', { exclusive: true });
    for (const n of [1, 2]) {
      const body = JSON.stringify({ task: 'double', payload: n, id: `n-${n}` });
      scene.publish('millrace.default', body, { replyTo: queue, correlationId: `call-${n}` });
    }
    for (const n of [1, 2]) {
      const { content, properties } = await scene.get(queue);
      expect(properties.correlationId).toBe(`call-${n}`);
      expect(JSON.parse(content.toString())).toEqual({
        outcomes: [{ id: `n-${n}`, state: 'completed', attempt: 1, result: n * 2 }],
      });
    }
  });

  test('that want their answer where the broker ends the connection of whoever sends there end it once', async () => {
    await client.work({ double: (input) => Number(input) * 2 });
    const replyTo = 'amq.rabbitmq.reply-to.g2dkABByZXBseUA4MzQyMTM0MQAAAAAAAAAAYmFk.abc';
    scene.publish('millrace.default', '{"task": "double", "payload": 1}', { replyTo });
    const results: number[] = [];
    for (let n = 2; n < 6; n++) results.push((await (await client.enqueue<number>('double', n)).result()) as number);
    expect(results).toEqual([4, 6, 8, 10]);
  });

  test('that the ladder brings too early go around once more', async () => {
    const ran = new Arrivals<[number, number]>();
    await client.work({ at: (input: unknown) => ran.add([Number(input), Date.now()]) });
    const runAtMs = Date.now() + 120;
    scene.publish('millrace.default', JSON.stringify({ task: 'at', payload: runAtMs, runAtMs }));
    const [[due, startedMs]] = await ran.count(1);
    expect(startedMs).toBeGreaterThanOrEqual(due);
  });
});
