import { randomBytes, randomUUID } from 'node:crypto';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { z } from 'zod';
import {
  type Client,
  type ClientOptions,
  connect,
  defineTask,
  type EncryptionOptions,
  type Logger,
  type TaskError,
  type TaskEvent,
} from '../../src/index.ts';
import { resolveKeyRing } from '../../src/sealing/key-ring.ts';
import { Sealing } from '../../src/sealing/sealing.ts';
import { Arrivals, failure, until } from '../conformance/events.ts';
import { HttpPlace } from '../http/place.ts';

/** In everything that is to stay secret. */
const SECRET = 'ada-lovelace-4711';
const KEY = randomBytes(32);
const encryption: EncryptionOptions = { keys: { k1: KEY } };
const AT_ONCE = { backoff: { type: 'fixed', delayMs: 0, jitter: false } } as const;

let url: string;
let clients: Client[];
/** Has the keys. */
let client: Client;

beforeEach(async () => {
  url = `memory:${randomUUID()}`;
  clients = [];
  client = await open({ encryption });
});

afterEach(async () => {
  await Promise.all(clients.map((each) => each.close({ timeoutMs: 0 })));
});

async function open(options: ClientOptions = {}, at = url): Promise<Client> {
  const opened = await connect(at, options);
  clients.push(opened);
  return opened;
}

/** The error of a task's last attempt. */
async function deathOf(task: { result(): Promise<unknown> }): Promise<TaskError> {
  const { code, cause } = (await failure(task.result())) as { code: string; cause?: unknown };
  expect(code).toBe('TASK_DEAD');
  return cause as TaskError;
}

function listenTo(warnings: string[]): Logger {
  return { info: () => {}, warn: (_, message) => void warnings.push(message), error: () => {} };
}

