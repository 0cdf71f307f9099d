import type { ConsumeMessage } from 'amqplib';
import { MillraceError, shown } from '../../errors.ts';
import { checkInteger, checkName, DEFAULTS, LIMITS, parseHeaders } from '../../limits.ts';
import { memberSpans } from '../../protocol/json-members.ts';
import type { Backoff, Payload, TaskHeaders, TaskSpec } from '../contract.ts';

/**
 * A task as a message; docs/rabbitmq.md describes it for programs in other languages, which change it when this changes.
 * The body is one JSON object; only `task` and `payload` are required, what is absent has these defaults:
 */
const FORMAT = {
  priority: 4,
  maxAttempts: 3,
  timeoutMs: 1_800_000,
  backoff: { type: 'exponential', delayMs: 1000, maxDelayMs: 600_000, jitter: true },
} as const;

/** The AMQP property `type` of what we publish. Such bodies are read without parsing them, when they look as we write them. */
export const MESSAGE_TYPE = 'millrace.task';
export const CONTENT_TYPE = 'application/json';

/** What a task is on its way, whoever published it. */
export interface TaskMessage {
  readonly id: string;
  /** The message says it; otherwise it was given here, and another delivery gives another. */
  readonly hasId: boolean;
  readonly spec: TaskSpec;
  /** That the message stands for, without the losses that the broker has counted. */
  readonly attempt: number;
  readonly enqueuedAtMs: number;
  /** Not before this wall-clock time; 0: at once. */
  readonly runAtMs: number;
  /** Text is JSON. */
  readonly payload: Uint8Array;
  readonly isBytes: boolean;
  readonly taskHeaders: TaskHeaders | undefined;
  /** Members of the body that are not ours, as text to be put into a copy: `"trace":"…",`. */
  readonly extra: string;
  readonly replyTo: string | undefined;
  readonly correlationId: string | undefined;
  /** Of the message, without those of the broker. */
  readonly headers: Record<string, unknown> | undefined;
}

const ID_MARK = '"id":"';
const TIME_MARK = '","enqueuedAtMs":';
const HEADERS_MARK = ',"headers":';
const PAYLOAD_MARK = ',"payload":';
/** What tells the two marks apart. */
const HEADERS_MARK_LETTER = HEADERS_MARK.charCodeAt(2);
const HEADERS_END = Buffer.from(`}${PAYLOAD_MARK}`);
const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const BRACE = 0x7d;

// ── Writing ─────────────────────────────────────────────────────────────────────────────────────────────────────────

/** What many messages begin with: everything before the id. */
export function headOf(spec: TaskSpec, attempt: number, extra = ''): string {
  const { priority, timeoutMs, backoff } = spec;
  let head = `{"task":${JSON.stringify(spec.name)},"queue":${JSON.stringify(spec.queue)},`;
  head += `"attempt":${attempt},"maxAttempts":${spec.maxAttempts},`;
  if (priority !== FORMAT.priority) head += `"priority":${priority},`;
  if (timeoutMs !== FORMAT.timeoutMs) head += `"timeoutMs":${timeoutMs},`;
  if (!sameBackoff(backoff)) head += `"backoff":${JSON.stringify(backoff)},`;
  return head + extra + ID_MARK;
}

/** `id` is one of ours: nothing in it needs an escape. */
export function bodyOf(head: string, id: string, tail: string, payload: Payload): Buffer {
  if (typeof payload === 'string') return Buffer.from(`${head}${id}${tail}${PAYLOAD_MARK}${payload}}`);
  return Buffer.from(`${head}${id}${tail}${bytesMember(payload)}}`);
}

/** A payload as a store keeps it: text when it is JSON, else bytes. */
export function payloadFrom(bytes: Uint8Array): Payload {
  const text = decodeUtf8(bytes);
  if (text === undefined) return bytes;
  try {
    JSON.parse(text);
    return text;
  } catch {
    // Not JSON: bytes, then.
    return bytes;
  }
}

