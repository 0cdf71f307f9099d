import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { handlersUrl, loadHandlers } from './handlers-module.ts';

let directory: string;
let count = 0;

beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'millrace-handlers-'));
});

afterAll(() => {
  rmSync(directory, { recursive: true });
});

/** What `defineTask(name).handle(run)` and `defineTask(name)` return, as another copy of the package would make it. */
const PRELUDE = `
const handler = (name) => ({ kind: 'single', format: { name }, queue: 'default', run: () => name });
const definition = (name) => ({ name, handle() {} });
`;

function write(source: string, extension = 'mjs'): string {
  const file = join(directory, `h${++count}.${extension}`);
  writeFileSync(file, PRELUDE + source);
  return file;
}

async function names(source: string): Promise<string[]> {
  const { handlers } = await loadHandlers(pathToFileURL(write(source)));
  return handlers.map(({ format }) => format.name);
}

test('handlers come from named exports and from a default array, each once', async () => {
  expect(await names(`export const a = handler('a'); export const b = handler('b'); export const n = 5;`)).toEqual([
    'a',
    'b',
  ]);
  expect(await names(`export const a = handler('a'); export default [a, handler('c')];`)).toEqual(['a', 'c']);
  expect(await names(`export default handler('d');`)).toEqual(['d']);
});

test('a default object holds plain functions by task name', async () => {
  expect(await names(`export default { 'mail.send': () => {}, x: async () => {} };`)).toEqual(['mail.send', 'x']);
});

test.each([
  ['', 'exports nothing'],
  ['export const x = 5;', 'exports x, none of which is a handler'],
  [`export const resize = definition('image.resize');`, 'export resize.handle('],
  [`export default [definition('image.resize')];`, 'the definition of "image.resize", not a handler'],
  ['export default [5];', 'is a number'],
  ['export const = 5;', 'cannot be loaded: '],
  [`throw new Error('no database');`, 'cannot be loaded: Error: no database'],
  ['throw 10n;', 'cannot be loaded: it threw 10'],
  ['const a = {}; a.a = a; throw a;', 'cannot be loaded: it threw an object'],
  [`import './gone.js';`, 'cannot be loaded: Error: Cannot find module'],
])('%j is explained', async (source, message) => {
  await expect(loadHandlers(pathToFileURL(write(source)))).rejects.toMatchObject({
    code: 'HANDLERS',
    message: expect.stringContaining(message),
  });
});

test('a file that is not there is explained', async () => {
  await expect(loadHandlers(pathToFileURL(join(directory, 'none.js')))).rejects.toThrow(/there is no file .*none\.js/);
});

test('a module is named by a file URL or an absolute path', () => {
  const file = join(directory, 'h.js');
  const { href } = pathToFileURL(file);
  for (const named of [file, href, new URL(href)]) expect(handlersUrl(named).href).toBe(href);
  for (const wrong of ['./h.js', 'h.js', 'https://example.org/h.js', '']) {
    expect(() => handlersUrl(wrong)).toThrow(/must be a file: URL/);
  }
});