describe('with a key ring', () => {
  test('tasks run as without: typed ones, with bytes, in batches, by name', async () => {
    const typed = defineTask('typed', {
      input: z.object({ to: z.string() }),
      output: z.object({ sent: z.string() }),
    });
    const bytes = defineTask('bytes', { payload: 'bytes', result: 'bytes' });
    const each = defineTask<{ n: number }, number>('each');
    const raw = defineTask('raw', { payload: 'bytes' });
    const seen: unknown[] = [];
    await client.work([
      typed.handle(({ to }) => ({ sent: to })),
      bytes.handle((input) => Uint8Array.from(input, (byte) => byte ^ 0xff)),
      each.handleBatch((batch) => batch.inputs.map(({ n }) => n * 2)),
      raw.handleBatch((batch) => {
        for (let index = 0; index < batch.length; index++) seen.push(Buffer.from(batch.bytes(index)).toString());
      }),
      defineTask('plain').handle((input) => ({ got: input })),
      defineTask('nothing').handle(() => undefined),
    ]);
    expect(await (await client.enqueue(typed, { to: SECRET })).result()).toEqual({ sent: SECRET });
    const back = await (await client.enqueue(bytes, Uint8Array.of(0, 1, 0xf5))).result();
    expect(Buffer.from(back as Uint8Array)).toEqual(Buffer.from([0xff, 0xfe, 0x0a]));
    expect(await (await client.enqueueMany(each, [{ n: 1 }, { n: 2 }, { n: 3 }])).results()).toEqual([2, 4, 6]);
    await (await client.enqueueMany(raw, [Buffer.from('a'), Buffer.from('b')])).results();
    expect(seen.sort()).toEqual(['a', 'b']);
    expect(await (await client.enqueue('plain', [1, 'ü'])).result()).toEqual({ got: [1, 'ü'] });
    expect(await (await client.enqueue('nothing')).result()).toBeUndefined();
  });

  test('results of parents are read, and schedules fire, as without', async () => {
    await client.work({
      parent: () => ({ secret: SECRET }),
      child: async (_, ctx) => (await ctx.parents()).map(({ result }) => result),
      tick: (input) => input,
    });
    const flow = await client.flow((builder) => {
      const parent = builder.add('parent');
      builder.add('child', undefined, { dependsOn: parent });
    });
    expect(await flow.tasks[1]?.result()).toEqual([{ secret: SECRET }]);
    await client.schedule('s', { task: 'tick', payload: { secret: SECRET }, everyMs: 3_600_000 });
    expect(await (await client.schedules.runNow('s')).result()).toEqual({ secret: SECRET });
    const opened = { encoding: 'utf8', data: JSON.stringify({ secret: SECRET }), keyId: 'k1' };
    expect(await client.schedules.get('s')).toMatchObject({ payload: opened });
    expect((await (await open()).schedules.get('s')).payload?.encoding).toBe('base64');
  });

  test('attempts, a redrive and another worker find the payload as it was', async () => {
    const ran = new Arrivals<unknown>();
    const worker = await client.work({
      hard: (input, { attempt }) => {
        ran.add([input, attempt]);
        throw new Error(`no ${SECRET}`);
      },
    });
    const task = await client.enqueue('hard', { secret: SECRET }, { maxAttempts: 2, ...AT_ONCE });
    expect(await deathOf(task)).toMatchObject({ message: `no ${SECRET}`, code: 'HANDLER_FAILED' });
    await worker.stop();
    await client.work({ hard: (input) => input });
    await client.queue('default').redrive();
    expect(await task.result()).toEqual({ secret: SECRET });
    expect(ran.all).toEqual([
      [{ secret: SECRET }, 1],
      [{ secret: SECRET }, 2],
    ]);
  });

  test('a task is shown with its texts, and says by which key; without the ring it shows none of them', async () => {
    const events = await client.events();
    await client.work({
      show: (_, { attempt }) => {
        if (attempt === 1) throw new TypeError(SECRET);
        return { done: SECRET };
      },
    });
    const task = await client.enqueue('show', { secret: SECRET }, { maxAttempts: 2, ...AT_ONCE });
    await task.result();
    const info = await task.info();
    expect(info).toMatchObject({
      payload: { encoding: 'utf8', data: `{"secret":"${SECRET}"}`, keyId: 'k1' },
      result: { encoding: 'utf8', data: `{"done":"${SECRET}"}`, keyId: 'k1' },
      failures: [{ error: { name: 'TypeError', message: SECRET, stack: expect.stringContaining(SECRET) } }],
    });
    const failed = await firstOf(events, 'failed');
    expect(failed).toMatchObject({ error: { message: SECRET } });

    const stranger = await open();
    const hidden = await stranger.tasks.get(task.id);
    expect(JSON.stringify(hidden)).not.toContain(SECRET);
    expect(hidden.failures[0]?.error).toMatchObject({
      name: 'TypeError',
      message: 'the text of this error is encrypted',
    });
    const { code, message } = await failure(stranger.task(task.id).result());
    expect([code, message]).toEqual([
      'KEY_MISSING',
      expect.stringContaining('the result is encrypted with the key "k1"; there is no key ring here'),
    ]);
    const other = await open({ encryption: { keys: { k2: randomBytes(32) } } });
    expect((await other.tasks.get(task.id)).payload).toMatchObject({ keyId: 'k1', refused: 'KEY_MISSING' });
    expect((await failure(other.task(task.id).result())).code).toBe('KEY_MISSING');
  });

  test('a payload that is not JSON tells its worker alone', async () => {
    await client.work({ json: () => undefined });
    const task = await client.enqueue('json', Buffer.from(`{${SECRET}`));
    expect((await deathOf(task)).code).toBe('INVALID_PAYLOAD');
    expect(JSON.stringify(await (await open()).tasks.get(task.id))).not.toContain(SECRET);
  });

  test('a payload and a result may be as long as their limits leave room for', async () => {
    await client.work({ echo: (input) => input });
    const fits = 'x'.repeat(1_048_000);
    expect(await (await client.enqueue('echo', fits)).result()).toBe(fits);
    const { code, message } = await failure(client.enqueueMany('echo', ['', 'x'.repeat(1_048_570)]));
    expect([code, message]).toEqual([
      'PAYLOAD_TOO_LARGE',
      expect.stringMatching(/^payload 1 has 1048572 bytes, and 49 more/),
    ]);
    expect((await failure(client.flow((flow) => void flow.add('echo', 'x'.repeat(1_048_570))))).code).toBe(code);
    const schedule = { task: 'echo', payload: 'x'.repeat(65_530), everyMs: 1000 };
    expect((await failure(client.schedule('s', schedule))).message).toMatch(
      /49 more when it is encrypted; at most 65536/,
    );
    await client.work([defineTask('long').handle(() => 'x'.repeat(1_048_500))]);
    const death = await deathOf(await client.enqueue('long'));
    expect([death.code, death.message]).toEqual([
      'PAYLOAD_TOO_LARGE',
      expect.stringMatching(/because it is to be encrypted/),
    ]);
  });

  test('keys change while tasks wait: the new one is added everywhere, then used, then the old one goes', async () => {
    const next = randomBytes(32);
    const old = await client.enqueue('echo', 1);
    const rotated = await open({ encryption: { keys: { k1: KEY, k2: next }, use: 'k2' } });
    const [second] = [await rotated.enqueue('echo', 2)];
    await rotated.work({ echo: (input) => input });
    expect([await rotated.task(old.id).result(), await second?.result()]).toEqual([1, 2]);
    const last = await open({ encryption: { keys: { k2: next } } });
    expect(await last.task(second?.id ?? '').result()).toBe(2);
    expect((await last.tasks.get(old.id)).payload).toMatchObject({ keyId: 'k1', refused: 'KEY_MISSING' });
  });
});

