import { LIMITS } from '../limits.ts';

/**
 * What stands in place of a payload, a result or the text of an error when it is encrypted. docs/encryption.md describes it
 * for programs in other languages.
 *
 *   bytes
 *       7  magic: F5, which is in no UTF-8 text, so that no JSON begins like it, and "mrseal"
 *       1  version, 1
 *       1  length of the key id, 1 to 32
 *       …  key id: letters, digits, `.`, `_`, `-`
 *      16  salt, drawn by whoever encrypts, once for many envelopes
 *       6  count of his envelopes with this salt, big-endian: the end of the nonce
 *       …  stamp, only of results and errors: length (1 byte) and text of the task's queue, then of its name
 *       …  ciphertext
 *      16  tag
 *
 * To change anything here, add a version: readers take all versions that they know, and nobody writes one before those that
 * read have had a release to learn it.
 */
const MAGIC = Buffer.from([0xf5, ...Buffer.from('mrseal')]);
export const VERSION = 1;
export const VERSION_AT = MAGIC.length;
const KEY_ID_AT = VERSION_AT + 2;
export const SALT_BYTES = 16;
export const COUNT_BYTES = 6;
export const TAG_BYTES = 16;

/** By how much an envelope may be longer than what is in it. */
export const OVERHEAD_BYTES_MAX =
  KEY_ID_AT +
  LIMITS.keyIdBytesMax +
  SALT_BYTES +
  COUNT_BYTES +
  2 +
  LIMITS.queueNameBytesMax +
  LIMITS.taskNameBytesMax +
  TAG_BYTES;

const KEY_ID = /^[A-Za-z0-9._-]+$/;

export function isKeyId(text: string): boolean {
  return text.length <= LIMITS.keyIdBytesMax && KEY_ID.test(text);
}

export function isSealed(bytes: Uint8Array): boolean {
  // Nearly everything that is not ends here.
  if (bytes[0] !== MAGIC[0] || bytes.length < MAGIC.length) return false;
  for (let index = 1; index < MAGIC.length; index++) if (bytes[index] !== MAGIC[index]) return false;
  return true;
}

/** All that envelopes of one sender begin with, up to the count. */
export interface Head {
  readonly keyId: string;
  readonly salt: Buffer;
  readonly length: number;
}

/** Undefined for what is no envelope of a version that is known here. */
export function headOf(bytes: Uint8Array): Head | undefined {
  if (!isSealed(bytes) || bytes[VERSION_AT] !== VERSION) return undefined;
  const saltAt = KEY_ID_AT + (bytes[KEY_ID_AT - 1] ?? 0);
  const length = saltAt + SALT_BYTES;
  if (bytes.length < length + COUNT_BYTES + TAG_BYTES) return undefined;
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  const keyId = buffer.toString('latin1', KEY_ID_AT, saltAt);
  return isKeyId(keyId) ? { keyId, salt: buffer.subarray(saltAt, length), length } : undefined;
}

export function writeHead(keyId: string, salt: Uint8Array): Buffer {
  return Buffer.concat([MAGIC, Buffer.from([VERSION, keyId.length]), Buffer.from(keyId, 'latin1'), salt]);
}

/** A head in base64 is never longer, whatever follows. */
const HEAD_BASE64_CHARACTERS =
  Math.ceil((KEY_ID_AT + LIMITS.keyIdBytesMax + SALT_BYTES + COUNT_BYTES + TAG_BYTES) / 3) * 4;

/** The id of the key that bytes, as the info of a task or schedule shows them, are encrypted with; undefined when they are not. */
export function sealedWith({ encoding, data }: { encoding: 'utf8' | 'base64'; data: string }): string | undefined {
  if (encoding !== 'base64') return undefined;
  return headOf(Buffer.from(data.slice(0, HEAD_BASE64_CHARACTERS), 'base64'))?.keyId;
}

/**
 * What an envelope is bound to, so that it opens nowhere else: part of what its tag authenticates. The numbers are part of the
 * format.
 */
export const PURPOSE = { PAYLOAD: 1, RESULT: 2, ERROR: 3 } as const;

export interface TaskKey {
  readonly queue: string;
  readonly name: string;
}

export function stampOf({ queue, name }: TaskKey): Buffer {
  return Buffer.concat([withLength(queue), withLength(name)]);
}

/** Undefined when there is none at `at`. */
export function readStamp(bytes: Buffer, at: number): (TaskKey & { end: number }) | undefined {
  const nameAt = at + 1 + (bytes[at] ?? bytes.length);
  const end = nameAt + 1 + (bytes[nameAt] ?? bytes.length);
  if (end > bytes.length) return undefined;
  return { queue: bytes.toString('utf8', at + 1, nameAt), name: bytes.toString('utf8', nameAt + 1, end), end };
}

/** Names and ids have at most 128 bytes. */
export function withLength(text: string): Buffer {
  const bytes = Buffer.from(text);
  return Buffer.concat([Buffer.from([bytes.length]), bytes]);
}
