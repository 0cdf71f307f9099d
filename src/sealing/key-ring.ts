import { MillraceError, shown } from '../errors.ts';
import { checkObject, LIMITS } from '../limits.ts';
import { isKeyId } from './envelope.ts';

/** Payloads, results and the texts of errors are encrypted before they leave the client. */
export interface EncryptionOptions {
  /**
   * Keys by their ids: 32 random bytes each, or the base64 of these (`openssl rand -base64 32`). An id is 1 to 32 letters,
   * digits, `.`, `_` and `-`, and is no secret: it stands in front of what was encrypted with its key.
   */
  keys: Readonly<Record<string, Uint8Array | string>>;
  /** The id of the key that encrypts; all of them decrypt. Default: the key, when there is one only. */
  use?: string | undefined;
  /**
   * Refuse payloads and results that are not encrypted, which anybody can enqueue who reaches the server. Default true; false
   * is for the time in which a system begins to encrypt.
   */
  required?: boolean | undefined;
}

/** Plain data: it goes to other threads as it is. */
export interface KeyRing {
  readonly keys: ReadonlyMap<string, Uint8Array>;
  /** The id of the key that encrypts. */
  readonly use: string;
  readonly required: boolean;
}

const OPTION_KEYS = ['keys', 'use', 'required'];
export const KEY_BYTES = 32;
const BASE64 = /^[A-Za-z0-9+/]{43}=$/;
const MAKE_ONE = 'make one with: openssl rand -base64 32';

/** Throws INVALID_ARGUMENT, in whose message no key stands. */
export function resolveKeyRing(options: EncryptionOptions): KeyRing {
  checkObject('encryption', options);
  for (const key of Object.keys(options)) {
    if (OPTION_KEYS.includes(key)) continue;
    throw invalid(`encryption has no option ${shown(key)}; there are ${OPTION_KEYS.join(', ')}`);
  }
  const { keys: given, required = true } = options;
  checkObject('encryption.keys', given);
  if (typeof required !== 'boolean') throw invalid(`encryption.required must be true or false, not ${shown(required)}`);
  const keys = new Map<string, Uint8Array>();
  for (const [id, key] of Object.entries(given)) addKey(keys, id, key, 'encryption.keys');
  if (keys.size === 0) throw invalid(`encryption.keys is empty: give it a key; ${MAKE_ONE}`);
  return { keys, use: resolveUse(options.use, keys), required };
}

function addKey(keys: Map<string, Uint8Array>, id: string, given: unknown, where: string): void {
  checkKeyId(id, where);
  if (keys.size >= LIMITS.keyRingKeysMax) {
    const bound = LIMITS.keyRingKeysMax;
    throw invalid(`a key ring has at most ${bound} keys: remove those that nothing is encrypted with any more`, {
      bound,
    });
  }
  const key = bytesOf(id, given);
  for (const [other, bytes] of keys) {
    if (Buffer.compare(bytes, key) !== 0) continue;
    throw invalid(`the keys ${shown(other)} and ${shown(id)} are the same: a new id needs a new key; ${MAKE_ONE}`);
  }
  keys.set(id, key);
}

/** Does not show what may be a key in the place of its id. */
function checkKeyId(id: string, where: string): void {
  if (isKeyId(id)) return;
  const bound = LIMITS.keyIdBytesMax;
  const message = `${where} has an id of ${id.length} characters that is none: allowed are 1 to ${bound} letters, digits, ".", "_" and "-"`;
  throw invalid(message, { bound });
}

/** What is wrong with a key is told by its kind and length only: messages end up in logs. */
function bytesOf(id: string, given: unknown): Uint8Array {
  if (given instanceof Uint8Array) {
    // A copy: nobody changes the ring from outside.
    if (given.length === KEY_BYTES) return Uint8Array.from(given);
    throw invalid(`the key ${shown(id)} has ${given.length} bytes; AES-256 takes ${KEY_BYTES}: ${MAKE_ONE}`);
  }
  if (typeof given !== 'string') {
    throw invalid(`the key ${shown(id)} must be a Uint8Array or base64, not ${given === null ? 'null' : typeof given}`);
  }
  const text = given.trim();
  if (BASE64.test(text)) return Uint8Array.from(Buffer.from(text, 'base64'));
  const message = `the key ${shown(id)} is a text of ${text.length} characters and not the base64 of ${KEY_BYTES} bytes, which has 44: ${MAKE_ONE}`;
  throw invalid(message);
}

function resolveUse(use: unknown, keys: ReadonlyMap<string, Uint8Array>): string {
  const ids = [...keys.keys()];
  const known = ids.map((id) => shown(id)).join(', ');
  if (use === undefined) {
    if (ids.length === 1) return ids[0] as string;
    throw invalid(`encryption has the keys ${known}: say with encryption.use which of them encrypts`);
  }
  if (typeof use === 'string' && keys.has(use)) return use;
  const what = typeof use === 'string' && !isKeyId(use) ? 'a text that is no id of a key' : shown(use);
  throw invalid(`encryption.use is ${what}; it must be one of ${known}`);
}

/**
 * A key ring from a text, such as a file or a secret that a service keeps: a line `ID KEY` for each key, the key in base64,
 * and lines that begin with `#`. The first key encrypts, all of them decrypt. Throws INVALID_ARGUMENT.
 */
export function parseKeyRing(text: string): EncryptionOptions & { use: string } {
  if (typeof text !== 'string')
    throw invalid(`a key ring is a text with a line ID KEY for each key, not ${shown(text)}`);
  const keys = new Map<string, Uint8Array>();
  for (const [index, line] of text.split('\n').entries()) {
    const [id, key, ...rest] = line.trim().split(/\s+/);
    if (id === undefined || id === '' || id.startsWith('#')) continue;
    if (key === undefined || rest.length > 0) {
      throw invalid(`line ${index + 1} of the key ring is not of the form ID KEY, the key in base64`);
    }
    if (keys.has(id)) throw invalid(`line ${index + 1} of the key ring has the id ${shown(id)} once more`);
    addKey(keys, id, key, `line ${index + 1} of the key ring`);
  }
  const [use] = keys.keys();
  if (use === undefined) throw invalid(`the key ring has no key: write a line ID KEY; ${MAKE_ONE}`);
  return { keys: Object.fromEntries(keys), use };
}

function invalid(message: string, details: Record<string, unknown> = {}): MillraceError {
  return new MillraceError('INVALID_ARGUMENT', message, { details });
}
