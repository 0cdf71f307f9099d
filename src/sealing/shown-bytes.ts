import type { ShownBytes } from '../broker/contract.ts';
import { MillraceError } from '../errors.ts';
import { encodeBytes } from '../protocol/encoded-bytes.ts';
import { isSealed, sealedWith } from './envelope.ts';

type Open = (bytes: Buffer) => Buffer;

/** Throws what `open` does. */
export function opened(shown: ShownBytes, open: Open): ShownBytes {
  const bytes = Buffer.from(shown.data, shown.encoding);
  const content = open(bytes);
  return isSealed(bytes) ? withKeyId(encodeBytes(content), sealedWith(shown)) : shown;
}

/** For who only looks: what cannot be decrypted, or is refused, is shown as it is stored, with the reason. */
export function shownOpened(shown: ShownBytes, open: Open): ShownBytes {
  try {
    return opened(shown, open);
  } catch (error) {
    if (!(error instanceof MillraceError)) throw error;
    return { ...withKeyId(shown, sealedWith(shown)), refused: error.code };
  }
}

function withKeyId(shown: ShownBytes, keyId: string | undefined): ShownBytes {
  return keyId === undefined ? shown : { ...shown, keyId };
}