async function firstOf(events: AsyncIterable<TaskEvent>, type: TaskEvent['type']): Promise<TaskEvent | undefined> {
  for await (const event of events) if (event.type === type) return event;
  return undefined;
}

test('a system begins to encrypt without a stop: workers first, which answer as they were asked', async () => {
  const lenient = { ...encryption, required: false };
  const before = await open();
  const worker = await open({ encryption: lenient });
  await worker.work({
    echo: (input) => input,
    bad: () => {
      throw new Error(SECRET);
    },
  });
  expect(await (await before.enqueue('echo', SECRET)).result()).toBe(SECRET);
  expect((await deathOf(await before.enqueue('bad', 1, { maxAttempts: 1 }))).message).toBe(SECRET);
  const after = await open({ encryption: lenient });
  const task = await after.enqueue('echo', SECRET);
  expect(await task.result()).toBe(SECRET);
  expect((await before.tasks.get(task.id)).result?.encoding).toBe('base64');
  expect(await after.task((await before.enqueue('echo', 2)).id).result()).toBe(2);
});

describe('a worker', () => {
  test('without the key fails the attempt and says so, so that another may have it', async () => {
    const warnings: string[] = [];
    const keyless = await open();
    const worker = await keyless.work({ mail: () => 'never' }, { logger: listenTo(warnings) });
    const retried = { maxAttempts: 2, ...AT_ONCE };
    const tasks = await client.enqueueMany('mail', [SECRET, SECRET], retried);
    for (const task of tasks) {
      expect(await deathOf(task)).toMatchObject({
        code: 'KEY_MISSING',
        message: expect.stringContaining('encrypted with the key "k1"; there is no key ring here'),
      });
      expect((await task.info()).attempt).toBe(2);
    }
    expect(warnings).toEqual([expect.stringContaining('encrypted with the key "k1"')]);
    await worker.stop();
    await client.work({ mail: (input) => input });
    expect(await client.tasks.retryMany({ state: 'dead' })).toBe(2);
    expect(await tasks.results()).toEqual([SECRET, SECRET]);
  });

  test('never gives its handler what it cannot decrypt for bytes', async () => {
    const raw = defineTask('raw', { payload: 'bytes', maxAttempts: 1 });
    const batch = defineTask('batch', { payload: 'bytes', maxAttempts: 1 });
    const keyless = await open();
    const seen: unknown[] = [];
    await keyless.work([
      raw.handle((input) => void seen.push(input)),
      batch.handleBatch((each) => {
        for (let index = 0; index < each.length; index++) seen.push(each.bytes(index));
      }),
    ]);
    for (const kind of [raw, batch]) {
      expect((await deathOf(await client.enqueue(kind, Buffer.from(SECRET)))).code).toBe('KEY_MISSING');
    }
    expect(seen).toEqual([]);
  });

  test.each(['json', 'bytes'] as const)(
    'refuses what is not encrypted, in batches and with %s too, for whoever reaches the server can enqueue it',
    async (payload) => {
      const single = defineTask('single', { payload, maxAttempts: 5 });
      const batch = defineTask('batch', { payload, maxAttempts: 5 });
      const ran: unknown[] = [];
      const warnings: string[] = [];
      const handlers = [
        single.handle((input) => void ran.push(input)),
        batch.handleBatch(({ inputs }) => void ran.push(inputs)),
      ];
      const worker = await client.work(handlers, { logger: listenTo(warnings) });
      const stranger = await open();
      const input = payload === 'json' ? 1 : Uint8Array.of(1);
      for (const kind of [single, batch]) {
        const task = await stranger.enqueue(kind, input);
        expect(await deathOf(task)).toMatchObject({
          code: 'NOT_ENCRYPTED',
          message: expect.stringContaining('the payload is not encrypted, and this client takes only what is'),
        });
        expect((await stranger.tasks.get(task.id)).attempt).toBe(1);
        expect((await client.tasks.get(task.id)).payload).toMatchObject({ refused: 'NOT_ENCRYPTED' });
      }
      expect([ran, warnings.length]).toEqual([[], 2]);
      await worker.stop();
      const lenient = await open({ encryption: { ...encryption, required: false } });
      await lenient.work(handlers);
      expect(await client.tasks.retryMany({ state: 'dead' })).toBe(2);
      await until(
        () => client.status(),
        ({ queues }) => queues[0]?.completed === 2,
        'both tasks are done',
      );
      expect(ran).toHaveLength(2);
    },
  );

  test('refuses a payload that was moved to another task name or queue', async () => {
    await client.work({ pay: () => 'paid', refund: () => 'refunded' }, { queues: ['default', 'other'] });
    const { payload } = await (await open()).tasks.get((await client.enqueue('nobody', 100)).id);
    const stolen = Buffer.from(payload?.data ?? '', 'base64');
    const stranger = await open();
    for (const [name, queue] of [
      ['refund', 'default'],
      ['pay', 'other'],
    ] as const) {
      const task = await stranger.enqueue(name, stolen, { queue });
      expect(await deathOf(task)).toMatchObject({
        code: 'DECRYPTION_FAILED',
        message: expect.stringContaining(`or it was made for another queue or task name than "${queue}" and "${name}"`),
      });
    }
  });

  test('that meets many tasks of a missing key in a batch ends those at once, and does the others', async () => {
    const counted = defineTask<number, void>('counted', { maxAttempts: 1 });
    const [here, elsewhere] = [encryption, { keys: { k2: randomBytes(32) } }].map(
      (options) => new Sealing(resolveKeyRing(options)),
    );
    // One batch, as somebody else may have made it.
    const sealed = [1, 2, 3, 4, 5, 6].map((n) =>
      (n < 3 || n === 6 ? here : elsewhere)?.sealPayload(String(n), { queue: 'default', name: 'counted' }),
    );
    await (await open()).enqueueMany('counted', sealed, { maxAttempts: 1 });
    const batches: number[] = [];
    const done: number[] = [];
    const handler = counted.handleBatch((batch) => {
      batches.push(batch.length);
      done.push(...batch.inputs);
    });
    const worker = await client.work([handler]);
    await until(
      async () => worker.completed + worker.failed,
      (ended) => ended === 6,
      'all six end',
    );
    expect([worker.completed, worker.failed, done.sort()]).toEqual([3, 3, [1, 2, 6]]);
    expect(batches.length).toBeLessThanOrEqual(4);
  });
});

