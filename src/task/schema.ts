import type { StandardSchemaV1 } from '@standard-schema/spec';
import { MillraceError, shown } from '../errors.ts';

/** What the schema makes of a value, at once or later. Throws or rejects with INVALID_PAYLOAD naming every issue. */
export function validate(schema: StandardSchemaV1, value: unknown, what: string): unknown {
  const result = ask(schema, value, what);
  if (!(result instanceof Promise)) return unwrap(result, what);
  return result.then(
    (later) => unwrap(later, what),
    (cause: unknown) => {
      throw threw(cause, what);
    },
  );
}

/** For places that cannot wait. Throws INVALID_PAYLOAD, also for a schema that validates asynchronously. */
export function validateNow(schema: StandardSchemaV1, value: unknown, what: string): unknown {
  const result = ask(schema, value, what);
  if (!(result instanceof Promise)) return unwrap(result, what);
  // Whatever it will say, nobody asks any more.
  result.catch(() => {});
  throw new MillraceError(
    'INVALID_PAYLOAD',
    `the schema of ${what} validates asynchronously; a batch handler needs one that does not`,
  );
}

const ISSUES_SHOWN = 20;

function ask(
  schema: StandardSchemaV1,
  value: unknown,
  what: string,
): ReturnType<StandardSchemaV1['~standard']['validate']> {
  try {
    return schema['~standard'].validate(value);
  } catch (cause) {
    throw threw(cause, what);
  }
}

/** A schema with code of its user's own in it may. */
function threw(cause: unknown, what: string): MillraceError {
  const reason = cause instanceof Error ? cause.message : shown(cause);
  return new MillraceError('INVALID_PAYLOAD', `the schema of ${what} threw: ${reason}`, { cause });
}

function unwrap(result: StandardSchemaV1.Result<unknown>, what: string): unknown {
  if (result.issues === undefined) return result.value;
  const issues = result.issues.map((issue) => {
    const path = (issue.path ?? []).map((part) => String(typeof part === 'object' ? part.key : part)).join('.');
    // Some libraries say it themselves.
    return path === '' || issue.message.startsWith(`${path} `) ? issue.message : `${path}: ${issue.message}`;
  });
  const more = issues.length > ISSUES_SHOWN ? `; and ${issues.length - ISSUES_SHOWN} more` : '';
  const message = `${what} does not match its schema: ${issues.slice(0, ISSUES_SHOWN).join('; ')}${more}`;
  throw new MillraceError('INVALID_PAYLOAD', message, { details: { issues } });
}
