import { existsSync } from 'node:fs';
import { readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join, normalize, relative, sep } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { ROOT } from '../../scripts/release/artifacts.mjs';
import { type Finished, RunningCommand } from '../support/command.ts';
import { compile, type Installed, install, run } from './installed.ts';

const LINES_MAX = 100;
const COLUMNS_MAX = 120;

/** A TypeScript block that begins with a comment naming its file, and the block of output that follows it, if one does. */
interface Program {
  readonly name: string;
  readonly code: string;
  readonly output: string | undefined;
}

const PROGRAMS = /^```ts\n(\/\/ ([\w-]+)\.ts\n[\s\S]*?)^```\n(?:```\n([\s\S]*?)^```$)?/gm;
const HANDLERS = /^```js\n\/\/ handlers\.js\n([\s\S]*?)^```$/m;
const COMMANDS = /^npx millrace (\w+) .*$/gm;

const readme = await readFile(join(ROOT, 'README.md'), 'utf8');
const programs: Program[] = [...readme.matchAll(PROGRAMS)].map(([, code, name, output]) => ({ name, code, output }));

/** The arguments of the command line as it stands there. */
function commandOf(name: string): string[] {
  const [line = ''] = [...readme.matchAll(COMMANDS)].find(([, command]) => command === name) ?? [];
  const words = line.replace(/ +# .*$/, '').match(/'[^']*'|\S+/g) ?? [];
  return words.slice(2).map((word) => word.replaceAll("'", ''));
}

test('README.md is two screens long', () => {
  const lines = readme.trimEnd().split('\n');
  expect(lines.length).toBeLessThanOrEqual(LINES_MAX);
  expect(lines.filter((line) => line.length > COLUMNS_MAX)).toEqual([]);
});

describe('what README.md shows, with the package installed', () => {
  let installed: Installed;

  beforeAll(async () => {
    installed = await install();
  }, 60_000);

  afterAll(async () => {
    await rm(installed.directory, { recursive: true });
  });

  test('installs what npm pack makes', () => {
    expect(readme).toContain(`makes \`${installed.tarball}\``);
    expect(readme).toMatch(new RegExp(`^npm init .* npm install \\S+/${installed.tarball}$`, 'm'));
  });

  test('has in it what it needs and says, and nothing else', async () => {
    const entries = await readdir(installed.home, { recursive: true, withFileTypes: true });
    const files = entries.filter((entry) => entry.isFile());
    const paths = files.map(({ parentPath, name }) => relative(installed.home, join(parentPath, name)));
    const kinds = new Set(paths.map((path) => path.split(sep)[0]));
    expect([...kinds].sort()).toEqual(
      ['CHANGELOG.md', 'LICENSE', 'README.md', 'SECURITY.md', 'dist', 'docs', 'examples', 'package.json'].sort(),
    );
    expect(paths.filter((path) => /\.test\.|node_modules|\.env|\.pem$|\.key$/.test(path))).toEqual([]);
    for (const path of ['dist/index.js', 'dist/index.d.ts', 'dist/cli/main.js'])
      expect(paths).toContain(normalize(path));
  });

  test('has programs that compile, strictly', { timeout: 60_000 }, async () => {
    expect(programs.length, 'a ```ts block that begins with a comment such as // first.ts').toBeGreaterThan(0);
    for (const { name, code } of programs) await writeFile(join(installed.directory, `${name}.ts`), code);
    await compile(installed.directory, ['*.ts']);
  });

  test.each(programs)('says what the program $name prints', async ({ name, output }) => {
    const { stdout, stderr } = await run(process.execPath, [`${name}.js`], {
      cwd: installed.directory,
      timeout: 15_000,
    });
    expect(stderr).toBe('');
    if (output !== undefined) expect(stdout).toBe(output);
  });

  test('has commands that run its handlers', { timeout: 60_000 }, async () => {
    const { directory, main } = installed;
    await writeFile(join(directory, 'handlers.js'), HANDLERS.exec(readme)?.[1] as string);
    const running: RunningCommand[] = [];
    const start = (name: string, environment: Record<string, string>): RunningCommand => {
      const command = new RunningCommand(commandOf(name), { directory, main, environment });
      running.push(command);
      return command;
    };
    try {
      // Not the port of the text, which others may have.
      const [, url = ''] = await start('server', { MILLRACE_PORT: '0' }).said(/listens on (tcp:\S+)/);
      await start('worker', { MILLRACE_URL: url }).said(/takes image\.resize/);
      const enqueued: Finished = await start('enqueue', { MILLRACE_URL: url }).exited;
      expect(enqueued).toEqual({ code: 0, stdout: '"cat.png at 800 px"\n', stderr: '' });
      await start('status', { MILLRACE_URL: url }).said(/^default .*$/m);
    } finally {
      for (const command of running) await command.kill();
    }
  });
});

test('the files that docs/guarantees.md names as its proof are there', async () => {
  const text = await readFile(join(ROOT, 'docs/guarantees.md'), 'utf8');
  const named = [...text.matchAll(/`((?:src|test)\/[\w/.-]+)`/g)].map(([, path]) => path as string);
  expect(named.length).toBeGreaterThan(20);
  expect(named.filter((path) => !existsSync(join(ROOT, path)))).toEqual([]);
});
