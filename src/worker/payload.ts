import type { DeliveryRun } from '../broker/contract.ts';
import { checkNotSealed, type Sealing } from '../sealing/sealing.ts';
import { decodeJson, type Encoding } from '../task/codec.ts';

/**
 * A payload as its handler gets it, before any schema. Throws INVALID_PAYLOAD, KEY_MISSING, and with a key ring
 * DECRYPTION_FAILED and NOT_ENCRYPTED.
 */
export function readPayload(
  run: DeliveryRun,
  index: number,
  encoding: Encoding,
  sealing: Sealing | undefined,
): unknown {
  if (encoding === 'bytes') return payloadBytes(run, index, sealing);
  if (sealing !== undefined) return decodeJson(payloadBytes(run, index, sealing).toString('utf8'), WHAT);
  try {
    return decodeJson(run.text(index), WHAT);
  } catch (error) {
    // What is encrypted is never JSON, so nobody else pays for the question.
    checkNotSealed(run.bytes(index), WHAT);
    throw error;
  }
}

/** Throws KEY_MISSING, and with a key ring DECRYPTION_FAILED and NOT_ENCRYPTED. */
export function payloadBytes(run: DeliveryRun, index: number, sealing: Sealing): Buffer;
export function payloadBytes(run: DeliveryRun, index: number, sealing: Sealing | undefined): Uint8Array;
export function payloadBytes(run: DeliveryRun, index: number, sealing: Sealing | undefined): Uint8Array {
  const bytes = run.bytes(index);
  if (sealing !== undefined) return sealing.openPayload(bytes, run.spec);
  checkNotSealed(bytes, WHAT);
  return bytes;
}

const WHAT = 'the payload';
