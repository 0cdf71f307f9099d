import { createCipheriv, hkdfSync } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import type { TaskError } from '../broker/contract.ts';
import { MillraceError } from '../errors.ts';
import { LIMITS } from '../limits.ts';
import { encodeTaskError } from '../protocol/settlement-writer.ts';
import { headOf, isSealed, OVERHEAD_BYTES_MAX, sealedWith } from './envelope.ts';
import { resolveKeyRing } from './key-ring.ts';
import { checkNotSealed, Sealing } from './sealing.ts';

const OLD = Buffer.alloc(32, 1);
const NEW = Buffer.alloc(32, 2);
const TASK = { queue: 'mail', name: 'send' };
const ID = '1-2rk';
const TEXT = '{"to":"ada","größe":"€"}';

const sealingOf = (keys: Record<string, Uint8Array>, use?: string, required?: boolean): Sealing =>
  new Sealing(resolveKeyRing({ keys, use, required }));
const sealing = sealingOf({ '2026-11': NEW });

/** The code with which something is refused. */
function codeOf(act: () => unknown): string {
  try {
    act();
  } catch (error) {
    if (error instanceof MillraceError) return error.code;
    throw error;
  }
  return 'taken';
}

function withLength(text: string): Buffer {
  return Buffer.concat([Buffer.from([Buffer.byteLength(text)]), Buffer.from(text)]);
}

/** What docs/encryption.md says, written once more by itself: another language's program. */
function envelope(
  content: string,
  purpose: number,
  bound: { salt: Buffer; count: number; stamp: Buffer; id?: string },
): Buffer {
  const { salt, count, stamp, id } = bound;
  const head = Buffer.concat([
    Buffer.from([0xf5]),
    Buffer.from('mrseal'),
    Buffer.from([1]),
    withLength('2026-11'),
    salt,
  ]);
  const key = Buffer.from(hkdfSync('sha256', NEW, salt, 'millrace sealing 1', 32));
  const nonce = Buffer.alloc(12);
  nonce.writeUIntBE(count, 6, 6);
  const cipher = createCipheriv('aes-256-gcm', key, nonce);
  cipher.setAAD(
    Buffer.concat([head, Buffer.from([purpose]), stamp, id === undefined ? Buffer.alloc(0) : withLength(id)]),
  );
  const text = Buffer.concat([cipher.update(content, 'utf8'), cipher.final()]);
  const shown = id === undefined ? Buffer.alloc(0) : stamp;
  return Buffer.concat([head, nonce.subarray(6), shown, text, cipher.getAuthTag()]);
}

const STAMP = Buffer.concat([withLength('mail'), withLength('send')]);
const SALT = Buffer.from('000102030405060708090a0b0c0d0e0f', 'hex');