/** What stands between the id and the payload. */
export function tailOf(enqueuedAtMs: number, runAtMs: number, headers: TaskHeaders | undefined): string {
  let tail = `${TIME_MARK}${enqueuedAtMs}`;
  if (runAtMs > 0) tail += `,"runAtMs":${runAtMs}`;
  if (headers !== undefined) tail += HEADERS_MARK + JSON.stringify(headers);
  return tail;
}

/** The task once more, as another attempt. */
export function copyOf(message: TaskMessage, attempt: number, runAtMs = 0): Buffer {
  const { spec, payload, isBytes, extra } = message;
  const id = JSON.stringify(message.id).slice(1, -1);
  const start = headOf(spec, attempt, extra) + id + tailOf(message.enqueuedAtMs, runAtMs, message.taskHeaders);
  if (isBytes) return Buffer.from(`${start}${bytesMember(payload)}}`);
  const head = Buffer.from(start + PAYLOAD_MARK);
  const body = Buffer.allocUnsafe(head.length + payload.length + 1);
  head.copy(body);
  body.set(payload, head.length);
  body[body.length - 1] = BRACE;
  return body;
}

function bytesMember(bytes: Uint8Array): string {
  const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('base64');
  return `,"payloadEncoding":"base64"${PAYLOAD_MARK}"${text}"`;
}

function sameBackoff({ type, delayMs, maxDelayMs, jitter }: Readonly<Backoff>): boolean {
  const { backoff } = FORMAT;
  return (
    type === backoff.type &&
    delayMs === backoff.delayMs &&
    maxDelayMs === backoff.maxDelayMs &&
    jitter === backoff.jitter
  );
}

// ── Reading ─────────────────────────────────────────────────────────────────────────────────────────────────────────

/** What a head says, kept because thousands of messages have the same. */
interface Head {
  readonly bytes: Buffer;
  readonly spec: TaskSpec;
  readonly attempt: number;
}

const HEADS_MAX = 1000;
/** The last instant that a JavaScript Date can hold. */
const WALL_MS_MAX = 8.64e15;
const MARK_BYTES = Buffer.from(ID_MARK);

/** Reads the messages of one queue. */
export class MessageReader {
  readonly #queue: string;
  readonly #newId: () => string;
  readonly #nowMs: () => number;
  readonly #heads = new Map<string, Head>();
  #last: Head | undefined;

  constructor(queue: string, newId: () => string, nowMs: () => number) {
    this.#queue = queue;
    this.#newId = newId;
    this.#nowMs = nowMs;
  }

  /** Throws INVALID_PAYLOAD or PAYLOAD_TOO_LARGE for what is no task. */
  read(message: ConsumeMessage): TaskMessage {
    return (message.properties.type === MESSAGE_TYPE ? this.#readOwn(message) : undefined) ?? this.#readAny(message);
  }

  /** Undefined when the body is not laid out as we write it. */
  #readOwn({ content, properties }: ConsumeMessage): TaskMessage | undefined {
    const head = this.#headOf(content);
    if (head === undefined) return undefined;
    const idEnd = content.indexOf(QUOTE, head.bytes.length);
    if (idEnd === -1) return undefined;
    const timeStart = idEnd + TIME_MARK.length;
    const idBytes = idEnd - head.bytes.length;
    if (idBytes === 0 || idBytes > LIMITS.taskIdBytesMax || !isPlain(content, head.bytes.length, idEnd))
      return undefined;
    const id = content.toString('latin1', head.bytes.length, idEnd);
    if (content.toString('latin1', idEnd, timeStart) !== TIME_MARK) return undefined;
    let at = timeStart;
    let enqueuedAtMs = 0;
    for (let byte = content[at] as number; byte >= 0x30 && byte <= 0x39; byte = content[++at] as number) {
      enqueuedAtMs = enqueuedAtMs * 10 + (byte - 0x30);
    }
    let taskHeaders: TaskHeaders | undefined;
    if (content[at + 2] === HEADERS_MARK_LETTER) {
      const headersEnd = headersEndOf(content, at);
      if (headersEnd === undefined) return undefined;
      const given = parseObject(content.toString('utf8', at + HEADERS_MARK.length, headersEnd));
      if (given === undefined) return undefined;
      taskHeaders = headersOf(given);
      at = headersEnd;
    }
    const start = at + PAYLOAD_MARK.length;
    const end = content.length - 1;
    if (content.toString('latin1', at, start) !== PAYLOAD_MARK || content[end] !== BRACE) return undefined;
    if (end - start > LIMITS.payloadBytesMax || enqueuedAtMs > WALL_MS_MAX) return undefined;
    const { replyTo, correlationId, headers } = properties;
    return {
      id,
      hasId: true,
      spec: head.spec,
      attempt: head.attempt,
      enqueuedAtMs,
      runAtMs: 0,
      payload: content.subarray(start, end),
      isBytes: false,
      taskHeaders,
      extra: '',
      replyTo,
      correlationId,
      headers: ownHeaders(headers),
    };
  }

