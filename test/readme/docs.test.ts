import { mkdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { ROOT } from '../../scripts/release/artifacts.mjs';
import { compile, type Installed, install } from './installed.ts';

const PAGES = ['encryption', 'events', 'flow-control', 'flows', 'scaling', 'schedules', 'tasks', 'threads', 'tracing'];
const BLOCKS = /^```(?:ts|js)\n([\s\S]*?)^```$/gm;

/** What the blocks take for granted. */
const WORLD = `
import type { Client } from 'millrace';

declare global {
  const client: Client;
  const defineTask: typeof import('millrace').defineTask;
  const z: typeof import('zod').z;
  const url: string;
  const title: string;
  const month: string;
  const input: unknown;
  const users: readonly { name: string }[];
  function resize(image: unknown, width: number): Promise<Uint8Array>;
  function fetchImage(url: string): Promise<Uint8Array>;
  function store(image: Uint8Array, width: number): Promise<number>;
}
`;

let installed: Installed;

beforeAll(async () => {
  installed = await install();
  await symlink(
    join(ROOT, 'node_modules/@opentelemetry'),
    join(installed.directory, 'node_modules/@opentelemetry'),
    'junction',
  );
  await mkdir(join(installed.directory, 'docs'));
  await writeFile(join(installed.directory, 'docs/world.ts'), WORLD);
}, 60_000);

afterAll(async () => {
  await rm(installed.directory, { recursive: true });
});

test.each(PAGES)('the code of docs/%s.md compiles, strictly', { timeout: 60_000 }, async (page) => {
  const text = await readFile(join(ROOT, `docs/${page}.md`), 'utf8');
  const files = [...text.matchAll(BLOCKS)].map(([, code], index) => ({ name: `${page}-${index + 1}.ts`, code }));
  expect(files.length).toBeGreaterThan(0);
  // Each stands for itself, as a module.
  for (const { name, code } of files) {
    await writeFile(join(installed.directory, 'docs', name), `${code}export {};\n`);
  }
  await compile(installed.directory, ['docs/world.ts', ...files.map(({ name }) => `docs/${name}`)]);
});
