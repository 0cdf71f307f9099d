import type { Payload } from '../broker/contract.ts';
import { MillraceError } from '../errors.ts';
import { LIMITS } from '../limits.ts';
import { checkNotSealed } from '../sealing/sealing.ts';

/** JSON unless a definition says `bytes`. What the broker carries is opaque to it. */
export type Encoding = 'json' | 'bytes';

/**
 * A Uint8Array passes as it is, `undefined` becomes `null`. Throws INVALID_PAYLOAD for what JSON cannot hold (a function,
 * a BigInt, a circle).
 */
export function encodePayload(value: unknown, what: string): Payload {
  if (value === undefined) return 'null';
  let json: string | undefined;
  try {
    if (value instanceof Uint8Array) return value;
    json = JSON.stringify(value);
  } catch (cause) {
    throw new MillraceError('INVALID_PAYLOAD', `${what} cannot be written as JSON: ${reasonOf(cause)}`, { cause });
  }
  if (json === undefined) {
    const message = `${what} is a ${typeof value}, which JSON cannot hold: pass data, or a Uint8Array for bytes`;
    throw new MillraceError('INVALID_PAYLOAD', message);
  }
  return json;
}

/** The first line of what a toJSON threw, which may be anything. */
function reasonOf(thrown: unknown): string {
  try {
    return String(thrown instanceof Error ? thrown.message : thrown).split('\n', 1)[0] as string;
  } catch {
    return 'its toJSON threw something that cannot be shown';
  }
}

/**
 * What a handler returned; `undefined` stays undefined. `moreBytes`: by how much it may still grow. Throws INVALID_PAYLOAD for
 * what cannot be encoded, also for bytes where JSON was agreed, and PAYLOAD_TOO_LARGE.
 */
export function encodeResult(value: unknown, encoding: Encoding, moreBytes = 0): Payload | undefined {
  if (value === undefined) return undefined;
  if (value instanceof Uint8Array !== (encoding === 'bytes')) {
    const message =
      encoding === 'bytes'
        ? `the task was defined with result: 'bytes', but its handler returned a ${typeof value}: return a Uint8Array`
        : `the handler returned bytes: define the task with result: 'bytes'`;
    throw new MillraceError('INVALID_PAYLOAD', message);
  }
  const payload = encodePayload(value, 'the result');
  const bound = LIMITS.resultBytesMax - moreBytes;
  if (payload.length * 3 <= bound) return payload;
  const bytes = typeof payload === 'string' ? Buffer.byteLength(payload) : payload.length;
  if (bytes <= bound) return payload;
  const why = moreBytes === 0 ? '' : ` (${moreBytes} fewer than otherwise, because it is to be encrypted)`;
  const message = `the result has ${bytes} bytes; at most ${bound} are allowed${why}: store large data elsewhere and return where it is`;
  throw new MillraceError('PAYLOAD_TOO_LARGE', message, { details: { bytes, bound } });
}

/** Throws INVALID_PAYLOAD. */
export function decodeJson(text: string, what: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new MillraceError(
      'INVALID_PAYLOAD',
      `${what} is not JSON: define the task with 'bytes' if it is not meant to be`,
      { cause },
    );
  }
}

/** What `encodeResult` made of a result, read back. Throws INVALID_PAYLOAD, and KEY_MISSING for one that is encrypted still. */
export function decodeResult(bytes: Uint8Array | undefined, encoding: Encoding): unknown {
  if (bytes === undefined) return undefined;
  checkNotSealed(bytes, 'the result');
  if (encoding === 'bytes') return bytes;
  return decodeJson(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('utf8'), 'the result');
}
