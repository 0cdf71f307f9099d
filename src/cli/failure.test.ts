import { expect, test } from 'vitest';
import { InvariantError, MillraceError, redact } from '../errors.ts';
import { CommandFailed, describeFailure, UsageError } from './failure.ts';

test.each([
  [new UsageError('no such flag'), 2, 'USAGE: no such flag'],
  [new MillraceError('INVALID_ARGUMENT', 'bad id'), 2, 'INVALID_ARGUMENT: bad id'],
  [new MillraceError('NOT_FOUND', 'no task\n  x'), 1, 'NOT_FOUND: no task x'],
  [new CommandFailed('NOT_JSON', 'line 3'), 1, 'NOT_JSON: line 3'],
  [new MillraceError('TASK_DEAD', 'Error: \u001b[2J\u009b1m'), 1, 'TASK_DEAD: Error: \\u001b[2J\\u009b1m'],
  [
    Object.assign(new Error("EACCES: permission denied, open 'x'"), { code: 'EACCES', syscall: 'open' }),
    1,
    "EACCES: permission denied, open 'x'",
  ],
])('%s is one line and an exit code', (error, exitCode, line) => {
  expect(describeFailure(error)).toEqual({ exitCode, line });
});

test('a defect says that it is one', () => {
  expect(describeFailure(new InvariantError('impossible')).line).toMatch(/^INTERNAL: .*impossible.*please report/);
  expect(describeFailure('thrown text').line).toMatch(/^INTERNAL: thrown text/);
});

test('passwords in URLs are never shown', () => {
  expect(redact('cannot reach tcp://me:s3cr:et@host:5555/x now')).toBe('cannot reach tcp://me:***@host:5555/x now');
  expect(redact('amqp://me:a/b@c@host/x and "postgres://u:p@h", a@b')).toBe(
    'amqp://me:***@host/x and "postgres://u:***@h", a@b',
  );
  expect(redact('postgres://h/d?user=me&password=s3cret&sslmode=require')).toBe(
    'postgres://h/d?user=me&password=***&sslmode=require',
  );
  expect(redact(`no amqp://u:it's@h and amqp://u:a'b"c@h, "me@h"`)).toBe(
    'no amqp://u:***@h and amqp://u:***@h, "me@h"',
  );
  expect(redact('{"url":"amqp://a:b@c","mail":"x@y"}')).toBe('{"url":"amqp://a:***@c","mail":"x@y"}');
  expect(redact("postgres://h/d?password=a'b&x=1")).toBe('postgres://h/d?password=***&x=1');
  expect(describeFailure(new MillraceError('DISCONNECTED', 'amqp://a:b@c')).line).toBe('DISCONNECTED: amqp://a:***@c');
});
