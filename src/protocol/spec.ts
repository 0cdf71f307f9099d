import { isUtf8 } from 'node:buffer';
import type { TaskSpec } from '../broker/contract.ts';
import { checkInteger, checkName, LIMITS } from '../limits.ts';
import { malformed, readU16, readU32, writeU16, writeU32 } from './bytes.ts';

/**
 * spec = u8 length, queue, u8 length, name, u8 priority, u16 maxAttempts, u32 timeoutMs, u8 backoff, u32 delayMs,
 * u32 maxDelayMs, and only with a concurrency key: u8 length, concurrencyKey. Equal specs have equal bytes, so bytes may be
 * compared in place of specs.
 */
const FIXED_BYTES = 18;
export const SPEC_BYTES_MAX =
  FIXED_BYTES + LIMITS.queueNameBytesMax + LIMITS.taskNameBytesMax + 1 + LIMITS.concurrencyKeyBytesMax;

const EXPONENTIAL = 1;
const JITTER = 0x80;

const encoded = new WeakMap<TaskSpec, Buffer>();

/** Throws INVALID_ARGUMENT for a spec outside its bounds. The bytes are kept with the object; they must not be changed. */
export function encodeSpec(spec: TaskSpec): Buffer {
  let bytes = encoded.get(spec);
  if (bytes === undefined) {
    validateSpec(spec);
    bytes = packSpec(spec);
    encoded.set(spec, bytes);
  }
  return bytes;
}

function packSpec(spec: TaskSpec): Buffer {
  const queue = Buffer.from(spec.queue, 'utf8');
  const name = Buffer.from(spec.name, 'utf8');
  const key = spec.concurrencyKey === undefined ? undefined : Buffer.from(spec.concurrencyKey, 'utf8');
  const keyBytes = key === undefined ? 0 : 1 + key.length;
  const bytes = Buffer.allocUnsafeSlow(FIXED_BYTES + queue.length + name.length + keyBytes);
  bytes[0] = queue.length;
  bytes.set(queue, 1);
  let at = 1 + queue.length;
  bytes[at] = name.length;
  bytes.set(name, at + 1);
  at += 1 + name.length;
  bytes[at] = spec.priority;
  writeU16(bytes, at + 1, spec.maxAttempts);
  writeU32(bytes, at + 3, spec.timeoutMs);
  bytes[at + 7] = (spec.backoff.type === 'exponential' ? EXPONENTIAL : 0) | (spec.backoff.jitter ? JITTER : 0);
  writeU32(bytes, at + 8, spec.backoff.delayMs);
  writeU32(bytes, at + 12, spec.backoff.maxDelayMs);
  if (key !== undefined) {
    bytes[at + 16] = key.length;
    bytes.set(key, at + 17);
  }
  return bytes;
}

/** Throws PROTOCOL for bytes that are no spec, INVALID_ARGUMENT for a spec outside its bounds. */
export function decodeSpec(buffer: Buffer, start: number, end: number): TaskSpec {
  if (end - start > SPEC_BYTES_MAX)
    throw malformed(`a task's options take ${end - start} bytes; at most ${SPEC_BYTES_MAX}`);
  const queueEnd = start + 1 + buffer[start];
  const nameEnd = queueEnd + 1 + (queueEnd < end ? buffer[queueEnd] : 0);
  const fixedEnd = nameEnd + FIXED_BYTES - 2;
  const keyEnd = fixedEnd + (fixedEnd < end ? 1 + buffer[fixedEnd] : 0);
  if (end <= start || keyEnd !== end) throw malformed('lengths inside a task’s options do not fit together');
  if (!isUtf8(buffer.subarray(start + 1, queueEnd)) || !isUtf8(buffer.subarray(queueEnd + 1, nameEnd))) {
    throw malformed('a queue or task name is not UTF-8');
  }
  if (fixedEnd < end && !isUtf8(buffer.subarray(fixedEnd + 1, end))) throw malformed('a concurrency key is not UTF-8');
  const flags = buffer[nameEnd + 7];
  if ((flags & ~(EXPONENTIAL | JITTER)) !== 0) throw malformed(`unknown backoff flags ${flags}`);
  const spec: TaskSpec = {
    queue: buffer.toString('utf8', start + 1, queueEnd),
    name: buffer.toString('utf8', queueEnd + 1, nameEnd),
    priority: buffer[nameEnd],
    maxAttempts: readU16(buffer, nameEnd + 1),
    timeoutMs: readU32(buffer, nameEnd + 3),
    backoff: {
      type: (flags & EXPONENTIAL) === 0 ? 'fixed' : 'exponential',
      delayMs: readU32(buffer, nameEnd + 8),
      maxDelayMs: readU32(buffer, nameEnd + 12),
      jitter: (flags & JITTER) !== 0,
    },
    ...(fixedEnd < end ? { concurrencyKey: buffer.toString('utf8', fixedEnd + 1, end) } : {}),
  };
  validateSpec(spec);
  return spec;
}

/** The queue of a packed spec, which begins with it. Throws PROTOCOL. */
export function queueOfSpec(buffer: Buffer, start: number, end: number): string {
  const queueEnd = start < end ? start + 1 + (buffer[start] as number) : end + 1;
  if (queueEnd > end) throw malformed('lengths inside a task’s options do not fit together');
  return buffer.toString('utf8', start + 1, queueEnd);
}

/** Throws INVALID_ARGUMENT naming the value and its bound. */
export function validateSpec(spec: TaskSpec): void {
  checkName('queue', spec.queue, LIMITS.queueNameBytesMax);
  checkName('task name', spec.name, LIMITS.taskNameBytesMax);
  checkInteger('priority', spec.priority, 0, LIMITS.priorityMax);
  checkInteger('maxAttempts', spec.maxAttempts, 1, LIMITS.maxAttemptsMax);
  checkInteger('timeoutMs', spec.timeoutMs, LIMITS.timeoutMsMin, LIMITS.timeoutMsMax);
  checkInteger('backoff.delayMs', spec.backoff.delayMs, 0, LIMITS.backoffMsMax);
  checkInteger('backoff.maxDelayMs', spec.backoff.maxDelayMs, 0, LIMITS.backoffMsMax);
  if (spec.concurrencyKey !== undefined)
    checkName('concurrencyKey', spec.concurrencyKey, LIMITS.concurrencyKeyBytesMax);
}
