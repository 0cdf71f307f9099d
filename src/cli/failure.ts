import { ERROR_CODES, InvariantError, MillraceError, redact } from '../errors.ts';
import { printable, printableLines } from './printable.ts';

/** The command was called wrongly: exit code 2. */
export class UsageError extends Error {
  override readonly name = 'UsageError';
}

/** A command did its work and the answer is no: exit code 1, and the message is the whole story. */
export class CommandFailed extends Error {
  override readonly name = 'CommandFailed';
  readonly code: string;

  constructor(code: string, message: string, options: { cause?: unknown } = {}) {
    super(message, options);
    this.code = code;
  }
}

export interface Failure {
  exitCode: 1 | 2;
  /** `CODE: message`, one line, without passwords and control characters. */
  line: string;
}

/** What a person is told about an error. */
export function describeFailure(error: unknown): Failure {
  if (error instanceof UsageError) return { exitCode: 2, line: oneLine(`USAGE: ${error.message}`) };
  if (error instanceof MillraceError) {
    const exitCode = error.code === 'INVALID_ARGUMENT' ? 2 : 1;
    return { exitCode, line: oneLine(`${error.code}: ${error.message || ERROR_CODES[error.code].meaning}`) };
  }
  if (error instanceof CommandFailed) return { exitCode: 1, line: oneLine(`${error.code}: ${error.message}`) };
  if (!(error instanceof InvariantError) && isSystemError(error)) {
    // Node's messages begin with the code themselves: "EACCES: permission denied, open 'x'".
    return { exitCode: 1, line: oneLine(`${error.code}: ${error.message.replace(`${error.code}: `, '')}`) };
  }
  const what = error instanceof Error ? `${error.name}: ${error.message}` : String(error);
  return {
    exitCode: 1,
    line: oneLine(`INTERNAL: ${what} (a defect in Millrace: please report it with what --debug prints)`),
  };
}

/** What --debug adds: the stack, and those of its causes. */
export function describeStack(error: unknown): string {
  const parts: string[] = [];
  for (let each = error; each instanceof Error; each = each.cause) parts.push(each.stack ?? String(each));
  return printableLines(redact(parts.length === 0 ? String(error) : parts.join('\ncaused by ')));
}

export function isSystemError(error: unknown): error is Error & { code: string; syscall: unknown } {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' && 'syscall' in error;
}

function oneLine(text: string): string {
  return printable(redact(text.replaceAll(/\s*[\r\n]+\s*/g, ' ').trim()));
}
