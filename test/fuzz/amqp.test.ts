import fc from 'fast-check';
import { describe, test } from 'vitest';
import { parseAddress } from '../../src/broker/rabbitmq/address.ts';
import { bodyOf, headOf, MESSAGE_TYPE, tailOf } from '../../src/broker/rabbitmq/message.ts';
import { Replies } from '../../src/broker/rabbitmq/replies.ts';
import { SystemClock } from '../../src/io/clock.ts';
import { attempt, Broken, fuzz, oursWith, tolerate } from './harness.ts';
import { handleMessage, messageOf, readerOf } from './messages.ts';
import { fewMutations, mutate } from './mutations.ts';
import { anyJson, brokenText, HOSTILE_KEYS, type JsonText, jsonOf, listOf, mostly, objectOf } from './texts.ts';

const few = jsonOf(fc.constantFrom(0, 1, 3, 9, 10, 1000, 1001, -1, 0.5, 1e15));
const text = jsonOf(fc.constantFrom('n', 'a', '', '\u0000', '\ud800', 'é', 'x'.repeat(129)));
const backoff = objectOf({
  type: jsonOf(fc.constantFrom('fixed', 'exponential')),
  delayMs: few,
  maxDelayMs: few,
  jitter: jsonOf(fc.boolean()),
});

/** As other programs write a task. */
const foreignBody: JsonText = objectOf({
  task: text,
  queue: text,
  attempt: few,
  maxAttempts: few,
  priority: few,
  timeoutMs: few,
  backoff,
  id: text,
  enqueuedAtMs: few,
  runAtMs: few,
  headers: objectOf({ tenant: text }),
  payloadEncoding: jsonOf(fc.constantFrom('base64', 'utf8')),
  payload: anyJson,
  trace: anyJson,
});

/** As we write one; what is changed in it is then read as ours for as long as it looks like that. */
const ownBody = fc
  .record({
    name: fc.constantFrom('n', 'é', '😀"', 'x'.repeat(128)),
    attempt: fc.constantFrom(1, 2, 1000),
    priority: fc.constantFrom(4, 9),
    id: fc.constantFrom('1-0', 'abc-7', 'x'.repeat(128)),
    enqueuedAtMs: fc.constantFrom(0, 5, 1_700_000_000_000),
    runAtMs: fc.constantFrom(0, 1_700_000_000_000),
    headers: fc.constantFrom(undefined, { tenant: 'a' }, { '}': '"},"payload":1', é: '\\"' }),
    payload: fc.oneof(anyJson, fc.uint8Array({ maxLength: 10 })),
  })
  .map(({ name, attempt, priority, id, enqueuedAtMs, runAtMs, headers, payload }) => {
    const backoff = { type: 'exponential', delayMs: 1000, maxDelayMs: 600_000, jitter: true } as const;
    const spec = { queue: 'q', name, priority, maxAttempts: 3, timeoutMs: 1_800_000, backoff };
    return bodyOf(headOf(spec, attempt), id, tailOf(enqueuedAtMs, runAtMs, headers), payload);
  });

/** What AMQP can carry in a table: any name, and any of its types as amqplib reads them. */
const fieldValue: fc.Arbitrary<unknown> = fc.oneof(
  fc.constantFrom<unknown>(
    null,
    true,
    1,
    -1,
    1.5,
    Number.NaN,
    2 ** 53,
    '',
    'text',
    [],
    [1, 'a', null],
    Buffer.from([0xff]),
    { '!': 'timestamp', value: 1 },
  ),
  fc.dictionary(fc.constantFrom('a', 'x-death', 'constructor'), fc.constantFrom<unknown>(1, 'a', null)),
);
const tableKey = fc.constantFrom(
  ...HOSTILE_KEYS,
  'x-death',
  'x-delivery-count',
  'millrace-failed',
  'trace',
  'CC',
  'BCC',
);
const table = fc.array(fc.tuple(tableKey, fieldValue), { maxLength: 5 }).map((entries) => {
  const headers: Record<string, unknown> = {};
  // As amqplib does it.
  for (const [name, value] of entries) headers[name] = value;
  return headers;
});
const properties = fc.record(
  {
    type: fc.constantFrom(MESSAGE_TYPE, 'other', ''),
    headers: table,
    messageId: fc.constantFrom('m-1', '', '\u0000', 'x'.repeat(255)),
    priority: fc.constantFrom(0, 9, 10, 255),
    timestamp: fc.constantFrom(0, 1_700_000_000, 2 ** 53),
    replyTo: fc.constantFrom('amq.rabbitmq.reply-to', '', '__proto__'),
    correlationId: fc.constantFrom('c', ''),
    contentType: fc.constantFrom('application/json', 'text/plain'),
    contentEncoding: fc.constantFrom('utf-8', 'gzip'),
  },
  { requiredKeys: [] },
);

