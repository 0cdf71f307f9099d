import { createCipheriv, createDecipheriv, createSecretKey, hkdfSync, type KeyObject, randomBytes } from 'node:crypto';
import type { Payload, TaskError } from '../broker/contract.ts';
import { MillraceError, shown } from '../errors.ts';
import { LIMITS } from '../limits.ts';
import {
  COUNT_BYTES,
  headOf,
  isSealed,
  PURPOSE,
  readStamp,
  SALT_BYTES,
  stampOf,
  TAG_BYTES,
  type TaskKey,
  VERSION,
  VERSION_AT,
  withLength,
  writeHead,
} from './envelope.ts';
import { KEY_BYTES, type KeyRing } from './key-ring.ts';

const ALGORITHM = 'aes-256-gcm';
const OPTIONS = { authTagLength: TAG_BYTES } as const;
/** Of the format: which keys are derived from those of the ring. */
const DERIVATION = 'millrace sealing 1';
/** Envelopes with one salt: far below what the count holds, and what a key may be used for. */
const COUNT_MAX = 2 ** 32;
/** Six bytes of zeros, then the count. Written anew for each use; ciphers copy it. */
const nonce = Buffer.alloc(12);
const COUNT_AT = nonce.length - COUNT_BYTES;

/**
 * A key of the ring never encrypts anything itself: with each salt goes a key that is derived from it, under which the nonce is
 * a count. So no nonce comes twice however many processes encrypt however much, where nonces that are drawn would allow 2^32
 * envelopes a key (NIST SP 800-38D, 8.3).
 */
interface Sender {
  readonly keyId: string;
  readonly head: Buffer;
  readonly key: KeyObject;
  /** What payloads of a spec are bound to; specs are few, and each is one object. */
  readonly bonds: WeakMap<TaskKey, Buffer>;
}

/** Where a result or an error is; what is unknown is not compared. */
export interface Origin {
  readonly id: string;
  readonly queue?: string | undefined;
  readonly name?: string | undefined;
}

/** Codes of errors whose texts are ours and hold no data; those of all others may repeat what is in a payload. */
const LEGIBLE: readonly string[] = [
  'NO_HANDLER',
  'TASK_TIMEOUT',
  'PAYLOAD_TOO_LARGE',
  'KEY_MISSING',
  'DECRYPTION_FAILED',
  'NOT_ENCRYPTED',
];
const ERROR_TEXT = 'the text of this error is encrypted';
const ERROR_PREFIX = 'encrypted:';

/** Encrypts what leaves a client, and decrypts what comes to it, with the keys of a ring. */
export class Sealing {
  readonly ring: KeyRing;
  #own: { sender: Sender; count: number } | undefined;
  readonly #others = new Map<string, Sender>();
  /** The sender of the envelope before: mostly that of the next. */
  #last: Sender | undefined;

  constructor(ring: KeyRing) {
    this.ring = ring;
  }

  /** `index`: which of several; `boundBytes` holds for what is encrypted. Throws PAYLOAD_TOO_LARGE. */
  sealPayload(payload: Payload, task: TaskKey, index?: number, boundBytes: number = LIMITS.payloadBytesMax): Buffer {
    const { sender, count } = this.#next();
    const sealed = seal(sender, count, payload, payloadBond(sender, task));
    if (sealed.length > boundBytes) throw tooLarge(payload, index, sealed.length, boundBytes);
    return sealed;
  }

  /** Throws KEY_MISSING, DECRYPTION_FAILED, NOT_ENCRYPTED. */
  openPayload(bytes: Uint8Array, task: TaskKey): Buffer {
    const what = 'the payload';
    const sealed = asBuffer(bytes);
    if (!isSealed(sealed)) return this.#asItIs(sealed, what);
    const sender = this.#senderOf(sealed, what);
    const opened = open(sender, sealed, sender.head.length + COUNT_BYTES, payloadBond(sender, task));
    if (opened !== undefined) return opened;
    const { queue, name } = task;
    throw broken(what, sender, `or it was made for another queue or task name than ${shown(queue)} and ${shown(name)}`);
  }

  /** Is at most OVERHEAD_BYTES_MAX longer than the result. */
  sealResult(result: Payload, task: TaskKey, id: string): Buffer {
    return this.#sealOf(PURPOSE.RESULT, result, task, id);
  }

  /** Throws KEY_MISSING, DECRYPTION_FAILED, NOT_ENCRYPTED. */
  openResult(bytes: Uint8Array, origin: Origin): Buffer {
    const what = `the result of task ${origin.id}`;
    const sealed = asBuffer(bytes);
    return isSealed(sealed) ? this.#openOf(PURPOSE.RESULT, sealed, origin, what) : this.#asItIs(sealed, what);
  }

