import type { TaskError } from '../broker/contract.ts';
import { LIMITS } from '../limits.ts';

/** What two failures must have in common to be of one kind. */
export interface ErrorKind {
  readonly queue: string;
  /** The task's. */
  readonly name: string;
  readonly code: string;
  /** The error's name. */
  readonly error: string;
  readonly message: string;
}

export function errorKind(queue: string, name: string, error: TaskError): ErrorKind {
  return { queue, name, code: error.code, error: error.name, message: commonMessage(error.message) };
}

const UUID = /\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b/gi;
/** What stands in quotes and has a digit is taken for an id; `reading 'foo'` is not. */
const QUOTED_ID = /(["'`«“‘])[^\s"'`«»“”‘’]*\d[^\s"'`«»“”‘’]*(["'`»”’])/g;
const HEX = /\b0x[0-9a-f]+\b|\b(?=[a-f]*\d)(?=\d*[a-f])[0-9a-f]{6,}\b/gi;
const NUMBER = /\d+(?:[.,:]\d+)*/g;

/** A message without what differs from task to task. */
export function commonMessage(message: string): string {
  // What is replaced grows shorter, or by little: so much of the beginning is enough.
  const beginning = message.slice(0, 4 * LIMITS.groupMessageCharactersMax);
  const common = beginning.replace(UUID, '#').replace(QUOTED_ID, '$1#$2').replace(HEX, '#').replace(NUMBER, '#');
  return common.slice(0, LIMITS.groupMessageCharactersMax);
}

/** A name for the kind: 64 bits of a hash, so that it can stand in a URL. Always the same for the same. */
export function groupOf({ queue, name, code, error, message }: ErrorKind): string {
  const text = JSON.stringify([queue, name, code, error, message]);
  let low = 0x81_1c_9d_c5;
  let high = 0x9e_37_79_b9;
  for (let at = 0; at < text.length; at++) {
    const unit = text.charCodeAt(at);
    low = Math.imul(low ^ unit, 0x01_00_01_93);
    high = Math.imul(high ^ unit, 0x85_eb_ca_6b);
    high ^= high >>> 15;
  }
  return hex(mixed(high ^ low)) + hex(mixed(low + text.length));
}

function mixed(hash: number): number {
  const once = Math.imul(hash ^ (hash >>> 16), 0x7f_eb_35_2d);
  const twice = Math.imul(once ^ (once >>> 15), 0x84_6c_a6_8b);
  return twice ^ (twice >>> 16);
}

function hex(word: number): string {
  return (word >>> 0).toString(16).padStart(8, '0');
}

/** Whether the text, in lower case, is in the error's name, message or code. */
export function containsText({ name, message, code }: TaskError, text: string): boolean {
  return [message, name, code].some((each) => each.toLowerCase().includes(text));
}
