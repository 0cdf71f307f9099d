import type { TaskError } from '../broker/contract.ts';
import { encodeTaskError } from './settlement-writer.ts';

/**
 * How an attempt failed, as FAIL says it and as RESULT gives it back: JSON `{name, message, code, stack?}`. A worker in
 * another language may send anything in its place; whoever reads it gets the nearest to it that is one.
 */
const TEXT_CHARACTERS_MAX = 1000;

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

/** What is kept of an error that was sent: the same bytes when they are one. */
export function keptTaskError(bytes: Buffer): Buffer {
  return isTaskError(parseJson(bytes.toString())) ? bytes : Buffer.from(encodeTaskError(parseTaskError(bytes)));
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
