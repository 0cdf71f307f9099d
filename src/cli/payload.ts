import type { ShownBytes } from '../broker/contract.ts';
import { sealedWith } from '../sealing/envelope.ts';
import { UsageError } from './failure.ts';
import { cut } from './table.ts';
import { formatBytes, formatCount } from './units.ts';

const TEXT_SHOWN_MAX = 2000;

/** Throws UsageError for an argument that is not JSON. */
export function checkJson(payload: string): void {
  try {
    JSON.parse(payload);
  } catch (error) {
    throw new UsageError(`the payload is not JSON: ${(error as Error).message} (text goes in quotes: '"text"')`);
  }
}

/** A payload or a result, as far as it fits a screen. */
export function describeBytes(shown: ShownBytes): string {
  const { encoding, data, keyId, refused } = shown;
  // Without a key ring nobody has looked whether it is encrypted.
  const lockedWith = refused === undefined && keyId !== undefined ? undefined : (keyId ?? sealedWith(shown));
  if (lockedWith !== undefined) {
    const bytes = formatBytes(Buffer.byteLength(data, 'base64'));
    return `${bytes}, encrypted with the key ${lockedWith}${LOCKED[refused ?? ''] ?? ''}`;
  }
  const rest = data.length - TEXT_SHOWN_MAX;
  const more = rest > 0 ? ` (${formatCount(rest)} more characters: see --json)` : '';
  const kind = encoding === 'base64' ? ' (base64: it is no text)' : '';
  const how = keyId === undefined ? (OPEN[refused ?? ''] ?? '') : ` (encrypted with the key ${keyId})`;
  return `${cut(data, TEXT_SHOWN_MAX)}${more}${kind}${how}`;
}

/** By why it was refused; '' when it was not. */
const LOCKED: Readonly<Record<string, string>> = {
  '': ': --key-ring reads it',
  KEY_MISSING: ', which is not in the key ring',
  DECRYPTION_FAILED: ', but changed since, or not of this task',
};
const OPEN: Readonly<Record<string, string>> = {
  NOT_ENCRYPTED: ' (not encrypted: who has a key ring refuses it)',
  DECRYPTION_FAILED: ' (encrypted, but damaged or of a newer release)',
};