  /** Its kind stays legible, and so does all that cannot tell of a payload. */
  sealError(error: TaskError, task: TaskKey, id: string): TaskError {
    if (LEGIBLE.includes(error.code)) return error;
    const sealed = this.#sealOf(PURPOSE.ERROR, boundedText(error), task, id);
    const { name, code } = error;
    return { name, message: ERROR_TEXT, code, stack: ERROR_PREFIX + sealed.toString('base64') };
  }

  /** As it is where it cannot be decrypted: its code is what counts. */
  openError(error: TaskError, origin: Origin): TaskError {
    const { stack: envelope } = error;
    if (envelope?.startsWith(ERROR_PREFIX) !== true) return error;
    const sealed = Buffer.from(envelope.slice(ERROR_PREFIX.length), 'base64');
    try {
      const text = this.#openOf(PURPOSE.ERROR, sealed, origin, 'the text of the error');
      const { message, stack } = JSON.parse(text.toString('utf8')) as Pick<TaskError, 'message' | 'stack'>;
      const { name, code } = error;
      return stack === undefined ? { name, message, code } : { name, message, code, stack };
    } catch {
      return error;
    }
  }

  /** What is bound to one task stands in the envelope: who reads a result knows no more than the task's id. */
  #sealOf(purpose: number, content: Payload, task: TaskKey, id: string): Buffer {
    const { sender, count } = this.#next();
    const stamp = stampOf(task);
    return seal(sender, count, content, taskBond(sender, purpose, stamp, id), stamp);
  }

  #openOf(purpose: number, sealed: Buffer, { id, queue, name }: Origin, what: string): Buffer {
    const sender = this.#senderOf(sealed, what);
    const stampAt = sender.head.length + COUNT_BYTES;
    const stamp = readStamp(sealed, stampAt);
    if (stamp === undefined) throw broken(what, sender, 'or is cut off');
    const bond = taskBond(sender, purpose, sealed.subarray(stampAt, stamp.end), id);
    const opened = open(sender, sealed, stamp.end, bond);
    if (opened === undefined) throw broken(what, sender, 'or it is of another task');
    const isExpected = (queue ?? stamp.queue) === stamp.queue && (name ?? stamp.name) === stamp.name;
    if (isExpected) return opened;
    throw broken(what, sender, `or it is of another task, ${shown(stamp.name)} in the queue ${shown(stamp.queue)}`);
  }

  #asItIs(bytes: Buffer, what: string): Buffer {
    if (!this.ring.required) return bytes;
    const message = `${what} is not encrypted, and this client takes only what is: give a key ring to whoever has sent it, or take both for a time with encryption.required: false`;
    throw new MillraceError('NOT_ENCRYPTED', message);
  }

  #next(): { sender: Sender; count: number } {
    if (this.#own === undefined || this.#own.count >= COUNT_MAX) {
      const { keys, use } = this.ring;
      // Not of src/io: were it ever a generator that a test has seeded, keys and nonces would repeat.
      const head = writeHead(use, randomBytes(SALT_BYTES));
      this.#own = { sender: senderOf(use, head, keys.get(use) as Uint8Array), count: 0 };
    }
    const { sender, count } = this.#own;
    this.#own.count++;
    return { sender, count };
  }

  #senderOf(sealed: Buffer, what: string): Sender {
    const last = this.#last;
    if (last !== undefined && startsWith(sealed, last.head)) return last;
    const head = headOf(sealed);
    if (head === undefined) throw illegible(sealed, what);
    const bytes = sealed.subarray(0, head.length);
    const name = bytes.toString('latin1');
    let sender = this.#others.get(name);
    if (sender === undefined) {
      const key = this.ring.keys.get(head.keyId);
      if (key === undefined) throw keyMissing(what, head.keyId, this.ring);
      sender = senderOf(head.keyId, Buffer.from(bytes), key);
      if (this.#others.size >= LIMITS.sealingSendersMax)
        this.#others.delete(this.#others.keys().next().value as string);
      this.#others.set(name, sender);
    }
    this.#last = sender;
    return sender;
  }
}

/** For who has no ring, or not the key. */
export function keyMissing(what: string, keyId: string, ring?: KeyRing): MillraceError {
  const remedy =
    ring === undefined
      ? 'there is no key ring here: give connect the option encryption, or a command --key-ring'
      : `the key ring here has ${[...ring.keys.keys()].join(', ')}: add it to the ring of everybody who reads before anybody encrypts with it`;
  return new MillraceError('KEY_MISSING', `${what} is encrypted with the key ${shown(keyId)}; ${remedy}`, {
    details: { keyId },
  });
}

