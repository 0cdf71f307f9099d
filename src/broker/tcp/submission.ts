import { MillraceError } from '../../errors.ts';
import { LIMITS } from '../../limits.ts';
import { SECTION_FIXED_BYTES } from '../../protocol/batch.ts';
import { payloadBytesBound } from '../../protocol/payloads.ts';
import { encodeSpec } from '../../protocol/spec.ts';
import { checkSubmittedCount } from '../../protocol/submission.ts';
import { packHeaders } from '../../protocol/task-headers.ts';
import type { RelatedTask } from '../contract.ts';

/** What stands behind the tasks of a submission: see protocol/submission.ts. */
export function relationsOf(tasks: readonly RelatedTask[]): object {
  const related: object[] = [];
  for (const [index, { dependsOn, unique }] of tasks.entries()) {
    if (dependsOn.length === 0 && unique === undefined) continue;
    const scope = typeof unique?.scope === 'object' ? unique.scope.forMs : unique?.scope;
    related.push({
      index,
      ...(dependsOn.length === 0 ? {} : { dependsOn: dependsOn.map(({ on, onFailure }) => [on, onFailure]) }),
      ...(unique === undefined ? {} : { unique: { key: unique.key, scope } }),
    });
  }
  // Tasks that have nothing to do with each other and are submitted together all the same.
  if (related.length === 0) related.push({ index: 0 });
  return { tasks: related };
}

/** Throws INVALID_ARGUMENT, or PAYLOAD_TOO_LARGE, when they do not fit into one frame. */
export function submissionBytesBound(tasks: readonly RelatedTask[], trailer: Uint8Array): number {
  checkSubmittedCount(tasks.length);
  let bytes = trailer.length;
  for (const { spec, payload, headers } of tasks) {
    bytes += payloadBytesBound(payload) + encodeSpec(spec).length + SECTION_FIXED_BYTES;
    if (headers !== undefined) bytes += packHeaders(headers).length;
  }
  if (bytes <= LIMITS.frameBytesMax) return bytes;
  const message = `the tasks submitted together take up to ${bytes} bytes; at most ${LIMITS.frameBytesMax} may be: split them over several flows, or store large data elsewhere`;
  throw new MillraceError('PAYLOAD_TOO_LARGE', message, { details: { bytes, bound: LIMITS.frameBytesMax } });
}
