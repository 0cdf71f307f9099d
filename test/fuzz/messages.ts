import type { ConsumeMessage } from 'amqplib';
import { copyOf, MESSAGE_TYPE, MessageReader, type TaskMessage } from '../../src/broker/rabbitmq/message.ts';
import { LIMITS } from '../../src/limits.ts';
import { Broken, oursWith } from './harness.ts';

/** A message as amqplib hands it over, from whoever sent it. */
export function messageOf(content: Buffer, properties: Readonly<Record<string, unknown>>): ConsumeMessage {
  return {
    content,
    fields: { deliveryTag: 1, redelivered: false },
    properties: { headers: {}, ...properties },
  } as unknown as ConsumeMessage;
}

export function readerOf(): MessageReader {
  return new MessageReader(
    'q',
    () => 'new',
    () => 5,
  );
}

/** Undefined: it is refused, as no task. */
function readWith(
  reader: MessageReader,
  content: Buffer,
  properties: Readonly<Record<string, unknown>>,
): TaskMessage | undefined {
  try {
    return reader.read(messageOf(content, properties));
  } catch (error) {
    oursWith(error, ['INVALID_PAYLOAD', 'PAYLOAD_TOO_LARGE']);
    return undefined;
  }
}

/**
 * Reads the message as what it says that it is, and as one of another program: a body that is no task for one may be none for
 * the other, but what both read must be the same. Returns the task. Throws Broken.
 */
export function handleMessage(
  reader: MessageReader,
  content: Buffer,
  properties: Readonly<Record<string, unknown>>,
): TaskMessage | undefined {
  const read = readWith(reader, content, properties);
  const own = readWith(reader, content, { ...properties, type: MESSAGE_TYPE });
  const foreign = readWith(reader, content, { ...properties, type: undefined });
  if (own !== undefined && foreign !== undefined && isWhole(own)) checkSame(own, foreign, properties);
  for (const each of [read, own, foreign]) if (each !== undefined) checkTask(reader, each);
  return read;
}

function textOf({ payload }: TaskMessage): string {
  return Buffer.from(payload).toString('latin1').trim();
}

/** One that looks as we write it is not parsed: what follows the payload, and is no JSON together with it, is taken for it. */
function isWhole({ payload }: TaskMessage): boolean {
  try {
    JSON.parse(Buffer.from(payload).toString());
    return true;
  } catch {
    return false;
  }
}

function checkSame(own: TaskMessage, foreign: TaskMessage, { priority }: Readonly<Record<string, unknown>>): void {
  for (const member of ['hasId', 'attempt', 'runAtMs', 'isBytes', 'extra'] as const) {
    if (own[member] !== foreign[member]) throw new Broken(`${member} is ${own[member]} or ${foreign[member]}`);
  }
  if (own.hasId && own.id !== foreign.id) throw new Broken(`the id is ${own.id} or ${foreign.id}`);
  if (textOf(own) !== textOf(foreign)) throw new Broken('the payload is read in two ways');
  // One that writes as we do says the priority in the body, or means the default.
  const specOf = ({ spec }: TaskMessage): string =>
    JSON.stringify(priority === undefined ? spec : { ...spec, priority: 0 });
  if (specOf(own) !== specOf(foreign)) throw new Broken(`options are ${specOf(own)} or ${specOf(foreign)}`);
  if (JSON.stringify(own.taskHeaders) !== JSON.stringify(foreign.taskHeaders))
    throw new Broken('headers are read in two ways');
}

/** Within the limits of a task, and the same again as its next attempt. */
function checkTask(reader: MessageReader, task: TaskMessage): void {
  const { id, spec, payload, enqueuedAtMs, headers } = task;
  const idBytes = Buffer.byteLength(id);
  if (idBytes === 0 || idBytes > LIMITS.taskIdBytesMax || /[\p{Cc}\p{Cs}]/u.test(id)) {
    throw new Broken(`an id that is none: ${JSON.stringify(id.slice(0, 200))}`);
  }
  if (!Number.isInteger(spec.maxAttempts) || payload.length > LIMITS.payloadBytesMax)
    throw new Broken('a task out of bounds');
  if (!(enqueuedAtMs >= 0)) throw new Broken(`enqueued at ${enqueuedAtMs}`);
  if (headers !== undefined && Object.getPrototypeOf(headers) !== Object.prototype)
    throw new Broken('headers have a prototype');
  const again = readWith(reader, copyOf(task, task.attempt), { type: MESSAGE_TYPE });
  // A body that only looks as we write it may hold a payload that is no JSON: its handler is told.
  if (again === undefined) return;
  if (again.id !== id || again.attempt !== task.attempt) throw new Broken(`${id} is ${again.id} as its next attempt`);
}
