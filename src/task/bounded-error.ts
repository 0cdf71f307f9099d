import type { TaskError } from '../broker/contract.ts';

/** An error is stored within LIMITS.errorBytesMax; these leave room for both texts in any script. */
const NAME_CHARACTERS_MAX = 100;
const MESSAGE_CHARACTERS_MAX = 1500;
const STACK_CHARACTERS_MAX = 3500;

/** As it is stored: texts that are too long are cut. */
export function boundedError({ name, message, code, stack }: TaskError): TaskError {
  const bounded: TaskError = {
    name: cut(name, NAME_CHARACTERS_MAX),
    message: cut(message, MESSAGE_CHARACTERS_MAX),
    code,
  };
  if (stack !== undefined) bounded.stack = cut(stack, STACK_CHARACTERS_MAX);
  return bounded;
}

function cut(text: string, charactersMax: number): string {
  return text.length <= charactersMax ? text : `${text.slice(0, charactersMax)}…`;
}