describe('a result', () => {
  test('of another task, or not encrypted, is refused', async () => {
    const worker = await client.work({ other: () => SECRET });
    const other = await client.enqueue('other');
    await other.result();
    await worker.stop();
    const victim = await client.enqueue('victim');
    const { result } = await (await open()).tasks.get(other.id);
    const stolen = defineTask('victim', { result: 'bytes' });
    const plain = defineTask('plain');
    const intruder = await open();
    const taker = await intruder.work([
      // Without keys it can only settle what it need not read.
      stolen.handleBatch((batch) =>
        Array.from({ length: batch.length }, () => Buffer.from(result?.data ?? '', 'base64')),
      ),
      plain.handleBatch((batch) => Array.from({ length: batch.length }, () => ({ ok: true }))),
    ]);
    expect((await failure(victim.result())).code).toBe('DECRYPTION_FAILED');
    const asked = await client.enqueue('plain');
    expect((await failure(asked.result())).code).toBe('NOT_ENCRYPTED');
    expect((await asked.info()).result).toMatchObject({ data: '{"ok":true}', refused: 'NOT_ENCRYPTED' });
    await taker.stop();
    await client.work({ child: async (_, ctx) => await ctx.parents() });
    const child = await client.enqueue('child', null, { dependsOn: asked, maxAttempts: 1 });
    expect((await deathOf(child)).message).toMatch(/^the result of task \S+ is not encrypted/);
  });
});

