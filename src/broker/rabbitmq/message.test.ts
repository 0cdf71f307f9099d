import type { ConsumeMessage } from 'amqplib';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { spec } from '../../../test/support/frames.ts';
import { bodyOf, copyOf, headOf, MESSAGE_TYPE, MessageReader, tailOf } from './message.ts';

const TEXT = fc.string({ unit: 'grapheme', maxLength: 20 }).filter((text) => !/[\p{Cc}\p{Cs}]/u.test(text));
const headers = fc
  .array(
    fc.tuple(
      TEXT.filter((text) => text !== ''),
      fc.oneof(TEXT, fc.constantFrom('}', '"},"payload":1', '\\"')),
    ),
    {
      minLength: 1,
      maxLength: 4,
    },
  )
  .map((entries) => Object.fromEntries(entries) as Record<string, string>);

function message(content: Buffer): ConsumeMessage {
  return { content, fields: {}, properties: { type: MESSAGE_TYPE, headers: {} } } as unknown as ConsumeMessage;
}

test('a task and its next attempt are read with the headers that were written, whatever is in them', () => {
  fc.assert(
    fc.property(
      spec,
      headers,
      fc.json(),
      fc.constantFrom(0, 1_700_000_000_000),
      (taskSpec, given, payload, runAtMs) => {
        const reader = new MessageReader(
          taskSpec.queue,
          () => 'new',
          () => 0,
        );
        const first = reader.read(message(bodyOf(headOf(taskSpec, 1), 'id-1', tailOf(5, runAtMs, given), payload)));
        for (const read of [first, reader.read(message(copyOf(first, 2)))]) {
          expect(read).toMatchObject({ id: 'id-1', spec: taskSpec, enqueuedAtMs: 5, isBytes: false, extra: '' });
          expect(read.taskHeaders).toEqual(given);
          expect(Buffer.from(read.payload).toString()).toBe(payload);
        }
      },
    ),
  );
});

test('tasks that differ in their headers alone are of one kind, so that they are handed out together', () => {
  const [taskSpec] = fc.sample(spec, 1) as [Parameters<typeof headOf>[0]];
  const reader = new MessageReader(
    taskSpec.queue,
    () => 'new',
    () => 0,
  );
  const kinds = [undefined, { trace: 'a' }, { trace: 'b' }].map(
    (given) => reader.read(message(bodyOf(headOf(taskSpec, 1), 'id-1', tailOf(5, 0, given), '1'))).spec,
  );
  expect(kinds[1]).toBe(kinds[0]);
  expect(kinds[2]).toBe(kinds[0]);
});

describe('a message of another program that says to be one of ours', () => {
  const read = (body: Buffer, headers: Record<string, unknown> = {}) => {
    const reader = new MessageReader(
      'q',
      () => 'new',
      () => 0,
    );
    const given = message(body);
    given.properties.headers = headers;
    return reader.read(given);
  };
  const written = (name: Buffer, id: Buffer): Buffer =>
    Buffer.concat([
      Buffer.from('{"task":"'),
      name,
      Buffer.from('","queue":"q","attempt":1,"maxAttempts":3,"id":"'),
      id,
      Buffer.from('","enqueuedAtMs":5,"payload":1}'),
    ]);

  test('is refused when its name is no UTF-8, and not read from the wrong place', () => {
    for (const name of [Buffer.from([0x61, 0xff]), Buffer.from([0xf0, 0x9f, 0x98])]) {
      expect(() => read(written(name, Buffer.from('abc')))).toThrow(/no JSON object in UTF-8/);
    }
  });

  test('is refused when its id has what no id may have', () => {
    for (const id of ['a\nb', 'a\u0000b']) {
      expect(() => read(written(Buffer.from('n'), Buffer.from(id)))).toThrow(/INVALID_PAYLOAD|no JSON object/);
    }
    expect(read(written(Buffer.from('n'), Buffer.from('é-1'))).id).toBe('é-1');
  });

  test('has the headers that it has, whatever they are called', () => {
    const headers = JSON.parse('{"__proto__":{"polluted":1},"trace":"a"}') as Record<string, unknown>;
    const { headers: own = {} } = read(written(Buffer.from('n'), Buffer.from('a-1')), headers);
    expect(Object.getPrototypeOf(own)).toBe(Object.prototype);
    expect(Object.entries(own)).toEqual([
      ['__proto__', { polluted: 1 }],
      ['trace', 'a'],
    ]);
  });

  test('has none of what a header called __proto__ brings along', () => {
    // As amqplib makes them: the value becomes the prototype of the others.
    const headers: Record<string, unknown> = { trace: 'a' };
    Object.setPrototypeOf(headers, Buffer.from('value'));
    expect(read(written(Buffer.from('n'), Buffer.from('a-1')), headers).headers).toEqual({ trace: 'a' });
  });
});