describe('an envelope', () => {
  test('is what the format says, both ways', () => {
    const payload = envelope(TEXT, 1, { salt: SALT, count: 0x0102030405, stamp: STAMP });
    expect(sealing.openPayload(payload, TASK).toString()).toBe(TEXT);
    const result = envelope('[1]', 2, { salt: SALT, count: 0, stamp: STAMP, id: ID });
    expect(sealing.openResult(result, { id: ID, ...TASK }).toString()).toBe('[1]');

    const made = sealing.sealPayload(TEXT, TASK);
    const salt = (headOf(made) as { salt: Buffer }).salt;
    const count = made.readUIntBE(9 + 7 + 16, 6);
    expect(made).toEqual(envelope(TEXT, 1, { salt, count, stamp: STAMP }));
    const ended = sealing.sealResult('[1]', TASK, ID);
    expect(ended).toEqual(envelope('[1]', 2, { salt, count: count + 1, stamp: STAMP, id: ID }));
  });

  // Whoever changes the format without another version breaks what is stored.
  test('of version 1 stays what it was', () => {
    const head = 'f56d727365616c0107323032362d3131000102030405060708090a0b0c0d0e0f';
    const known = `${head}00000000000752505b90429d5fe42af5d6fc6078cd9b82e7ee7206de56`;
    expect(envelope('"known"', 1, { salt: SALT, count: 7, stamp: STAMP }).toString('hex')).toBe(known);
    expect(sealing.openPayload(Buffer.from(known, 'hex'), TASK).toString()).toBe('"known"');
  });

  test('carries text and bytes, none too', () => {
    for (const bytes of [new Uint8Array(0), Uint8Array.of(0xff, 0, 0x80), new Uint8Array(70_000).fill(9)]) {
      const sealed = sealing.sealPayload(bytes, TASK);
      expect(isSealed(sealed)).toBe(true);
      expect(Buffer.compare(sealing.openPayload(sealed, TASK), bytes)).toBe(0);
    }
    // Of a view into something larger too.
    const sealed = sealing.sealPayload('x', TASK);
    const view = new Uint8Array(Buffer.concat([Buffer.alloc(5), sealed, Buffer.alloc(3)])).subarray(
      5,
      5 + sealed.length,
    );
    expect(sealing.openPayload(view, TASK).toString()).toBe('x');
  });

  test('never has the nonce of another: a count under a key that its sender alone has', () => {
    const seen = new Set<string>();
    for (const each of [sealing, sealingOf({ '2026-11': NEW }), sealingOf({ '2026-11': NEW })]) {
      for (let index = 0; index < 100; index++)
        seen.add(each.sealPayload('x', TASK).toString('hex', 0, 9 + 7 + 16 + 6));
    }
    expect(seen.size).toBe(300);
  });

  test('with any bit changed, or cut anywhere, is refused', () => {
    const payload = sealing.sealPayload(TEXT, TASK);
    const result = sealing.sealResult(TEXT, TASK, ID);
    for (const [sealed, open] of [
      [payload, (bytes: Buffer) => sealing.openPayload(bytes, TASK)],
      [result, (bytes: Buffer) => sealing.openResult(bytes, { id: ID })],
    ] as const) {
      const codes = new Set<string>();
      for (let bit = 0; bit < sealed.length * 8; bit++) {
        const changed = Buffer.from(sealed);
        changed[bit >> 3] = (changed[bit >> 3] as number) ^ (1 << (bit & 7));
        codes.add(codeOf(() => open(changed)));
      }
      for (let length = 0; length < sealed.length; length++) codes.add(codeOf(() => open(sealed.subarray(0, length))));
      codes.add(codeOf(() => open(Buffer.concat([sealed, Buffer.from([0])]))));
      expect([...codes].sort()).toEqual(['DECRYPTION_FAILED', 'KEY_MISSING', 'NOT_ENCRYPTED']);
    }
  });

  test('opens in its queue, under its name, for its task and for what it is only', () => {
    const payload = sealing.sealPayload(TEXT, TASK);
    expect(codeOf(() => sealing.openPayload(payload, { ...TASK, queue: 'other' }))).toBe('DECRYPTION_FAILED');
    expect(codeOf(() => sealing.openPayload(payload, { ...TASK, name: 'other' }))).toBe('DECRYPTION_FAILED');
    // Where one ends and the other begins counts too.
    const shifted = { queue: 'mails', name: 'end' };
    expect(codeOf(() => sealing.openPayload(payload, shifted))).toBe('DECRYPTION_FAILED');
    expect(codeOf(() => sealing.openResult(payload, { id: ID }))).toBe('DECRYPTION_FAILED');

    const result = sealing.sealResult(TEXT, TASK, ID);
    expect(sealing.openResult(result, { id: ID }).toString()).toBe(TEXT);
    expect(codeOf(() => sealing.openResult(result, { id: '1-2rl' }))).toBe('DECRYPTION_FAILED');
    expect(codeOf(() => sealing.openResult(result, { id: ID, name: 'other' }))).toBe('DECRYPTION_FAILED');
    expect(codeOf(() => sealing.openResult(result, { id: ID, queue: 'other' }))).toBe('DECRYPTION_FAILED');
    expect(codeOf(() => sealing.openPayload(result, TASK))).toBe('DECRYPTION_FAILED');
  });

  test('says what may be wrong, and shows nothing of what is in it', () => {
    const sealed = sealing.sealPayload(TEXT, TASK);
    expect(() => sealing.openPayload(sealed, { queue: 'q', name: 'n' })).toThrow(
      /the payload cannot be decrypted: .* the key "2026-11", or it was made for another queue or task name than "q" and "n"/,
    );
    const newer = Buffer.from(sealed);
    newer[7] = 2;
    expect(() => sealing.openPayload(newer, TASK)).toThrow(/version 2; this is 1.*newer release/);
  });

  test('is known by the first bytes, in base64 too', () => {
    const sealed = sealing.sealPayload('x'.repeat(1000), TASK);
    expect(sealedWith({ encoding: 'base64', data: sealed.toString('base64') })).toBe('2026-11');
    for (const other of ['', '{}', 'mrseal', '\u00f5mrseal'].map((text) => Buffer.from(text))) {
      expect([isSealed(other), sealedWith({ encoding: 'base64', data: other.toString('base64') })]).toEqual([
        false,
        undefined,
      ]);
      expect(() => checkNotSealed(other, 'it')).not.toThrow();
    }
    expect(() => checkNotSealed(sealed, 'the payload')).toThrow(
      /the payload is encrypted with the key "2026-11"; there is no key ring here: give connect the option encryption/,
    );
  });

  test('counts for the limits, and is never longer than is reserved for it', () => {
    const fits = LIMITS.payloadBytesMax - sealing.sealPayload('', TASK).length;
    expect(sealing.sealPayload('x'.repeat(fits), TASK)).toHaveLength(LIMITS.payloadBytesMax);
    expect(() => sealing.sealPayload('x'.repeat(fits + 1), TASK, 3)).toThrow(
      /^payload 3 has 1048523 bytes, and 54 more when it is encrypted; at most 1048576 are allowed together/,
    );
    const longest = { queue: 'q'.repeat(LIMITS.queueNameBytesMax), name: 'ü'.repeat(LIMITS.taskNameBytesMax / 2) };
    const keyId = 'k'.repeat(LIMITS.keyIdBytesMax);
    expect(sealingOf({ [keyId]: NEW }).sealResult('x', longest, ID)).toHaveLength(1 + OVERHEAD_BYTES_MAX);
  });
});

