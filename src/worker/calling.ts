import { types } from 'node:util';
import type { SingleHandler } from '../task/handler.ts';
import { validate } from '../task/schema.ts';
import type { Attempt } from './attempt.ts';
import { PayloadRefused } from './failures.ts';

/** Calls a handler, with its input and result checked by its schemas, if it has any. Throws and rejects with PayloadRefused too. */
export function call(handler: SingleHandler, input: unknown, attempt: Attempt): unknown {
  return handler.format.input === undefined && handler.format.output === undefined
    ? handler.run(input, attempt)
    : runChecked(handler, input, attempt);
}

async function runChecked(handler: SingleHandler, input: unknown, attempt: Attempt): Promise<unknown> {
  const { input: inputSchema, output: outputSchema, name } = handler.format;
  let checked = input;
  if (inputSchema !== undefined) checked = await check(() => validate(inputSchema, input, `the input of ${name}`));
  const returned = await handler.run(checked, attempt);
  if (outputSchema !== undefined) await check(() => validate(outputSchema, returned, `the result of ${name}`));
  return returned;
}

async function check(validation: () => unknown): Promise<unknown> {
  try {
    return await validation();
  } catch (cause) {
    throw new PayloadRefused('', { cause });
  }
}

const THEN = Promise.prototype.then;

/** What to wait for, if anything. Throws what a `then` that is not the language's own throws. */
export function pendingOf(returned: unknown): Promise<unknown> | undefined {
  if (types.isPromise(returned) && returned.constructor === Promise && returned.then === THEN) return returned;
  if (typeof returned !== 'function' && (typeof returned !== 'object' || returned === null)) return undefined;
  const { then } = returned as { then?: unknown };
  return typeof then === 'function'
    ? new Promise((resolve, reject) => then.call(returned, resolve, reject))
    : undefined;
}
