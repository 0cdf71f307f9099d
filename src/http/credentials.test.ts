import { describe, expect, test } from 'vitest';
import { Credentials } from './credentials.ts';

const SECRET = 'a-secret-of-some-length';
const OTHER = 'another-secret-of-some-length';

function bearer(secret: string): string {
  return `Bearer ${secret}`;
}

test('lines are read whatever ends them, and comments and empty ones say nothing', () => {
  const text = `\uFEFF# who may use it\r\n\r\n  read\tviewer   ${SECRET}\r\noperate ops ${OTHER}`;
  const credentials = Credentials.parse(text, 'file');
  expect(credentials.roleOf(bearer(SECRET))).toBe('read');
  expect(credentials.roleOf(bearer(OTHER))).toBe('operate');
});

test('a secret in Basic may have colons, and letters beyond ASCII', () => {
  const secret = 'ä:b:ü:0123456789';
  const credentials = Credentials.parse(`read viewer ${secret}`, 'file');
  expect(credentials.roleOf(`Basic ${Buffer.from(`viewer:${secret}`).toString('base64')}`)).toBe('read');
});

describe('what is no file of credentials is refused with its line, and without a secret', () => {
  test.each([
    ['', 'file holds no credentials'],
    ['# nobody', 'file holds no credentials'],
    [`read viewer ${SECRET}\noperate ops`, 'file, line 2: a line is ROLE NAME SECRET'],
    [`read viewer ${SECRET} more`, 'file, line 1: a line is ROLE NAME SECRET'],
    [`\nadmin ops ${SECRET}`, 'file, line 2: the first word is no role; there are read, operate'],
    [`${SECRET} viewer read`, 'file, line 1: the first word is no role'],
    [`read ${SECRET} viewer`, 'file, line 1: the secret has 6 characters'],
    [`read a:b ${SECRET}`, 'line 1: a name may not have a colon'],
    ['read viewer short', 'line 1: the secret has 5 characters; at least 16'],
    [`read viewer ${SECRET}\noperate viewer ${OTHER}`, 'line 2: the name "viewer" is there twice'],
    [`read viewer ${SECRET}\noperate ops ${SECRET}`, 'line 2: "ops" has the secret of "viewer"'],
  ])('%j', (text, message) => {
    let thrown: unknown;
    try {
      Credentials.parse(text, 'file');
    } catch (error) {
      thrown = error;
    }
    expect(thrown).toMatchObject({ code: 'INVALID_ARGUMENT', message: expect.stringContaining(message) });
    for (const secret of [SECRET, OTHER, 'short ']) expect((thrown as Error).message).not.toContain(secret);
  });
});
