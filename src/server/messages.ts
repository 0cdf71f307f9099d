import { MillraceError, shown } from '../errors.ts';
import { parseTaskId } from '../ids.ts';
import { checkInteger, checkName, LIMITS } from '../limits.ts';
import { PROTOCOL_VERSION } from '../protocol/frames.ts';

/** The JSON messages of clients, checked. All throw PROTOCOL or INVALID_ARGUMENT. */
export interface Hello {
  client: string;
  host: string;
  pid: number;
  /** Of the client library; undefined when it does not say so. */
  version: string | undefined;
  producer: string;
  /** Makes this connection the lifeline of the session that was given this key. */
  lifelineOf: string | undefined;
}

/** HELLO with what proves who says it, which is not kept. */
export interface Introduction {
  readonly hello: Hello;
  readonly token: string | undefined;
}

const CLIENT_NAME_CHARACTERS_MAX = 200;

export function parseHello(message: Record<string, unknown>): Introduction {
  // What was sent is not shown, here and below, if it is no number: it may be a secret, in the wrong place or of the wrong type.
  const { protocol } = message;
  if (protocol !== PROTOCOL_VERSION) {
    const value = typeof protocol === 'number' ? protocol : undefined;
    throw new MillraceError(
      'PROTOCOL_VERSION',
      `the client speaks ${value === undefined ? 'no protocol version' : `protocol version ${value}`}, this server ${PROTOCOL_VERSION}; use the same release of Millrace on both sides`,
      { details: { value, supported: PROTOCOL_VERSION } },
    );
  }
  const { producer } = message;
  if (typeof producer !== 'string' || !/^[0-9a-f]{32}$/.test(producer)) {
    throw new MillraceError('PROTOCOL', "HELLO's producer must be 32 hex digits");
  }
  const { token } = message;
  if (token !== undefined && typeof token !== 'string')
    throw new MillraceError('PROTOCOL', "HELLO's token must be text");
  const hello = {
    client: shortText(message.client),
    host: shortText(message.host),
    pid: typeof message.pid === 'number' && Number.isSafeInteger(message.pid) ? message.pid : 0,
    version: typeof message.version === 'string' ? shortText(message.version) : undefined,
    producer,
    lifelineOf: typeof message.lifelineOf === 'string' ? message.lifelineOf : undefined,
  };
  return { hello, token };
}

/** A copy: with a part of a text V8 keeps all of it. */
function shortText(value: unknown): string {
  if (typeof value !== 'string') return '';
  return value.length <= CLIENT_NAME_CHARACTERS_MAX
    ? value
    : Buffer.from(value.slice(0, CLIENT_NAME_CHARACTERS_MAX)).toString();
}

export interface Subscription {
  workerName: string;
  queues: string[];
  concurrency: number;
  prefetch: number;
  /** What the worker still has, and under which tokens. */
  resume: { id: number; token: number; attempt: number | undefined }[];
}

export function parseSubscription(message: Record<string, unknown>): Subscription {
  const { queues, resume = [] } = message;
  if (!Array.isArray(queues) || queues.length === 0 || queues.length > LIMITS.queuesPerWorkerMax) {
    throw new MillraceError('INVALID_ARGUMENT', `queues must be a list of 1 to ${LIMITS.queuesPerWorkerMax} names`);
  }
  const names = [...new Set(queues.map(parseQueueName))];
  const concurrency = parseInteger('concurrency', message.concurrency, 1, LIMITS.prefetchMax);
  const prefetch = parseInteger('prefetch', message.prefetch, concurrency, LIMITS.prefetchMax);
  if (!Array.isArray(resume) || resume.length > LIMITS.prefetchMax) {
    throw new MillraceError('PROTOCOL', `resume must be a list of at most ${LIMITS.prefetchMax} tasks`);
  }
  return {
    workerName: shortText(message.worker),
    queues: names,
    concurrency,
    prefetch,
    resume: resume.map((entry: unknown) => {
      const [id, token, attempt]: unknown[] = Array.isArray(entry) ? entry : [];
      if (typeof id !== 'string' || typeof token !== 'string') {
        throw new MillraceError('PROTOCOL', 'resume must list task id, token and attempt, of each');
      }
      return { id: parseTaskId(id), token: Number(token), attempt: typeof attempt === 'number' ? attempt : undefined };
    }),
  };
}

