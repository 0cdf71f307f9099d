import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Faults, fuzz, IS_LONG } from './harness.ts';
import {
  changeFiles,
  type FileChange,
  type Files,
  fileChange,
  handleJournal,
  resealed,
  soundJournal,
} from './journals.ts';

const faults = new Faults().listen();
afterAll(() => faults.ignore());

let sound: Files;

beforeAll(async () => {
  sound = await soundJournal(faults);
});

describe('a journal', () => {
  test('that nobody has changed starts', async () => {
    expect([...sound.keys()].filter((name) => name.endsWith('.segment')).length).toBeGreaterThan(1);
    expect(await handleJournal(sound, faults)).toBe('started');
  });

  test('starts, or is refused with the place, whatever has become of its files; what a repair leaves starts', async () => {
    await fuzz(
      fc.array(fileChange, { minLength: 1, maxLength: 4 }),
      async (changes) => {
        await handleJournal(changeFiles(sound, changes), faults);
      },
      { runs: 250, boxMs: 700 },
    );
  });

  const found = join(import.meta.dirname, 'found');

  test.each(readdirSync(found).filter((name) => name.startsWith('journal-')))(
    'that broke something once does no more: %s',
    async (name) => {
      const bytes = readFileSync(join(found, name));
      for (const first of [bytes, resealed(bytes)]) {
        await handleJournal(new Map(sound).set('0000000001.segment', first), faults);
      }
    },
  );

  test('cut at any byte of any file starts, or is mended', async () => {
    for (const [file, [name, bytes]] of [...sound].entries()) {
      const used = bytes.findLastIndex((byte) => byte !== 0) + 1;
      const step = IS_LONG ? 1 : Math.max(1, Math.ceil(used / 8));
      for (let length = 0; length <= used; length += step) {
        const changed = new Map(sound).set(name, bytes.subarray(0, length));
        await handleJournal(changed, faults);
      }
      const zeros: FileChange = { what: 'zeros', file, at: 0, count: bytes.length };
      await handleJournal(changeFiles(sound, [zeros]), faults);
    }
  });
});
