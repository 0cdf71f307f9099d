import { isUtf8 } from 'node:buffer';
import type { Payload } from '../broker/contract.ts';

/** A payload, or a result, in JSON: base64 when it is not UTF-8 text. */
export interface EncodedBytes {
  encoding: 'utf8' | 'base64';
  data: string;
}

export function encodeBytes(payload: Payload): EncodedBytes {
  if (typeof payload === 'string') return { encoding: 'utf8', data: payload };
  const bytes = Buffer.from(payload.buffer, payload.byteOffset, payload.length);
  return isUtf8(bytes)
    ? { encoding: 'utf8', data: bytes.toString('utf8') }
    : { encoding: 'base64', data: bytes.toString('base64') };
}
