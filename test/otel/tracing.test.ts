import { type Baggage, context, propagation, SpanKind, SpanStatusCode, trace } from '@opentelemetry/api';
import {
  InMemorySpanExporter,
  type ReadableSpan,
  SimpleSpanProcessor,
  type SpanProcessor,
} from '@opentelemetry/sdk-trace-base';
import { NodeTracerProvider } from '@opentelemetry/sdk-trace-node';
import { afterAll, afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type Client, defineTask, LIMITS, type Tracing } from '../../src/index.ts';
import { tracing } from '../../src/otel/index.ts';
import { amqp } from '../conformance/amqp-backends.ts';
import { memory, tcp } from '../conformance/backends.ts';
import { Arrivals, Deferred, failure } from '../conformance/events.ts';
import type { Place } from '../conformance/place.ts';
import { sharedRabbit } from '../support/services.ts';

const AT_ONCE = { backoff: { type: 'fixed', delayMs: 0, jitter: false } } as const;

/** What a program registers to have its spans somewhere. */
class Sdk {
  readonly #exporter = new InMemorySpanExporter();

  constructor(more: readonly SpanProcessor[] = []) {
    const spanProcessors = [new SimpleSpanProcessor(this.#exporter), ...more];
    new NodeTracerProvider({ spanProcessors }).register();
  }

  named(name: string): ReadableSpan[] {
    return this.#exporter.getFinishedSpans().filter((span) => span.name === name);
  }

  only(name: string): ReadableSpan {
    const spans = this.named(name);
    expect(spans.length, `spans named ${name}`).toBe(1);
    return spans[0] as ReadableSpan;
  }

  static stop(): void {
    trace.disable();
    context.disable();
    propagation.disable();
  }
}

function linked(span: ReadableSpan): string[] {
  return span.links.map((link) => link.context.spanId);
}

function idOf(span: ReadableSpan): string {
  return span.spanContext().spanId;
}

function expectChild(child: ReadableSpan, parent: ReadableSpan): void {
  expect(child.parentSpanContext?.spanId).toBe(idOf(parent));
  expect(child.spanContext().traceId).toBe(parent.spanContext().traceId);
}

afterEach(() => Sdk.stop());

const rabbit = await sharedRabbit();
const backends = [memory, tcp, ...(rabbit === undefined ? [] : [amqp(rabbit)])];

describe.each(backends)('over $name', ({ open, close }) => {
  let place: Place;
  let sdk: Sdk;
  let client: Client;
  /** Of another connection. */
  let other: Client;

  beforeEach(async () => {
    place = await open();
    sdk = new Sdk();
    client = await place.connect({ tracing: tracing() });
    other = await place.connect({ tracing: tracing() });
  });

  afterEach(() => place.close());
  afterAll(() => close?.());

  test('an attempt is in the trace of its enqueue, which is its parent and its link', async () => {
    await other.work({ add: (input) => Number(input) + 1 });
    const task = await client.enqueue('add', 1, { headers: { tenant: 'a' } });
    expect(await task.result()).toBe(2);
    const enqueued = sdk.only('enqueue add');
    const ran = sdk.only('run add');
    expectChild(ran, enqueued);
    expect(linked(ran)).toEqual([idOf(enqueued)]);
    expect(enqueued.parentSpanContext).toBeUndefined();
    const common = {
      'messaging.system': 'millrace',
      'messaging.destination.name': 'default',
      'messaging.message.id': task.id,
      'millrace.task.name': 'add',
    };
    expect([enqueued.kind, enqueued.status.code, enqueued.attributes]).toEqual([
      SpanKind.PRODUCER,
      SpanStatusCode.UNSET,
      { ...common, 'messaging.operation.type': 'send', 'messaging.operation.name': 'enqueue' },
    ]);
    expect([ran.kind, ran.status.code, ran.attributes]).toEqual([
      SpanKind.CONSUMER,
      SpanStatusCode.UNSET,
      {
        ...common,
        ...{ 'messaging.operation.type': 'process', 'messaging.operation.name': 'run' },
        ...{ 'millrace.task.attempt': 1, 'millrace.task.max_attempts': 3 },
      },
    ]);
  });

  test('each attempt is a span, and one that failed has its error', async () => {
    await other.work({
      flaky: (_, { attempt }) => {
        if (attempt === 1) throw new RangeError('not yet');
        return attempt;
      },
    });
    const task = await client.enqueue('flaky', null, AT_ONCE);
    expect(await task.result()).toBe(2);
    const enqueued = sdk.only('enqueue flaky');
    const ran = sdk.named('run flaky');
    for (const span of ran) expectChild(span, enqueued);
    expect(ran.map(({ attributes }) => attributes['millrace.task.attempt'])).toEqual([1, 2]);
    expect(ran.map(({ status }) => status)).toEqual([
      { code: SpanStatusCode.ERROR, message: 'not yet' },
      { code: SpanStatusCode.UNSET },
    ]);
    expect(ran[0]?.attributes['error.type']).toBe('RangeError');
    expect(ran[0]?.events).toMatchObject([
      { name: 'exception', attributes: { 'exception.type': 'RangeError', 'exception.message': 'not yet' } },
    ]);
  });

  test('what a handler enqueues, and the spans that it makes, belong to its attempt', async () => {
    await other.work({
      outer: async () => {
        await Promise.resolve();
        trace.getTracer('test').startSpan('inside').end();
        return (await other.enqueue('inner', null)).result();
      },
      inner: () => 'done',
    });
    expect(await (await client.enqueue('outer', null)).result()).toBe('done');
    const outer = sdk.only('run outer');
    expectChild(sdk.only('inside'), outer);
    const enqueued = sdk.only('enqueue inner');
    expectChild(enqueued, outer);
    expectChild(sdk.only('run inner'), enqueued);
  });

  test('a batch is one span, with a link to each enqueue that its tasks came from', async () => {
    const step = defineTask('step', { maxAttempts: 1 });
    await client.enqueueMany(step, [1, 2, 3]);
    await client.enqueue(step, 4);
    const ended = new Arrivals<number>();
    await other.work([
      step.handleBatch((batch) => {
        for (const input of batch) ended.add(Number(input));
      }),
    ]);
    await ended.count(4);
    await other.close();
    const [many, single] = sdk.named('enqueue step') as [ReadableSpan, ReadableSpan];
    expect(many.attributes).toMatchObject({ 'messaging.batch.message_count': 3 });
    const ran = sdk.named('run step');
    // Which tasks come together is a matter of time; that none is linked twice is not.
    const tasks = ran.map(({ attributes }) => Number(attributes['messaging.batch.message_count']));
    expect(tasks.reduce((sum, count) => sum + count, 0)).toBe(4);
    for (const span of ran) {
      expect(span.parentSpanContext).toBeUndefined();
      expect(span.links.length).toBe(new Set(linked(span)).size);
    }
    expect(new Set(ran.flatMap(linked))).toEqual(new Set([idOf(many), idOf(single)]));
  });

  test('a worker that was started inside a span does not put its attempts there', async () => {
    await trace.getTracer('test').startActiveSpan('starting', async (span) => {
      await other.work({ plain: (_, { headers }) => headers });
      span.end();
    });
    const untraced = await place.connect();
    expect(await (await untraced.enqueue('plain', null)).result()).toEqual({});
    const ran = sdk.only('run plain');
    expect(ran.parentSpanContext).toBeUndefined();
    expect(ran.links).toEqual([]);
  });
});

describe('a tracing client', () => {
  let place: Place;

  beforeEach(async () => {
    place = await memory.open();
  });

  afterEach(() => place.close());

  test('adds no header and makes no span while no SDK is registered, and does once one is', async () => {
    const client = await place.connect({ tracing: tracing() });
    await client.work({ look: (_, { headers }) => Object.keys(headers) });
    expect(await (await client.enqueue('look', null)).result()).toEqual([]);
    const sdk = new Sdk();
    expect(await (await client.enqueue('look', null)).result()).toEqual(['traceparent']);
    expectChild(sdk.only('run look'), sdk.only('enqueue look'));
  });

  test('ends the span of an enqueue that fails with its code', async () => {
    const sdk = new Sdk();
    const client = await place.connect({ tracing: tracing() });
    const enqueue = client.enqueue('large', 'x'.repeat(LIMITS.payloadBytesMax));
    expect((await failure(enqueue)).code).toBe('PAYLOAD_TOO_LARGE');
    expect(sdk.only('enqueue large')).toMatchObject({
      status: { code: SpanStatusCode.ERROR },
      attributes: { 'error.type': 'PAYLOAD_TOO_LARGE' },
    });
  });

  test('traces a flow as one enqueue, of which each attempt is a child', async () => {
    const sdk = new Sdk();
    const client = await place.connect({ tracing: tracing() });
    await client.work({ first: () => 1, second: (_, { headers }) => headers.tenant });
    const flow = await client.flow((builder) => {
      const first = builder.add('first', null);
      builder.add('second', null, { dependsOn: first, headers: { tenant: 'a' } });
    });
    expect(await flow.tasks[1]?.result()).toBe('a');
    const enqueued = sdk.only('enqueue flow');
    expect(enqueued.attributes).toMatchObject({
      'messaging.batch.message_count': 2,
      'messaging.destination.name': 'default',
    });
    expect(enqueued.attributes).not.toHaveProperty('millrace.task.name');
    for (const name of ['run first', 'run second']) expectChild(sdk.only(name), enqueued);
    const unique = await client.enqueue('first', null, { uniqueKey: 'k' });
    expect(sdk.only('enqueue first').attributes['messaging.message.id']).toBe(unique.id);
  });

  test('gives the handler the baggage of whoever enqueued', async () => {
    new Sdk();
    const client = await place.connect({ tracing: tracing() });
    await client.work({ read: () => propagation.getActiveBaggage()?.getEntry('tenant')?.value });
    const baggage: Baggage = propagation.createBaggage({ tenant: { value: 'a' } });
    const task = await context.with(propagation.setBaggage(context.active(), baggage), () =>
      client.enqueue('read', null),
    );
    expect(await task.result()).toBe('a');
  });

  test('leaves out what does not fit beside the headers of a task', async () => {
    const sdk = new Sdk();
    const client = await place.connect({ tracing: tracing() });
    await client.work({ full: (_, { headers }) => Object.keys(headers) });
    const full = { full: 'x'.repeat(LIMITS.headersBytesMax - 7) };
    expect(await (await client.enqueue('full', null, { headers: full })).result()).toEqual(['full']);
    expect(sdk.only('run full').links).toEqual([]);
  });

  test('shows what ended an attempt besides its handler', async () => {
    const sdk = new Sdk();
    const client = await place.connect({ tracing: tracing() });
    const started = new Deferred();
    const endless = new Deferred();
    const circle: unknown[] = [];
    circle.push(circle);
    const worker = await client.work({
      slow: () => endless.promise,
      odd: () => circle,
      held: () => {
        started.resolve();
        return endless.promise;
      },
    });
    await failure((await client.enqueue('slow', null, { timeoutMs: 20, maxAttempts: 1 })).result());
    await failure((await client.enqueue('odd', null)).result());
    await client.enqueue('held', null);
    await started.promise;
    await worker.stop({ timeoutMs: 0 });
    const ends = ['run slow', 'run odd', 'run held'].map((name) => sdk.only(name).attributes['error.type']);
    expect(ends).toEqual(['TASK_TIMEOUT', 'INVALID_PAYLOAD', 'STOPPING']);
    endless.resolve();
  });

  test('shows that some tasks of a batch failed', async () => {
    const sdk = new Sdk();
    const client = await place.connect({ tracing: tracing() });
    const step = defineTask('step', { maxAttempts: 1 });
    const tasks = await client.enqueueMany(step, [1, 2]);
    await client.work([step.handleBatch((batch) => batch.fail(1, new RangeError('the second')))]);
    await tasks.at(0).result();
    await failure(tasks.at(1).result());
    expect(sdk.only('run step')).toMatchObject({
      status: { code: SpanStatusCode.ERROR, message: 'the second' },
      attributes: { 'error.type': 'RangeError' },
    });
  });

  test('bounds the links of a batch', async () => {
    const sdk = new Sdk();
    const client = await place.connect({ tracing: tracing() });
    const step = defineTask('step');
    await Promise.all(Array.from({ length: 200 }, (_, index) => client.enqueue(step, index)));
    const sizes = new Arrivals<number>();
    await client.work([step.handleBatch((batch) => sizes.add(batch.length), { batchSize: 200 })], { concurrency: 200 });
    expect(await sizes.count(1)).toEqual([200]);
    await client.close();
    expect(sdk.only('run step').links.length).toBe(128);
  });

  test('enqueues and runs all the same when the SDK throws', async () => {
    const broken = (): never => {
      throw new Error('a broken SDK');
    };
    const processor = { onStart: broken, onEnd: broken, forceFlush: async () => {}, shutdown: async () => {} };
    new Sdk([processor]);
    const client = await place.connect({ tracing: tracing() });
    await client.work({ add: (input) => Number(input) + 1 });
    expect(await (await client.enqueue('add', 1)).result()).toBe(2);
    propagation.disable();
    propagation.setGlobalPropagator({ inject: broken, extract: broken, fields: () => [] });
    expect(await (await client.enqueue('add', 2)).result()).toBe(3);
  });

  test.each([null, 5, {}, { enqueue: () => {} }])('is not made with %j for tracing', async (wrong) => {
    const options = { tracing: wrong as unknown as Tracing };
    expect(await failure(place.connect(options))).toMatchObject({
      code: 'INVALID_ARGUMENT',
      message: expect.stringContaining('millrace/otel'),
    });
  });
});
