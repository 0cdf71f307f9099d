import { readFileSync } from 'node:fs';
import { MillraceError } from '../errors.ts';
import { type EncryptionOptions, parseKeyRing } from '../index.ts';
import { isSystemError, UsageError } from './failure.ts';
import { flag, text, toggle, type Values } from './flags.ts';

/** Of commands that send or read payloads. */
export const KEY_RING_FLAGS = {
  keyRing: flag(
    text('file'),
    'encrypt what is sent, and read what is encrypted: a line ID KEY for each key, the first encrypts',
  ),
};

/** And of those that refuse what is not encrypted. */
export const ENCRYPTION_FLAGS = {
  ...KEY_RING_FLAGS,
  allowPlaintext: toggle('with --key-ring: take what is not encrypted too'),
};

export type EncryptionValues = Values<typeof KEY_RING_FLAGS> & Partial<Values<typeof ENCRYPTION_FLAGS>>;

/** Undefined without a key ring. Throws UsageError for one that cannot be read, in whose message no key stands. */
export function encryptionOf({
  keyRing,
  allowPlaintext = false,
}: Partial<EncryptionValues>): EncryptionOptions | undefined {
  if (keyRing === undefined) {
    if (allowPlaintext)
      throw new UsageError('--allow-plaintext belongs to --key-ring: without one nothing is encrypted');
    return undefined;
  }
  try {
    return { ...parseKeyRing(read(keyRing)), required: !allowPlaintext };
  } catch (error) {
    if (error instanceof MillraceError) throw new UsageError(`the key ring ${keyRing}: ${error.message}`);
    throw error;
  }
}

function read(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    if (!isSystemError(error)) throw error;
    const why = error.code === 'ENOENT' ? 'there is no such file' : error.message;
    throw new UsageError(`cannot read the key ring ${path}: ${why}`);
  }
}
