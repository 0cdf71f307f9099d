import { isUtf8 } from 'node:buffer';
import { headOf } from '../sealing/envelope.ts';

/** An answer that is JSON already. */
export function answer(text: string): Response {
  return new Response(text, { headers: { 'content-type': 'application/json', 'cache-control': 'no-store' } });
}

/**
 * A member with what was stored as it is, or, when that is no JSON, another with its base64, and one with the id of the key
 * that it is encrypted with, if it is.
 */
export function jsonOrBase64(name: string, bytes: Uint8Array): string {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  if (isUtf8(buffer)) {
    const text = buffer.toString('utf8');
    if (isJson(text)) return `"${name}":${text}`;
  }
  const head = headOf(buffer);
  const key = head === undefined ? '' : `,"${name}KeyId":"${head.keyId}"`;
  return `"${name}Base64":"${buffer.toString('base64')}"${key}`;
}

function isJson(text: string): boolean {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}