export function parseQueueName(value: unknown): string {
  checkName('queue', value, LIMITS.queueNameBytesMax);
  return value;
}

export function parseInteger(what: string, value: unknown, min: number, max: number): number {
  checkInteger(what, value, min, max);
  return value;
}

/** Throws INVALID_ARGUMENT. */
export function parseWatch({ queue, task }: Record<string, unknown>): { queue?: string; id?: number } {
  if (queue !== undefined && task !== undefined) {
    throw new MillraceError('INVALID_ARGUMENT', 'events are watched of a queue or of a task: a task is in one queue');
  }
  if (task !== undefined) return { id: parseTaskId(task) };
  return queue === undefined ? {} : { queue: parseQueueName(queue) };
}

export function parseUnwatch({ watch }: Record<string, unknown>): number {
  if (typeof watch === 'number') return watch;
  throw new MillraceError('PROTOCOL', 'UNWATCH must name the request id of a WATCH');
}

/** A delivery that a PROGRESS or LOG is about. */
export interface Remark {
  id: number;
  token: number;
}

function parseRemark({ id, token }: Record<string, unknown>): Remark {
  if (typeof id === 'string' && typeof token === 'string') return { id: parseTaskId(id), token: Number(token) };
  throw new MillraceError('PROTOCOL', 'PROGRESS and LOG must name a task id and its token');
}

export interface Progress {
  value: unknown;
  message?: string;
}

/** `bytes`: what it takes to keep it, roughly. */
export function parseProgress(frame: Record<string, unknown>): Remark & { progress: Progress; bytes: number } {
  const remark = parseRemark(frame);
  const { progress } = frame;
  if (typeof progress !== 'object' || progress === null) {
    throw new MillraceError('PROTOCOL', `PROGRESS must have a progress with a value, not ${shown(progress)}`);
  }
  const { value = null, message } = progress as Record<string, unknown>;
  const length = jsonLength(value);
  if (length > LIMITS.progressBytesMax) {
    throw new MillraceError('PROTOCOL', `a progress value is over ${LIMITS.progressBytesMax} bytes`);
  }
  const bytes = PROGRESS_OVERHEAD_BYTES + length;
  if (message === undefined) return { ...remark, progress: { value }, bytes };
  const line = parseLine(message);
  return { ...remark, progress: { value, message: line }, bytes: bytes + line.length };
}

export function parseLog(frame: Record<string, unknown>): Remark & { lines: [number, string][]; dropped: number } {
  const remark = parseRemark(frame);
  const { lines, dropped } = frame;
  if (!Array.isArray(lines) || lines.length > LIMITS.taskLogLinesMax) {
    throw new MillraceError('PROTOCOL', `LOG must have a list of at most ${LIMITS.taskLogLinesMax} lines`);
  }
  const parsed = lines.map((line: unknown): [number, string] => {
    const [atMs, text]: unknown[] = Array.isArray(line) ? line : [];
    return [parseInteger('atMs', atMs, 0, Number.MAX_SAFE_INTEGER), parseLine(text)];
  });
  return { ...remark, lines: parsed, dropped: parseInteger('dropped', dropped, 0, 2 ** 32) };
}

function parseLine(text: unknown): string {
  if (typeof text === 'string' && Buffer.byteLength(text) <= LIMITS.taskLogLineBytesMax) return text;
  throw new MillraceError('PROTOCOL', `a line must be text of at most ${LIMITS.taskLogLineBytesMax} bytes`);
}

const PROGRESS_OVERHEAD_BYTES = 128;

/** What is nested too deeply to be written is also too long. */
function jsonLength(value: unknown): number {
  try {
    return JSON.stringify(value).length;
  } catch (error) {
    if (error instanceof RangeError) return Number.POSITIVE_INFINITY;
    throw error;
  }
}
