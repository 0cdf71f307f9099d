import {
  type Attributes,
  type Context,
  context,
  diag,
  type Link,
  ProxyTracerProvider,
  propagation,
  ROOT_CONTEXT,
  type Span,
  SpanKind,
  SpanStatusCode,
  type Tracer,
  trace,
} from '@opentelemetry/api';
import type { TaskHeaders } from '../broker/contract.ts';
import { MillraceError } from '../errors.ts';
import { parseHeaders } from '../limits.ts';
import type { AttemptTrace, EnqueueTrace, TracedAttempt, TracedEnqueue, Tracing } from '../task/tracing.ts';
import { VERSION } from '../version.ts';
import { describeThrown } from '../worker/failures.ts';

/**
 * Spans of OpenTelemetry, by its semantic conventions for messaging. An enqueue is a PRODUCER span, whose context goes into the
 * headers of its tasks by the global propagator; an attempt is a CONSUMER span with a link to it. A task that runs alone has it
 * as its parent too, as the conventions have it where nothing else would be: all attempts of a task are in its trace. Of a batch
 * only the links say where its tasks came from.
 */

/** Of one batch: as many as an SDK keeps unless it is told otherwise. */
const LINKS_MAX = 128;

/**
 * What `connect` takes as `tracing`. Without an SDK that was registered, before or after this call, nothing is recorded and no
 * header is added.
 */
export function tracing(): Tracing {
  const tracer = trace.getTracer('millrace', VERSION);
  return {
    enqueue: (what) =>
      isRegistered() ? guarded(() => new ProducerSpan(tracer, what), UNTRACED_ENQUEUE) : UNTRACED_ENQUEUE,
    attempt: (what) =>
      isRegistered() ? guarded(() => new ConsumerSpan(tracer, what), UNTRACED_ATTEMPT) : UNTRACED_ATTEMPT,
  };
}

/** What the API has for a tracer provider while there is none. */
const NO_PROVIDER = new ProxyTracerProvider().getDelegate();

/** Spans that nobody records cost several times what an enqueue does. */
function isRegistered(): boolean {
  const provider = trace.getTracerProvider();
  return !(provider instanceof ProxyTracerProvider) || provider.getDelegate() !== NO_PROVIDER;
}

class ProducerSpan implements EnqueueTrace {
  readonly #span: Span;
  /** What the propagator has for those who run the tasks. */
  readonly #injected: [string, string][];

  constructor(tracer: Tracer, { name, queue, count }: TracedEnqueue) {
    const attributes = attributesOf('send', 'enqueue', name, queue);
    if (count !== 1) attributes['messaging.batch.message_count'] = count;
    this.#span = tracer.startSpan(`enqueue ${name ?? 'flow'}`, { kind: SpanKind.PRODUCER, attributes });
    const carrier: Record<string, string> = {};
    propagation.inject(trace.setSpan(context.active(), this.#span), carrier);
    this.#injected = Object.entries(carrier);
  }

  headers(own: TaskHeaders | undefined): TaskHeaders | undefined {
    return guarded(() => this.#injected.reduce(withHeader, own), own);
  }

  confirmed(id: string | undefined): void {
    guarded(() => {
      if (id !== undefined) this.#span.setAttribute('messaging.message.id', id);
      this.#span.end();
    }, undefined);
  }

  failed(error: unknown): void {
    guarded(() => endWithError(this.#span, error), undefined);
  }
}

class ConsumerSpan implements AttemptTrace {
  readonly #span: Span;
  readonly #context: Context;
  #over = false;

  constructor(tracer: Tracer, what: TracedAttempt) {
    const { name, queue, attempt, maxAttempts, isBatch, length } = what;
    const attributes: Attributes = {
      ...attributesOf('process', 'run', name, queue),
      'millrace.task.attempt': attempt,
      'millrace.task.max_attempts': maxAttempts,
    };
    if (isBatch) attributes['messaging.batch.message_count'] = length;
    else attributes['messaging.message.id'] = what.id(0);
    // Whatever this worker was started in goes on without it.
    const parent = isBatch ? ROOT_CONTEXT : propagation.extract(ROOT_CONTEXT, what.headers(0) ?? {});
    const links = isBatch ? linksOf(what) : linkTo(parent);
    this.#span = tracer.startSpan(`run ${name}`, { kind: SpanKind.CONSUMER, attributes, links }, parent);
    this.#context = trace.setSpan(parent, this.#span);
  }

  run<T>(handler: () => T): T {
    return context.with(this.#context, handler);
  }

  completed(): void {
    this.#end(() => this.#span.end());
  }

  failed(error: unknown): void {
    this.#end(() => endWithError(this.#span, error));
  }

  #end(end: () => void): void {
    if (this.#over) return;
    this.#over = true;
    guarded(end, undefined);
  }
}

function attributesOf(
  type: 'send' | 'process',
  operation: string,
  name: string | undefined,
  queue: string | undefined,
): Attributes {
  return {
    'messaging.system': 'millrace',
    'messaging.operation.type': type,
    'messaging.operation.name': operation,
    ...(queue === undefined ? {} : { 'messaging.destination.name': queue }),
    ...(name === undefined ? {} : { 'millrace.task.name': name }),
  };
}

/** Those of the tasks' origins, each once. */
function linksOf({ length, headers }: TracedAttempt): Link[] {
  const links: Link[] = [];
  const known = new Set<string>();
  const fields = propagation.fields();
  for (let index = 0; index < length && links.length < LINKS_MAX; index++) {
    const given = headers(index);
    if (given === undefined) continue;
    const key = JSON.stringify(fields.map((field) => given[field]));
    if (known.has(key)) continue;
    known.add(key);
    links.push(...linkTo(propagation.extract(ROOT_CONTEXT, given)));
  }
  return links;
}

function linkTo(origin: Context): Link[] {
  const spanContext = trace.getSpanContext(origin);
  return spanContext === undefined ? [] : [{ context: spanContext }];
}

/** A header that does not fit beside the others is left out: what is traced is enqueued all the same. */
function withHeader(headers: TaskHeaders | undefined, [name, value]: [string, string]): TaskHeaders | undefined {
  try {
    return parseHeaders({ ...headers, [name]: value });
  } catch (error) {
    if (!(error instanceof MillraceError)) throw error;
    diag.warn(`millrace: a task goes without the header ${name} of its trace: ${error.message}`);
    return headers;
  }
}

function endWithError(span: Span, error: unknown): void {
  const { name, message, stack } = describeThrown(error, 'HANDLER_FAILED');
  span.recordException({ name, message, ...(stack === undefined ? {} : { stack }) });
  span.setAttribute('error.type', error instanceof MillraceError ? error.code : name);
  span.setStatus({ code: SpanStatusCode.ERROR, message });
  span.end();
}

/** What an SDK, a propagator or an exporter throws must not keep a task from being enqueued, or run. */
function guarded<T>(call: () => T, otherwise: T): T {
  try {
    return call();
  } catch (error) {
    diag.error('millrace: a span was lost', error);
    return otherwise;
  }
}

const UNTRACED_ENQUEUE: EnqueueTrace = { headers: (own) => own, confirmed: () => {}, failed: () => {} };
const UNTRACED_ATTEMPT: AttemptTrace = { run: (handler) => handler(), completed: () => {}, failed: () => {} };