describe('a key ring', () => {
  test('encrypts with one key and decrypts with all, so that keys can change', () => {
    const before = sealingOf({ old: OLD });
    const during = sealingOf({ old: OLD, new: NEW }, 'old');
    const after = sealingOf({ old: OLD, new: NEW }, 'new');
    const last = sealingOf({ new: NEW });
    const [first, second] = [before.sealPayload('1', TASK), after.sealPayload('2', TASK)];
    expect([headOf(first)?.keyId, headOf(during.sealPayload('', TASK))?.keyId, headOf(second)?.keyId]).toEqual([
      'old',
      'old',
      'new',
    ]);
    expect(during.openPayload(first, TASK).toString() + during.openPayload(second, TASK).toString()).toBe('12');
    expect(after.openPayload(first, TASK).toString()).toBe('1');
    expect(() => before.openPayload(second, TASK)).toThrow(
      /encrypted with the key "new"; the key ring here has old: add it to the ring of everybody who reads/,
    );
    expect(codeOf(() => last.openPayload(first, TASK))).toBe('KEY_MISSING');
    // The same id for another key.
    expect(codeOf(() => sealingOf({ old: NEW }).openPayload(first, TASK))).toBe('DECRYPTION_FAILED');
  });

  test('takes what is not encrypted only when told to', () => {
    const plain = Buffer.from('{}');
    expect(codeOf(() => sealing.openPayload(plain, TASK))).toBe('NOT_ENCRYPTED');
    expect(codeOf(() => sealing.openResult(plain, { id: ID }))).toBe('NOT_ENCRYPTED');
    const lenient = sealingOf({ '2026-11': NEW }, undefined, false);
    expect(lenient.openPayload(plain, TASK)).toEqual(plain);
    expect(codeOf(() => lenient.openPayload(sealing.sealPayload('', TASK), { ...TASK, queue: 'other' }))).toBe(
      'DECRYPTION_FAILED',
    );
  });
});

describe('an error', () => {
  const error: TaskError = { name: 'TypeError', message: 'no ada', code: 'HANDLER_FAILED', stack: 'at ada' };

  test('keeps its kind legible and nothing else, and opens for its task only', () => {
    const sealed = sealing.sealError(error, TASK, ID);
    expect(sealed).toEqual({
      name: 'TypeError',
      code: 'HANDLER_FAILED',
      message: 'the text of this error is encrypted',
      stack: expect.stringMatching(/^encrypted:[A-Za-z0-9+/=]+$/),
    });
    expect(sealing.openError(sealed, { id: ID })).toEqual(error);
    expect(sealing.openError(sealed, { id: 'other' })).toEqual(sealed);
    expect(sealingOf({ x: OLD }).openError(sealed, { id: ID })).toEqual(sealed);
    const { stack: _, ...short } = error;
    expect(sealing.openError(sealing.sealError(short, TASK, ID), { id: ID })).toEqual(short);
  });

  test('that cannot tell of a payload stays as it is', () => {
    const ours: TaskError = { name: 'MillraceError', message: 'ran longer', code: 'TASK_TIMEOUT' };
    expect(sealing.sealError(ours, TASK, ID)).toBe(ours);
    expect(sealing.openError(ours, { id: ID })).toBe(ours);
  });

  test.each([
    ['in Latin script', 'x'],
    ['in any script', '漢'],
    ['of control characters', '\u0001'],
  ])('as long as one may be, %s, is stored whole', (_, letter) => {
    const long: TaskError = {
      ...error,
      name: letter.repeat(101),
      message: letter.repeat(1501),
      stack: letter.repeat(3501),
    };
    const sealed = sealing.sealError(long, TASK, ID);
    const stored = JSON.parse(encodeTaskError(sealed, { worker: letter.repeat(128), startedAtMs: 1 })) as TaskError;
    expect(stored.stack).toBe(sealed.stack);
    const opened = sealing.openError(stored, { id: ID });
    expect(opened.message).toBe(long.message);
    expect(opened.stack?.slice(0, -1)).toBe(long.stack?.slice(0, (opened.stack?.length ?? 0) - 1));
  });
});
