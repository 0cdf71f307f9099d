import type { AttemptRun, TaskError } from '../broker/contract.ts';
import { encodeTaskError } from './settlement-writer.ts';

/**
 * How an attempt failed, as FAIL says it and as RESULT gives it back: JSON `{name, message, code, stack?}`, in FAIL
 * also `worker` and `startedAtMs`. A worker in
 * another language may send anything in its place; whoever reads it gets the nearest to it that is one.
 */
const TEXT_CHARACTERS_MAX = 1000;
/** As much of a worker's name as the server keeps. */
const WORKER_CHARACTERS_MAX = 200;

/** Never throws. */
export function parseTaskError(bytes: Buffer): TaskError {
  const text = bytes.toString();
  const value = parseJson(text);
  if (typeof value !== 'object' || value === null) {
    const message = (typeof value === 'string' ? value : text).slice(0, TEXT_CHARACTERS_MAX);
    return { name: 'Error', message, code: 'HANDLER_FAILED' };
  }
  const { name, message, code, stack } = value as Record<string, unknown>;
  return {
    name: textOf(name) ?? 'Error',
    message: textOf(message) ?? text.slice(0, TEXT_CHARACTERS_MAX),
    code: textOf(code) ?? 'HANDLER_FAILED',
    ...(typeof stack === 'string' ? { stack } : {}),
  };
}

/** An error as it is stored, with who ran the attempt where that is said. */
export type AttemptFailure = { error: TaskError } & AttemptRun;

/** Never throws. */
export function parseAttemptFailure(bytes: Buffer): AttemptFailure {
  const value = parseJson(bytes.toString());
  const { worker, startedAtMs } = (typeof value === 'object' && value !== null ? value : {}) as Record<string, unknown>;
  return {
    error: parseTaskError(bytes),
    ...(typeof worker === 'string' && worker !== '' ? { worker: worker.slice(0, WORKER_CHARACTERS_MAX) } : {}),
    ...(isMoment(startedAtMs) ? { startedAtMs } : {}),
  };
}

/** Milliseconds that a Date can be. */
function isMoment(value: unknown): value is number {
  return typeof value === 'number' && value >= 0 && value <= 8.64e15;
}

/** What is kept of an error that was sent: the same bytes when they are one. */
export function keptTaskError(bytes: Buffer): Buffer {
  if (isTaskError(parseJson(bytes.toString()))) return bytes;
  const { error, ...run } = parseAttemptFailure(bytes);
  return Buffer.from(encodeTaskError(error, run));
}

function isTaskError(value: unknown): value is TaskError {
  if (typeof value !== 'object' || value === null) return false;
  const { name, message, code, stack } = value as Record<string, unknown>;
  const texts = [name, message, code, stack ?? ''];
  return stack !== null && texts.every((text) => typeof text === 'string');
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    // Not JSON: the caller takes the text itself.
    return undefined;
  }
}

function textOf(value: unknown): string | undefined {
  if (typeof value === 'string') return value;
  return typeof value === 'number' || typeof value === 'boolean' ? String(value) : undefined;
}