describe('the reader of messages', () => {
  const bodies = fc.oneof(
    { weight: 5, arbitrary: fc.tuple(ownBody, fewMutations).map(([body, mutations]) => mutate(body, mutations)) },
    {
      weight: 5,
      arbitrary: fc
        .tuple(brokenText(foreignBody), fewMutations)
        .map(([body, mutations]) => mutate(Buffer.from(body), mutations)),
    },
    { weight: 1, arbitrary: fc.uint8Array({ maxLength: 60 }).map((bytes) => Buffer.from(bytes)) },
  );

  test('reads a task or refuses the message, and reads in one way what can be read in two', async () => {
    const reader = readerOf();
    await fuzz(
      fc.tuple(bodies, properties),
      ([body, given]) => {
        attempt(body.length, () => handleMessage(reader, body, given));
      },
      { runs: 1500, boxMs: 400 },
    );
  });

  test('reads or refuses one of ours cut at any byte, and one in which any byte is another', () => {
    const reader = readerOf();
    const whole = ownBodies();
    for (const body of whole) {
      for (let at = 0; at < body.length; at++) {
        handleMessage(reader, body.subarray(0, at), { type: MESSAGE_TYPE });
        for (const byte of [0x00, 0x0a, 0x22, 0x5c, 0xff]) {
          const changed = Buffer.from(body);
          changed[at] = byte;
          handleMessage(reader, changed, { type: MESSAGE_TYPE });
        }
      }
    }
  });

  function ownBodies(): Buffer[] {
    return fc.sample(ownBody, { numRuns: 3, seed: 7 }).map((body) => body.subarray(0, 220));
  }
});

test('a reply of anybody is counted as unreadable, or is outcomes of tasks', async () => {
  const replies = new Replies(new SystemClock(), false);
  const error = objectOf({ name: text, message: text, code: text, stack: text });
  const outcome = objectOf({
    id: text,
    state: jsonOf(fc.constantFrom('completed', 'dead', 'cancelled')),
    result: anyJson,
    resultEncoding: jsonOf(fc.constantFrom('base64')),
    error,
  });
  const body = brokenText(objectOf({ outcomes: listOf(mostly(outcome)) }));
  await fuzz(
    fc.tuple(body, fewMutations, properties),
    ([given, mutations, about]) => {
      const content = mutate(Buffer.from(given), mutations);
      const before = replies.unreadable;
      attempt(content.length, () => replies.arrived(messageOf(content, about)));
      if (replies.unreadable - before > content.length + 1) throw new Broken('more was unreadable than came');
    },
    { runs: 500, boxMs: 150 },
  );
});

test('the address of a broker is one, or is refused without the password', async () => {
  const part = fc.oneof(
    fc.constantFrom(
      'guest',
      'SECRET',
      '%',
      '%2F',
      '',
      '@',
      ':',
      '/',
      '?heartbeat=',
      '-1',
      '99999',
      '[::1]',
      'é',
      '\u0000',
    ),
    fc.string({ maxLength: 8 }),
  );
  await fuzz(
    fc.tuple(fc.constantFrom('amqp:', 'amqps:', 'amqp'), fc.array(part, { maxLength: 8 })),
    ([scheme, parts]) => {
      const url = `${scheme}//u:SECRET@${parts.join('')}`;
      const refusal = tolerate(() => parseAddress(url));
      if (refusal === undefined) return;
      oursWith(refusal, ['INVALID_ARGUMENT']);
      if (refusal.message.includes('SECRET@')) throw new Broken(`the password is shown: ${refusal.message}`);
    },
    { runs: 500, boxMs: 100 },
  );
});
