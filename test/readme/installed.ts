import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, readFile, rename, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { pack, ROOT } from '../../scripts/release/artifacts.mjs';

export const run = promisify(execFile);

interface Manifest {
  readonly bin: Readonly<Record<string, string>>;
  readonly dependencies: Readonly<Record<string, string>>;
}

export interface Installed {
  readonly directory: string;
  /** Of the file that `npm pack` made. */
  readonly tarball: string;
  /** What the file has in it. */
  readonly home: string;
  /** What `npx millrace` runs. */
  readonly main: string;
}

/**
 * A directory of somebody who has installed what `npm pack` makes of this checkout, and nothing that it does not ask for.
 * Without a registry: what it depends on is linked to what is here.
 */
export async function install(): Promise<Installed> {
  const directory = await mkdtemp(join(tmpdir(), 'millrace-readme-'));
  const modules = join(directory, 'node_modules');
  await mkdir(modules);
  const tarball = basename(await pack(directory, { build: false }));
  await run('tar', ['-xzf', tarball], { cwd: directory });
  const home = join(modules, 'millrace');
  await rename(join(directory, 'package'), home);
  const { bin, dependencies } = JSON.parse(await readFile(join(home, 'package.json'), 'utf8')) as Manifest;
  for (const name of [...Object.keys(dependencies), '@types/node']) {
    await mkdir(dirname(join(modules, name)), { recursive: true });
    await symlink(join(ROOT, 'node_modules', name), join(modules, name), 'junction');
  }
  await writeFile(join(directory, 'package.json'), JSON.stringify({ type: 'module' }));
  return { directory, tarball, home, main: join(home, bin.millrace as string) };
}

/** Throws with what tsc says. */
export async function compile(directory: string, include: readonly string[]): Promise<void> {
  const compilerOptions = { target: 'es2023', module: 'nodenext', strict: true, types: ['node'], skipLibCheck: false };
  await writeFile(join(directory, 'tsconfig.json'), JSON.stringify({ compilerOptions, include }));
  const tsc = join(ROOT, 'node_modules/typescript/bin/tsc');
  await run(process.execPath, [tsc, '-p', directory]).catch(({ stdout, stderr }: Record<string, string>) => {
    throw new Error(`${stdout}${stderr}`);
  });
}