describe('the server', () => {
  test('never sees the texts: not in its files, not over HTTP', async () => {
    const directory = await mkdtemp(join(tmpdir(), 'millrace-sealed-'));
    try {
      for (const [options, isSeen] of [
        [{ encryption }, false],
        [{}, true],
      ] as const) {
        const data = `file:${join(directory, String(isSeen))}`;
        const place = await HttpPlace.open(data);
        const owner = await open(options, data);
        await owner.work({
          good: () => SECRET,
          bad: () => {
            throw new Error(SECRET);
          },
        });
        const good = await owner.enqueue('good', SECRET);
        const bad = await owner.enqueue('bad', SECRET, { maxAttempts: 1 });
        await owner.schedule('s', { task: 'good', payload: SECRET, everyMs: 3_600_000 });
        await Promise.allSettled([good.result(), bad.result()]);
        await owner.enqueue('waiting', SECRET, { queue: 'leased' });
        const lease = await place.leaseOne({ queues: ['leased'] });
        const pages = [
          `tasks/${good.id}`,
          `tasks/${good.id}/result`,
          `tasks/${bad.id}`,
          'tasks',
          'schedules/s',
          'dead-groups',
        ];
        const answers = await Promise.all(pages.map(async (page) => (await fetch(`${place.url}/v1/${page}`)).text()));
        expect([...answers, JSON.stringify(lease)].some((text) => text.includes(SECRET))).toBe(isSeen);
        if (!isSeen) {
          expect(JSON.parse(answers[0] as string)).toMatchObject({ payload: { keyId: 'k1' }, result: { keyId: 'k1' } });
          expect(JSON.parse(answers[1] as string)).toMatchObject({ state: 'completed', resultKeyId: 'k1' });
          expect(JSON.parse(answers[4] as string)).toMatchObject({ payload: { keyId: 'k1' } });
          expect(lease).toMatchObject({ payloadBase64: expect.any(String), payloadKeyId: 'k1' });
        }
        await owner.close({ timeoutMs: 0 });
        await place.close();
        expect(await holds(join(directory, String(isSeen)), SECRET)).toBe(isSeen);
      }
    } finally {
      await rm(directory, { recursive: true });
    }
  });
});

/** Whether any file of the directory has the text. */
async function holds(directory: string, text: string): Promise<boolean> {
  const files = (await readdir(directory, { withFileTypes: true })).filter((entry) => entry.isFile());
  expect(files.length).toBeGreaterThan(0);
  const contents = await Promise.all(files.map(({ name }) => readFile(join(directory, name))));
  return contents.some((content) => content.includes(text));
}
