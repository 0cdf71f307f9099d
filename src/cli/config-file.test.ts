import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { CONFIG_FILE_NAME, readConfigFile } from './config-file.ts';
import { flag, integer, text } from './flags.ts';

const SECTIONS = new Map([
  ['server', { port: flag(integer(0, 65_535), 'port', 5555), data: flag(text('dir'), 'directory') }],
  ['status', { url: flag(text('url'), 'server') }],
]);

let directory: string;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'millrace-config-'));
});

afterEach(() => {
  rmSync(directory, { recursive: true });
});

function read(section: string, content: unknown, name = CONFIG_FILE_NAME, path?: string): Record<string, unknown> {
  const source = typeof content === 'string' ? content : JSON.stringify(content);
  writeFileSync(join(directory, name), source);
  return readConfigFile(section, SECTIONS, { path, environment: {}, directory });
}

test('a command takes what stands for all and what stands in its section, which wins', () => {
  const content = { port: 1, url: 'tcp://a', server: { port: 2 } };
  expect(read('server', content)).toEqual({ port: 2, url: 'tcp://a' });
  expect(read('status', content)).toEqual({ port: 1, url: 'tcp://a' });
});

test('without a file there is nothing to take', () => {
  expect(readConfigFile('server', SECTIONS, { path: undefined, environment: {}, directory })).toEqual({});
});

test('a file that was asked for must be there', () => {
  const options = { path: join(directory, 'no.json'), environment: {}, directory };
  expect(() => readConfigFile('server', SECTIONS, options)).toThrow(/cannot read .*no\.json: there is no such file/);
});

test('the environment names a file, a flag another', () => {
  writeFileSync(join(directory, 'a.json'), '{"port": 1}');
  writeFileSync(join(directory, 'b.json'), '{"port": 2}');
  const environment = { MILLRACE_CONFIG: join(directory, 'a.json') };
  expect(readConfigFile('server', SECTIONS, { path: undefined, environment, directory })).toEqual({ port: 1 });
  const path = join(directory, 'b.json');
  expect(readConfigFile('server', SECTIONS, { path, environment, directory })).toEqual({ port: 2 });
});

test.each([
  [{ prot: 1 }, /unknown key "prot" in .* \(did you mean "port"\?\)/],
  [{ servr: {} }, /unknown key "servr" in .* \(did you mean "server"\?\)/],
  [{ server: { dta: '.' } }, /unknown key "dta" in the section server of .* \(did you mean "data"\?\)/],
  [{ server: { port: 'x' } }, /server\.port in .* is "x"; it must be a whole number/],
  [{ port: -1 }, /port in .* is -1; it must be a whole number/],
  [{ server: 5 }, /server in .* must be an object/],
  [{ server: { constructor: 1 } }, /unknown key "constructor" in the section server of/],
  [{ toString: 1 }, /unknown key "toString" in /],
  [[], /must hold one JSON object/],
  ['{"port": ', /is not JSON/],
])('a slip is an error, whichever command runs: %j', (content, message) => {
  expect(() => read('status', content)).toThrow(message);
});

test('a value that is too long, or nested too deeply, is refused in few words', () => {
  const deep = `{"port":${'['.repeat(20_000)}${']'.repeat(20_000)}}`;
  expect(() => read('status', deep)).toThrow(/port in .* is an array; it must be a whole number/);
  const long = { server: { port: 'x'.repeat(10_000) } };
  expect(() => read('status', long)).toThrow(/server\.port in .* is "x{199}…; it must be a whole number/);
});
