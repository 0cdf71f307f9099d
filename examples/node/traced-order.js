import { InMemorySpanExporter, SimpleSpanProcessor } from '@opentelemetry/sdk-trace-base';
import { NodeTracerProvider } from '@opentelemetry/sdk-trace-node';
import { connect } from 'millrace';
import { tracing } from 'millrace/otel';

// Yours would export to a collector.
const exporter = new InMemorySpanExporter();
new NodeTracerProvider({ spanProcessors: [new SimpleSpanProcessor(exporter)] }).register();

// In memory, so that it runs by itself.
const client = await connect(process.env.MILLRACE_URL ?? 'memory:', { tracing: tracing() });
await client.work({
  'order.place': async (order, { headers }) => {
    const mail = await client.enqueue('mail.send', order, { headers, backoff: { delayMs: 0 } });
    return mail.result();
  },
  'mail.send': (order, { attempt, headers }) => {
    if (attempt === 1) throw new Error('the mail server is busy');
    return `told the customer of ${headers.tenant} about order ${order.id}`;
  },
});

const task = await client.enqueue('order.place', { id: 17 }, { headers: { tenant: 'a' } });
console.log(await task.result());
await client.close();

const spans = exporter.getFinishedSpans();
function printBelow(parent, indent) {
  for (const span of spans) {
    if (span.parentSpanContext?.spanId !== parent) continue;
    const error = span.status.message === undefined ? '' : `: ${span.status.message}`;
    console.log(`${indent}${span.name}${error}`);
    printBelow(span.spanContext().spanId, `${indent}  `);
  }
}
printBelow(undefined, '');
