import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';

const run = promisify(execFile);
const ROOT = fileURLToPath(new URL('../../', import.meta.url));
const README = join(ROOT, 'README.md');

/** A TypeScript block that begins with a comment naming its file, and the block of output that follows it, if one does. */
interface Program {
  readonly name: string;
  readonly code: string;
  readonly output: string | undefined;
}

const BLOCKS = /^```ts\n(\/\/ ([\w-]+)\.ts\n[\s\S]*?)^```\n(?:```\n([\s\S]*?)^```$)?/gm;

function programsIn(markdown: string): Program[] {
  return [...markdown.matchAll(BLOCKS)].map(([, code, name, output]) => ({ name, code, output }));
}

const programs = existsSync(README) ? programsIn(await readFile(README, 'utf8')) : [];

describe.runIf(existsSync(README))('README.md', () => {
  let directory: string;

  // As somebody has it who installed the package and copied the programs.
  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), 'millrace-readme-'));
    await mkdir(join(directory, 'node_modules'));
    await symlink(ROOT, join(directory, 'node_modules/millrace'), 'junction');
    await symlink(join(ROOT, 'node_modules/@types'), join(directory, 'node_modules/@types'), 'junction');
    await writeFile(join(directory, 'package.json'), JSON.stringify({ type: 'module' }));
    const compilerOptions = {
      target: 'es2023',
      module: 'nodenext',
      strict: true,
      types: ['node'],
      skipLibCheck: false,
    };
    await writeFile(join(directory, 'tsconfig.json'), JSON.stringify({ compilerOptions, include: ['*.ts'] }));
    for (const { name, code } of programs) await writeFile(join(directory, `${name}.ts`), code);
  });

  afterAll(async () => {
    await rm(directory, { recursive: true });
  });

  test('shows programs that can be run', () => {
    expect(programs.length, 'a ```ts block that begins with a comment such as // first.ts').toBeGreaterThan(0);
  });

  test('shows programs that compile, strictly', { timeout: 60_000 }, async () => {
    const tsc = join(ROOT, 'node_modules/typescript/bin/tsc');
    await run(process.execPath, [tsc, '-p', directory]).catch(({ stdout, stderr }: Record<string, string>) => {
      throw new Error(`${stdout}${stderr}`);
    });
  });

  test.each(programs)('shows what $name.ts prints', async ({ name, output }) => {
    const { stdout, stderr } = await run(process.execPath, [`${name}.js`], { cwd: directory, timeout: 15_000 });
    expect(stderr).toBe('');
    if (output !== undefined) expect(stdout).toBe(output);
  });
});

test('the files that docs/guarantees.md names as its proof are there', async () => {
  const text = await readFile(join(ROOT, 'docs/guarantees.md'), 'utf8');
  const named = [...text.matchAll(/`((?:src|test)\/[\w/.-]+)`/g)].map(([, path]) => path as string);
  expect(named.length).toBeGreaterThan(20);
  expect(named.filter((path) => !existsSync(join(ROOT, path)))).toEqual([]);
});
