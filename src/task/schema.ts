import type { StandardSchemaV1 } from '@standard-schema/spec';
import { MillraceError } from '../errors.ts';

/** What the schema makes of a value, at once or later. Throws or rejects with INVALID_PAYLOAD naming every issue. */
export function validate(schema: StandardSchemaV1, value: unknown, what: string): unknown {
  const result = schema['~standard'].validate(value);
  return result instanceof Promise ? result.then((later) => unwrap(later, what)) : unwrap(result, what);
}

/** For places that cannot wait. Throws INVALID_PAYLOAD, also for a schema that validates asynchronously. */
export function validateNow(schema: StandardSchemaV1, value: unknown, what: string): unknown {
  const result = schema['~standard'].validate(value);
  if (!(result instanceof Promise)) return unwrap(result, what);
  throw new MillraceError(
    'INVALID_PAYLOAD',
    `the schema of ${what} validates asynchronously; a batch handler needs one that does not`,
  );
}

const ISSUES_SHOWN = 5;

function unwrap(result: StandardSchemaV1.Result<unknown>, what: string): unknown {
  if (result.issues === undefined) return result.value;
  const issues = result.issues.map((issue) => {
    const path = (issue.path ?? []).map((part) => String(typeof part === 'object' ? part.key : part)).join('.');
    return path === '' ? issue.message : `${path}: ${issue.message}`;
  });
  const more = issues.length > ISSUES_SHOWN ? `; and ${issues.length - ISSUES_SHOWN} more` : '';
  const message = `${what} does not match its schema: ${issues.slice(0, ISSUES_SHOWN).join('; ')}${more}`;
  throw new MillraceError('INVALID_PAYLOAD', message, { details: { issues } });
}
