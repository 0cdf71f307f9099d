import { describe, expect, test } from 'vitest';
import { type EncryptionOptions, parseKeyRing, resolveKeyRing } from './key-ring.ts';

const KEY = Buffer.alloc(32, 1).toString('base64');
const OTHER = Buffer.alloc(32, 2).toString('base64');

describe('a key ring', () => {
  test('is given as bytes or base64, and is a copy', () => {
    const bytes = new Uint8Array(32).fill(1);
    const ring = resolveKeyRing({ keys: { a: bytes, b: ` ${OTHER}\n` }, use: 'b' });
    bytes.fill(9);
    expect(ring).toEqual({
      keys: new Map([
        ['a', new Uint8Array(32).fill(1)],
        ['b', new Uint8Array(32).fill(2)],
      ]),
      use: 'b',
      required: true,
    });
    expect(resolveKeyRing({ keys: { a: KEY }, required: false })).toMatchObject({ use: 'a', required: false });
  });

  test.each<[string, unknown, string]>([
    ['none', null, 'encryption must be an object, not null'],
    ['an unknown option', { keys: { a: KEY }, key: 'a' }, 'encryption has no option "key"'],
    ['no keys', { keys: {} }, 'encryption.keys is empty'],
    ['keys that are a list', { keys: [KEY] }, 'encryption.keys must be an object'],
    ['an id with a space', { keys: { 'a b': KEY } }, 'an id of 3 characters that is none'],
    ['a long id', { keys: { [KEY]: 'a' } }, 'an id of 44 characters that is none'],
    ['a short key', { keys: { a: new Uint8Array(16) } }, 'the key "a" has 16 bytes; AES-256 takes 32'],
    ['a password', { keys: { a: 'secret'.repeat(5) } }, 'a text of 30 characters and not the base64 of 32 bytes'],
    ['hex', { keys: { a: 'ab'.repeat(32) } }, 'a text of 64 characters and not the base64'],
    ['a number', { keys: { a: 5 } }, 'the key "a" must be a Uint8Array or base64, not number'],
    ['one key twice', { keys: { a: KEY, b: KEY }, use: 'a' }, 'the keys "a" and "b" are the same'],
    ['several and no use', { keys: { a: KEY, b: OTHER } }, 'say with encryption.use which of them encrypts'],
    ['the use of another', { keys: { a: KEY }, use: 'c' }, 'encryption.use is "c"; it must be one of "a"'],
    ['a key as its use', { keys: { a: KEY }, use: KEY }, 'encryption.use is a text that is no id of a key'],
    ['a doubtful required', { keys: { a: KEY }, required: 'yes' }, 'encryption.required must be true or false'],
  ])('of %s is refused, and no key is shown', (_, given, says) => {
    expect(() => resolveKeyRing(given as EncryptionOptions)).toThrow(says);
    expect(() => resolveKeyRing(given as EncryptionOptions)).not.toThrow(/AQEBAQ|AgICAg|secret|abab/);
  });

  test('is read from a text: the first key encrypts', () => {
    const text = `# since November\r\n\n 2026-11 ${KEY} \n2026-10\t${OTHER}\n`;
    const options = parseKeyRing(text);
    expect(options.use).toBe('2026-11');
    expect([...resolveKeyRing(options).keys.keys()]).toEqual(['2026-11', '2026-10']);
  });

  test.each([
    ['', 'the key ring has no key'],
    [`${KEY}\n`, 'line 1 of the key ring is not of the form ID KEY'],
    [`#\na ${KEY} b\n`, 'line 2 of the key ring is not of the form ID KEY'],
    [`a ${KEY}\na ${OTHER}`, 'line 2 of the key ring has the id "a" once more'],
    [`${KEY} a`, 'line 1 of the key ring has an id of 44 characters that is none'],
    [`a ${KEY}\nb ${KEY}`, 'the keys "a" and "b" are the same'],
    [`a ${KEY}=`, 'the key "a" is a text of 45 characters'],
  ])('in %j is refused, and no key is shown', (text, says) => {
    expect(() => parseKeyRing(text)).toThrow(says);
    expect(() => parseKeyRing(text)).not.toThrow(/AQEBAQ|AgICAg/);
  });
});