/** What is encrypted must not be taken for data where there is no ring. Throws KEY_MISSING. */
export function checkNotSealed(bytes: Uint8Array, what: string): void {
  if (!isSealed(bytes)) return;
  const head = headOf(bytes);
  if (head === undefined) throw illegible(asBuffer(bytes), what);
  throw keyMissing(what, head.keyId);
}

function senderOf(keyId: string, head: Buffer, secret: Uint8Array): Sender {
  const salt = head.subarray(head.length - SALT_BYTES);
  const derived = Buffer.from(hkdfSync('sha256', secret, salt, DERIVATION, KEY_BYTES));
  return { keyId, head, key: createSecretKey(derived), bonds: new WeakMap() };
}

function seal(
  { head, key }: Sender,
  count: number,
  content: Payload,
  bond: Buffer,
  stamp: Buffer | undefined = undefined,
): Buffer {
  nonce.writeUIntBE(count, COUNT_AT, COUNT_BYTES);
  const cipher = createCipheriv(ALGORITHM, key, nonce, OPTIONS);
  cipher.setAAD(bond);
  const text = typeof content === 'string' ? cipher.update(content, 'utf8') : cipher.update(content);
  cipher.final();
  const parts = [head, nonce.subarray(COUNT_AT), text, cipher.getAuthTag()];
  if (stamp !== undefined) parts.splice(2, 0, stamp);
  return Buffer.concat(parts);
}

/** Undefined when the tag is not that of the rest. */
function open({ head, key }: Sender, sealed: Buffer, from: number, bond: Buffer): Buffer | undefined {
  const tagAt = sealed.length - TAG_BYTES;
  if (tagAt < from) return undefined;
  sealed.copy(nonce, COUNT_AT, head.length, head.length + COUNT_BYTES);
  const decipher = createDecipheriv(ALGORITHM, key, nonce, OPTIONS);
  decipher.setAAD(bond);
  decipher.setAuthTag(sealed.subarray(tagAt));
  const content = decipher.update(sealed.subarray(from, tagAt));
  try {
    decipher.final();
  } catch {
    // The one thing that it throws for; the caller knows what it was to be.
    return undefined;
  }
  return content;
}

function payloadBond(sender: Sender, task: TaskKey): Buffer {
  let bond = sender.bonds.get(task);
  if (bond === undefined) {
    bond = Buffer.concat([sender.head, Buffer.from([PURPOSE.PAYLOAD]), stampOf(task)]);
    sender.bonds.set(task, bond);
  }
  return bond;
}

function taskBond({ head }: Sender, purpose: number, stamp: Buffer, id: string): Buffer {
  return Buffer.concat([head, Buffer.from([purpose]), stamp, withLength(id)]);
}

/** The stack is cut where both would be too long. */
function boundedText({ message, stack }: TaskError): string {
  const bound = LIMITS.sealedErrorBytesMax;
  const whole = JSON.stringify({ message, stack });
  if (stack === undefined || Buffer.byteLength(whole) <= bound) return whole;
  // Each character takes at most 6 bytes of JSON ("\u0001").
  const room = Math.floor((bound - Buffer.byteLength(JSON.stringify({ message, stack: '…' }))) / 6);
  return JSON.stringify({ message, stack: `${stack.slice(0, Math.max(0, room))}…` });
}

function startsWith(bytes: Buffer, head: Buffer): boolean {
  return bytes.length > head.length && bytes.compare(head, 0, head.length, 0, head.length) === 0;
}

function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
}

function tooLarge(payload: Payload, index: number | undefined, sealedBytes: number, bound: number): MillraceError {
  const which = index === undefined ? 'the payload' : `payload ${index}`;
  const bytes = typeof payload === 'string' ? Buffer.byteLength(payload) : payload.length;
  const more = sealedBytes - bytes;
  const message = `${which} has ${bytes} bytes, and ${more} more when it is encrypted; at most ${bound} are allowed together: store large data elsewhere and enqueue where it is`;
  const details = { bytes, encryptedBytes: sealedBytes, bound, index };
  return new MillraceError('PAYLOAD_TOO_LARGE', message, { details });
}

function broken(what: string, { keyId }: Sender, otherwise: string): MillraceError {
  const message = `${what} cannot be decrypted: it was changed since it was encrypted with the key ${shown(keyId)}, ${otherwise}`;
  return new MillraceError('DECRYPTION_FAILED', message, { details: { keyId } });
}

function illegible(sealed: Buffer, what: string): MillraceError {
  const message = `${what} is encrypted, but in no way that is known here (version ${sealed[VERSION_AT] ?? 'missing'}; this is ${VERSION}): it is damaged, or of a newer release`;
  return new MillraceError('DECRYPTION_FAILED', message);
}
