import { MillraceError, shown } from '../errors.ts';
import { LIMITS } from '../limits.ts';
import { encodePayload } from './codec.ts';

/** The JSON of the contract's TaskProgress. Throws INVALID_PAYLOAD. */
export function encodeProgress(value: unknown, message: unknown): string {
  const json = encodePayload(value, 'the progress value');
  if (typeof json !== 'string' || Buffer.byteLength(json) > LIMITS.progressBytesMax) {
    const text = `a progress value must be JSON of at most ${LIMITS.progressBytesMax} bytes`;
    throw new MillraceError('INVALID_PAYLOAD', text, { details: { bound: LIMITS.progressBytesMax } });
  }
  if (message === undefined) return `{"value":${json}}`;
  if (typeof message === 'string' && Buffer.byteLength(message) <= LIMITS.taskLogLineBytesMax) {
    return `{"value":${json},"message":${JSON.stringify(message)}}`;
  }
  const text = `a progress message must be text of at most ${LIMITS.taskLogLineBytesMax} bytes: ctx.log takes more of it`;
  throw new MillraceError('INVALID_PAYLOAD', text, { details: { bound: LIMITS.taskLogLineBytesMax } });
}

/** What is kept of a log line: a long one is cut. Throws INVALID_PAYLOAD for what is no text. */
export function logLine(text: unknown): string {
  if (typeof text !== 'string') {
    throw new MillraceError('INVALID_PAYLOAD', `a log line must be text, not ${shown(text)}`);
  }
  const bytesMax = LIMITS.taskLogLineBytesMax;
  if (text.length * 3 <= bytesMax || Buffer.byteLength(text) <= bytesMax) return text;
  const bytes = Buffer.from(text.slice(0, bytesMax));
  // The last letter may be cut through.
  return `${bytes.toString('utf8', 0, bytesMax - ELLIPSIS_BYTES).replace(/\uFFFD+$/, '')}…`;
}

const ELLIPSIS_BYTES = Buffer.byteLength('…');