  #headOf(content: Buffer): Head | undefined {
    const last = this.#last;
    if (last !== undefined && content.length > last.bytes.length) {
      if (last.bytes.compare(content, 0, last.bytes.length) === 0) return last;
    }
    const end = content.indexOf(MARK_BYTES) + MARK_BYTES.length;
    if (end < MARK_BYTES.length) return undefined;
    const text = content.toString('utf8', 0, end);
    let head = this.#heads.get(text);
    if (head === undefined) {
      head = this.#parseHead(text);
      if (head === undefined) return undefined;
      if (this.#heads.size >= HEADS_MAX) this.#heads.clear();
      this.#heads.set(text, head);
    }
    // What is no UTF-8 is another text when it is decoded, perhaps one that was met before.
    if (head.bytes.compare(content, 0, end) !== 0) return undefined;
    this.#last = head;
    return head;
  }

  #parseHead(text: string): Head | undefined {
    const fields = parseObject(`${text}"}`);
    if (fields === undefined) return undefined;
    const spec = specOf(fields, this.#queue, undefined);
    const attempt = attemptOf(fields);
    // Whatever else it says has to be kept for a copy.
    if (headOf(spec, attempt) !== text) return undefined;
    return { bytes: Buffer.from(text), spec, attempt };
  }

  #readAny({ content, properties }: ConsumeMessage): TaskMessage {
    const text = decodeUtf8(content);
    const fields = text === undefined ? undefined : parseObject(text);
    if (text === undefined || fields === undefined) {
      throw new MillraceError(
        'INVALID_PAYLOAD',
        `the message is no JSON object in UTF-8 (it has ${content.length} bytes): send {"task": "name", "payload": …}`,
      );
    }
    const spec = specOf(fields, this.#queue, properties.priority);
    const spans = memberSpans(text);
    const { bytes, isBytes } = payloadOf(text, fields, spans);
    const { replyTo, correlationId, headers } = properties;
    const id = idOf(fields, properties.messageId);
    return {
      id: id ?? this.#newId(),
      hasId: id !== undefined,
      spec,
      attempt: attemptOf(fields),
      enqueuedAtMs: timeOf(fields, 'enqueuedAtMs') ?? sentAtMs(properties.timestamp) ?? Math.floor(this.#nowMs()),
      runAtMs: timeOf(fields, 'runAtMs') ?? 0,
      payload: bytes,
      isBytes,
      taskHeaders: headersOf(fields.headers),
      extra: extraOf(text, spans),
      replyTo: typeof replyTo === 'string' ? replyTo : undefined,
      correlationId: typeof correlationId === 'string' ? correlationId : undefined,
      headers: ownHeaders(headers),
    };
  }
}

const KNOWN = new Set([
  ...['task', 'queue', 'attempt', 'maxAttempts', 'priority', 'timeoutMs', 'backoff'],
  ...['id', 'enqueuedAtMs', 'runAtMs', 'headers', 'payload', 'payloadEncoding'],
]);

function specOf(fields: Record<string, unknown>, queue: string, propertyPriority: unknown): TaskSpec {
  const { task } = fields;
  if (task === undefined) throw new MillraceError('INVALID_PAYLOAD', 'the message has no "task": it names the handler');
  return refusing(() => {
    checkName('"task"', task, LIMITS.taskNameBytesMax);
    const { maxAttempts = FORMAT.maxAttempts, timeoutMs = FORMAT.timeoutMs } = fields;
    const priority = fields.priority ?? (isPriority(propertyPriority) ? propertyPriority : FORMAT.priority);
    checkInteger('"maxAttempts"', maxAttempts, 1, LIMITS.maxAttemptsMax);
    checkInteger('"timeoutMs"', timeoutMs, LIMITS.timeoutMsMin, LIMITS.timeoutMsMax);
    checkInteger('"priority"', priority, 0, LIMITS.priorityMax);
    return { queue, name: task, priority, maxAttempts, timeoutMs, backoff: backoffOf(fields.backoff) };
  });
}

function isPriority(value: unknown): value is number {
  return typeof value === 'number' && value >= 0 && value <= LIMITS.priorityMax;
}

function backoffOf(given: unknown): Readonly<Backoff> {
  if (given === undefined) return FORMAT.backoff;
  if (typeof given !== 'object' || given === null) {
    throw new MillraceError('INVALID_PAYLOAD', `"backoff" must be an object, not ${shown(given)}`);
  }
  const { type, delayMs, maxDelayMs, jitter } = { ...FORMAT.backoff, ...given };
  checkInteger('"backoff.delayMs"', delayMs, 0, LIMITS.backoffMsMax);
  checkInteger('"backoff.maxDelayMs"', maxDelayMs, 0, LIMITS.backoffMsMax);
  const isKnown = (type as string) === 'fixed' || type === 'exponential';
  if (isKnown && typeof jitter === 'boolean') return { type, delayMs, maxDelayMs, jitter };
  const message = `"backoff" must have the type "fixed" or "exponential" and jitter true or false, not ${shown(type)} and ${shown(jitter)}`;
  throw new MillraceError('INVALID_PAYLOAD', message);
}

function attemptOf({ attempt = 1 }: Record<string, unknown>): number {
  return refusing(() => {
    checkInteger('"attempt"', attempt, 1, LIMITS.maxAttemptsMax);
    return attempt;
  });
}

function idOf({ id }: Record<string, unknown>, messageId: unknown): string | undefined {
  const given = id ?? messageId;
  if (given === undefined) return undefined;
  return refusing(() => {
    checkName('"id"', given, LIMITS.taskIdBytesMax);
    return given;
  });
}

function timeOf(fields: Record<string, unknown>, name: string): number | undefined {
  const value = fields[name];
  if (value === undefined) return undefined;
  if (typeof value === 'number' && value >= 0 && value <= WALL_MS_MAX) return value;
  const message = `"${name}" must be milliseconds since 1970 (at most ${WALL_MS_MAX}), not ${shown(value)}`;
  throw new MillraceError('INVALID_PAYLOAD', message);
}

/** Throws INVALID_PAYLOAD. */
function headersOf(given: unknown): TaskHeaders | undefined {
  return refusing(() => parseHeaders(given));
}

/**
 * Where the headers end that stand at `at`, if they are laid out as we write them: inside of a text each quote has a
 * backslash before it, so what looks like their end and the beginning of the payload is no part of a text.
 */
function headersEndOf(content: Buffer, at: number): number | undefined {
  if (content.toString('latin1', at, at + HEADERS_MARK.length) !== HEADERS_MARK) return undefined;
  const found = content.indexOf(HEADERS_END, at + HEADERS_MARK.length);
  return found === -1 ? undefined : found + 1;
}

/** The AMQP timestamp counts seconds. */
function sentAtMs(timestamp: unknown): number | undefined {
  const ms = typeof timestamp === 'number' ? timestamp * 1000 : 0;
  return ms > 0 && ms <= WALL_MS_MAX ? ms : undefined;
}

type Spans = ReturnType<typeof memberSpans>;

function payloadOf(
  text: string,
  fields: Record<string, unknown>,
  spans: Spans,
): { bytes: Uint8Array; isBytes: boolean } {
  const { payload, payloadEncoding } = fields;
  if (payload === undefined) {
    throw new MillraceError('INVALID_PAYLOAD', 'the message has no "payload": send null when the task needs none');
  }
  const isBytes = payloadEncoding === 'base64';
  if ((!isBytes && payloadEncoding !== undefined) || (isBytes && typeof payload !== 'string')) {
    const message = '"payloadEncoding" may only be "base64", for a "payload" that is text';
    throw new MillraceError('INVALID_PAYLOAD', message);
  }
  const span = spans.get('payload') as readonly [number, number];
  const bytes = isBytes ? Buffer.from(payload as string, 'base64') : Buffer.from(text.slice(...span));
  if (bytes.length <= LIMITS.payloadBytesMax) return { bytes, isBytes };
  const message = `the payload has ${bytes.length} bytes; at most ${LIMITS.payloadBytesMax} are allowed: store large data elsewhere and send where it is`;
  throw new MillraceError('PAYLOAD_TOO_LARGE', message, { details: { bytes: bytes.length } });
}

/** As it was written: values that JavaScript cannot hold, and those too deep to be written again, stay what they are. */
function extraOf(text: string, spans: Spans): string {
  let extra = '';
  for (const [key, span] of spans) {
    if (!KNOWN.has(key)) extra += `${JSON.stringify(key)}:${text.slice(...span)},`;
  }
  return extra;
}

/** Whether these bytes stand for themselves in a JSON text: printable ASCII without a backslash. */
function isPlain(bytes: Buffer, start: number, end: number): boolean {
  for (let at = start; at < end; at++) {
    const byte = bytes[at];
    if (byte < 0x20 || byte > 0x7e || byte === BACKSLASH) return false;
  }
  return true;
}

/** What the producer set, for copies; the broker's own begin with `x-`. */
function ownHeaders(headers: Record<string, unknown> | undefined): Record<string, unknown> | undefined {
  if (headers === undefined) return undefined;
  let own: Record<string, unknown> | undefined;
  // Its own only: amqplib makes the value of a header called __proto__ the prototype of the others.
  for (const name of Object.keys(headers)) {
    if (name.startsWith('x-') || name.startsWith('millrace-')) continue;
    own ??= {};
    // By assignment, one that is called __proto__ would become the prototype.
    Object.defineProperty(own, name, { value: headers[name], enumerable: true, configurable: true, writable: true });
  }
  return own;
}

/** What is out of bounds in a message is a bad message, not a bad argument of ours. */
function refusing<T>(check: () => T): T {
  try {
    return check();
  } catch (error) {
    if (!(error instanceof MillraceError) || error.code !== 'INVALID_ARGUMENT') throw error;
    throw new MillraceError('INVALID_PAYLOAD', error.message, { details: error.details });
  }
}

export function parseObject(text: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null && !Array.isArray(value)
      ? (value as Record<string, unknown>)
      : undefined;
  } catch {
    // Not JSON: the caller says so in its own words.
    return undefined;
  }
}

const UTF8 = new TextDecoder('utf-8', { fatal: true });

export function decodeUtf8(bytes: Uint8Array): string | undefined {
  try {
    return UTF8.decode(bytes);
  } catch {
    // Not UTF-8: the caller says so in its own words.
    return undefined;
  }
}

/** How many pauses of a backoff: the delay before attempt `failedAttempts + 1`. `random` is uniform in [0, 1). */
export function backoffMs(backoff: Readonly<Backoff>, failedAttempts: number, random: number): number {
  const { type, delayMs, maxDelayMs, jitter } = backoff;
  const full = type === 'fixed' ? delayMs : Math.min(delayMs * 2 ** Math.min(failedAttempts - 1, 40), maxDelayMs);
  return jitter ? full * (0.5 + random / 2) : full;
}

// The format's defaults may not change with the program's: they would change what messages under way mean.
if (JSON.stringify(FORMAT.backoff) !== JSON.stringify(DEFAULTS.backoff)) {
  throw new Error('message.ts: a default changed: messages must then say what they used to leave out');
}
