import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { resolveKeyRing } from '../sealing/key-ring.ts';
import { Sealing } from '../sealing/sealing.ts';
import { encryptionOf } from './key-ring.ts';
import { describeBytes } from './payload.ts';

const KEY = Buffer.alloc(32, 1).toString('base64');
let directory: string;

beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'millrace-keys-'));
  writeFileSync(join(directory, 'ring'), `2026-11 ${KEY}\n`);
  writeFileSync(join(directory, 'wrong'), `${KEY}\n`);
});

afterAll(() => rmSync(directory, { recursive: true }));

it('takes a key ring from its file, and refuses one that is none without showing a key', () => {
  const keyRing = join(directory, 'ring');
  expect(encryptionOf({})).toBeUndefined();
  expect(encryptionOf({ keyRing })).toMatchObject({ use: '2026-11', required: true });
  expect(encryptionOf({ keyRing, allowPlaintext: true })).toMatchObject({ required: false });
  expect(() => encryptionOf({ allowPlaintext: true })).toThrow('--allow-plaintext belongs to --key-ring');
  expect(() => encryptionOf({ keyRing: join(directory, 'gone') })).toThrow(/cannot read the key ring .*no such file/);
  expect(() => encryptionOf({ keyRing: join(directory, 'wrong') })).toThrow(/wrong: line 1 of the key ring is not/);
  expect(() => encryptionOf({ keyRing: join(directory, 'wrong') })).not.toThrow(/AQEB/);
});

it('says of what is encrypted with which key, and why it is not shown', () => {
  const sealing = new Sealing(resolveKeyRing({ keys: { k1: KEY } }));
  const data = sealing.sealPayload('"text"', { queue: 'q', name: 'n' }).toString('base64');
  const sealed = { encoding: 'base64', data } as const;
  expect(describeBytes(sealed)).toBe('55 B, encrypted with the key k1: --key-ring reads it');
  expect(describeBytes({ ...sealed, keyId: 'k1', refused: 'KEY_MISSING' })).toMatch(
    /k1, which is not in the key ring$/,
  );
  expect(describeBytes({ ...sealed, keyId: 'k1', refused: 'DECRYPTION_FAILED' })).toMatch(/, but changed since/);
  const opened = { encoding: 'utf8', data: '"text"' } as const;
  expect(describeBytes({ ...opened, keyId: 'k1' })).toBe('"text" (encrypted with the key k1)');
  expect(describeBytes({ ...opened, refused: 'NOT_ENCRYPTED' })).toMatch(/^"text" \(not encrypted/);
  expect(describeBytes(opened)).toBe('"text"');
});
