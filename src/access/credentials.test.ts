import { describe, expect, test } from 'vitest';
import type { MillraceError } from '../errors.ts';
import { Credentials } from './credentials.ts';
import type { Grant } from './grant.ts';

const SECRET = 'a-secret-of-some-length';
const OTHER = 'another-secret-of-some-length';

function grantOf(line: string, secret = SECRET): Grant {
  const grant = Credentials.parse(line, 'file').find(secret);
  if (grant === undefined) throw new Error('nobody has that secret');
  return grant;
}

test('lines are read whatever ends them, and comments and empty ones say nothing', () => {
  const text = `\uFEFF# who may use it\r\n\r\n  read\tviewer   ${SECRET}\r\nproduce,work ops ${OTHER} mail.* images`;
  const credentials = Credentials.parse(text, 'file');
  expect(credentials.find(SECRET)).toMatchObject({ name: 'viewer', roles: ['read'], queues: ['*'], ofAllQueues: true });
  expect(credentials.find(OTHER)).toMatchObject({
    name: 'ops',
    roles: ['produce', 'work'],
    queues: ['mail.*', 'images'],
  });
  for (const secret of ['', SECRET.slice(1), `${SECRET} `]) expect(credentials.find(secret)).toBeUndefined();
});

test('a secret may have colons, and letters beyond ASCII', () => {
  expect(grantOf('read viewer ä:b:ü:0123456789', 'ä:b:ü:0123456789').name).toBe('viewer');
});

test('operate implies all other roles, and no other implies one', () => {
  expect(grantOf(`operate ops ${SECRET}`).roles).toEqual(['produce', 'work', 'read', 'operate']);
  for (const role of ['produce', 'work', 'read']) expect(grantOf(`${role} x ${SECRET}`).roles).toEqual([role]);
});

test.each([
  ['*', 'mail', true],
  ['mail', 'mail', true],
  ['mail', 'mail2', false],
  ['mail', 'Mail', false],
  ['mail.*', 'mail.', true],
  ['mail.*', 'mail.urgent', true],
  ['mail.*', 'mail', false],
  ['mail.*', 'mailx', false],
  ['*.mail', 'eu.mail', true],
  ['*.mail', 'eu.mails', false],
  ['eu.*.mail', 'eu.x.mail', true],
  ['eu.*.mail', 'eu.mail', false],
  ['a*a', 'a', false],
  ['a*a', 'aa', true],
  ['*b*c*', 'abbc', true],
  ['*b*c*', 'acb', false],
  ['*aab*', 'aaab', true],
  ['*ab*ab', 'xabab', true],
  ['*ab*ab', 'xab', false],
  ['m.il', 'mail', false],
  ['mail?', 'mails', false],
])('the pattern %s and the queue %s: %j', (pattern, queue, isCovered) => {
  const grant = grantOf(`read x ${SECRET} ${pattern}`);
  // The second answer is the one that is remembered.
  expect([grant.covers(queue), grant.covers(queue)]).toEqual([isCovered, isCovered]);
});

describe('what is refused is said with the role and the queue that are needed', () => {
  const grant = grantOf(`produce,work web ${SECRET} mail.* images`);
  test.each([
    [
      () => grant.checkRole(['read'], 'looking'),
      'looking needs the role read; the credentials "web" have produce, work',
    ],
    [
      () => grant.check(['produce', 'read'], 'ads', 'enqueueing'),
      /needs the role produce or read for the queue "ads"; .* for mail\.\*, images only$/,
    ],
    [() => grant.checkWhole(['work'], 'status'), /status concerns all queues; .*: name one of these queues$/],
  ])('%s', (act, message) => {
    expect(act).toThrow(message);
    expect(act).toThrow(expect.objectContaining({ code: 'FORBIDDEN' }) as MillraceError);
  });
});

describe('what is no file of credentials is refused with its line, and without a secret', () => {
  test.each([
    ['', 'file holds no credentials'],
    ['# nobody', 'file holds no credentials'],
    [`read viewer ${SECRET}\noperate ops`, 'file, line 2: a line is ROLES NAME SECRET [QUEUE …]'],
    [
      `\nadmin ops ${SECRET}`,
      'file, line 2: the first word is no list of roles; there are produce, work, read, operate',
    ],
    [`read,admin ops ${SECRET}`, 'file, line 1: the first word is no list of roles'],
    [`read, operate ${SECRET}`, 'file, line 1: the first word is no list of roles'],
    [`${SECRET} viewer read`, 'file, line 1: the first word is no list of roles'],
    [`read ${SECRET} viewer`, 'file, line 1: the secret has 6 characters'],
    [`read a:b ${SECRET}`, 'line 1: a name may not have a colon'],
    ['read viewer short', 'line 1: the secret has 5 characters; at least 16'],
    [`read viewer ${'x'.repeat(513)}`, 'line 1: the secret has 513 characters'],
    [`read viewer ${SECRET} ${'q'.repeat(129)}`, 'line 1: a queue pattern has 129 bytes'],
    [`read viewer ${SECRET} ${'q '.repeat(101)}`, 'line 1: 101 queues are named'],
    [`read viewer ${SECRET}\noperate viewer ${OTHER}`, 'line 2: the name "viewer" is there twice'],
    [`read viewer ${SECRET}\noperate ops ${SECRET}`, 'line 2: "ops" has the secret of "viewer"'],
  ])('%.60j', (text, message) => {
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

test('a grant shows its secret to nobody', async () => {
  const { inspect } = await import('node:util');
  const grant = grantOf(`read viewer ${SECRET}`);
  expect(inspect(grant, { depth: 9, showHidden: true }) + JSON.stringify(grant)).not.toMatch(
    /secret|Buffer|[0-9a-f]{16}/,
  );
});
