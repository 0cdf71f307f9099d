import { execFile } from 'node:child_process';
import { cp, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';

const root = resolve(import.meta.dirname, '../..');
const biome = createRequire(import.meta.url).resolve('@biomejs/biome/bin/biome');

interface Diagnostic {
  category: string;
  message: string;
  location: { path: string };
}

/** [folder, source, what the diagnostic must say] */
const violations: [string, string, string][] = [
  ['src/core', "import '../journal/log.ts';", 'src/core imports nothing outside'],
  ['src/core', "import '../io/clock.ts';", 'src/core imports nothing outside'],
  ['src/core', "import 'pino';", 'src/core imports nothing outside'],
  ['src/core', "import 'node:fs';", 'src/core imports nothing outside'],
  ['src/core', "export const late = import('../io/clock.ts');", 'src/core imports nothing outside'],
  ['src/io', "import '../core/queue.ts';", 'src/io imports no other folder'],
  ['src/access', "import '../server/host.ts';", 'src/access imports no other folder'],
  ['src/access', "import '../io/clock.ts';", 'src/access imports no other folder'],
  ['src/journal', "import '../core/queue.ts';", 'src/journal imports only src/io'],
  ['src/protocol', "import '../journal/log.ts';", 'src/protocol imports only the types'],
  ['src/protocol', "import { queue } from '../core/queue.ts';\nexport const q = queue;", 'Only types cross'],
  ['src/protocol', "export { queue } from '../core/queue.ts';", 'Only types cross'],
  ['src/engine', "import '../server/session.ts';", 'src/engine imports only'],
  ['src/engine', "import '../broker/contract.ts';", 'src/engine imports only'],
  ['src/schedule', "import '../engine/engine.ts';", 'src/schedule imports only'],
  ['src/server', "import '../client/client.ts';", 'src/server imports only'],
  ['src/client', "import '../engine/engine.ts';", 'src/client imports only'],
  ['src/client', "import '../broker/tcp/connection.ts';", 'src/client imports only'],
  ['src/worker', "import '../protocol/frame.ts';", 'src/worker imports only'],
  ['src/worker', "import '../client/client.ts';", 'src/worker imports only'],
  ['src/worker/threads', "import '../../client/client.ts';", 'src/worker imports only'],
  ['src/task', "import '../worker/worker.ts';", 'src/task imports only'],
  ['src/sealing', "import '../task/codec.ts';", 'src/sealing imports only'],
  ['src/broker', "import '../client/client.ts';", 'src/broker imports only'],
  ['src/broker', "import '../server/listener.ts';", 'src/broker imports only'],
  ['src/broker/tcp', "import '../../worker/worker.ts';", 'A backend imports only'],
  ['src/broker/tcp', "import '../embedded/broker.ts';", 'A backend imports only'],
  ['src/http', "import '../engine/engine.ts';", 'src/http imports only'],
  ['src/http', "import '../protocol/frames.ts';", 'src/http imports only'],
  ['src/scaling', "import '../worker/worker.ts';", 'src/scaling imports only'],
  ['src/scaling', "import '../cli/worker.ts';", 'src/scaling imports only'],
  ['src/bench', "import '../engine/engine.ts';", 'src/bench imports only'],
  ['src/bench', "import '../cli/main.ts';", 'src/bench imports only'],
  ['src/testing', "import '../server/host.ts';", 'src/testing imports only'],
  ['src/testing', "import '../core/core.ts';", 'src/testing imports only'],
  [
    'dashboard/src',
    "import type { Client } from '../../src/client/client.ts';\nexport type C = Client;",
    'The dashboard imports only',
  ],
  ['dashboard/src', "import 'node:fs';", 'The dashboard imports only'],
  [
    'dashboard/src',
    "import { broker } from '../../src/broker/contract.ts';\nexport const b = broker;",
    'Only types cross',
  ],
  ['src', "import './testing/test-queue.ts';", 'Nobody imports src/testing'],
  ['src/otel', "import '../client/client.ts';", 'src/otel imports only'],
  ['src', "import './otel/tracing.ts';", 'Nobody imports src/otel'],
  ['src/client', "import '../testing/test-clock.ts';", 'src/client imports only'],
  ['src', "import './bench/suite.ts';", 'Only src/cli imports src/bench'],
  ['src/server', "import '../bench/suite.ts';", 'src/server imports only'],
  ['src', "import './cli/main.ts';", 'Nobody imports src/cli'],
  ['src/server', "import '../cli/main.ts';", 'src/server imports only'],
  ...['journal', 'protocol', 'engine'].flatMap((folder) =>
    ['fs', 'fs/promises', 'net', 'timers', 'timers/promises', 'perf_hooks', 'crypto'].map(
      (module): [string, string, string] => [`src/${folder}`, `import 'node:${module}';`, 'Only src/io touches'],
    ),
  ),
  ...['core', 'journal', 'protocol', 'engine'].flatMap((folder) => [
    ...['setTimeout', 'setInterval', 'setImmediate', 'Date', 'performance', 'crypto'].map(
      (name): [string, string, string] => [
        `src/${folder}`,
        `export const it: unknown = ${name};`,
        `global variable ${name}`,
      ],
    ),
    [`src/${folder}`, 'export const it = Math.random();', 'Take randomness from src/io'] as [string, string, string],
  ]),
];

const leaves = "import '../errors.ts';\nimport '../ids.ts';\nimport '../limits.ts';";

const permitted: [string, string][] = [
  ['src/core', `import 'node:buffer';\nimport 'node:zlib';\nimport './queue.ts';\n${leaves}`],
  ['src/access', `import 'node:crypto';\nimport './grant.ts';\n${leaves}`],
  ['src/io', `import 'node:fs';\nimport 'node:net';\n${leaves}\nexport const now = Date.now();`],
  ['src/journal', `import 'node:zlib';\nimport '../io/disk.ts';\n${leaves}`],
  [
    'src/protocol',
    `import type { Task } from '../core/task.ts';\nimport '../broker/contract.ts';\n${leaves}\nexport type T = Task;`,
  ],
  ['src/protocol', "export type { Task } from '../core/task.ts';"],
  ['src/engine', `import '../core/a.ts';\nimport '../io/b.ts';\nimport '../journal/c.ts';\nimport '../protocol/d.ts';`],
  [
    'src/server',
    `import '../core/a.ts';\nimport '../engine/b.ts';\nimport '../io/c.ts';\nimport 'node:net';\n${leaves}`,
  ],
  [
    'src/client',
    `import '../broker/contract.ts';\nimport '../task/task.ts';\nimport '../worker/worker.ts';\nimport '../io/clock.ts';\n${leaves}`,
  ],
  ['src/worker', `import '../broker/contract.ts';\nimport '../task/task.ts';\nimport 'pino';\n${leaves}`],
  [
    'src/sealing',
    "import 'node:crypto';\nimport '../broker/contract.ts';\nimport '../errors.ts';\nimport '../limits.ts';",
  ],
  ['src/broker', `import './tcp/connection.ts';\nimport '../protocol/frame.ts';\n${leaves}`],
  [
    'src/broker/tcp',
    "import '../contract.ts';\nimport '../../errors.ts';\nimport '../../protocol/frame.ts';\nimport '../../io/net.ts';",
  ],
  ['src/broker/embedded', "import '../../engine/engine.ts';\nimport '../../server/host.ts';"],
  ['src/http', `import '../broker/contract.ts';\nimport '../protocol/json-members.ts';\n${leaves}`],
  ['src/scaling', `import '../broker/contract.ts';\nimport '../io/clock.ts';\nimport 'node:child_process';\n${leaves}`],
  ['src/bench', `import '../index.ts';\nimport '../server/server.ts';\nimport './ledger.ts';`],
  [
    'src/testing',
    `import '../client/client.ts';\nimport '../broker/embedded/embedded.ts';\nimport '../io/clock.ts';\n${leaves}`,
  ],
  [
    'dashboard/src',
    "import type { Status } from '../../src/broker/contract.ts';\nimport 'preact';\nexport type S = Status;",
  ],
  ['src/cli', "import '../bench/suite.ts';"],
  ['src/cli', "import '../engine/engine.ts';\nimport './options.ts';\nimport '../http/api.ts';"],
];

const arrowCategories = ['lint/style/noRestrictedImports', 'lint/style/noRestrictedGlobals', 'plugin'];

describe('import arrows', () => {
  let directory: string;
  const byFile = new Map<string, Diagnostic[]>();

  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), 'millrace-arrows-'));
    for (const name of ['biome.json', 'lint', '.gitignore']) {
      await cp(join(root, name), join(directory, name), { recursive: true });
    }
    const plant = async (path: string, source: string): Promise<void> => {
      await mkdir(dirname(join(directory, path)), { recursive: true });
      await writeFile(join(directory, path), `${source}\n`);
    };
    for (const [index, [folder, source]] of violations.entries()) await plant(`${folder}/violation${index}.ts`, source);
    for (const [index, [folder, source]] of permitted.entries()) await plant(`${folder}/permitted${index}.ts`, source);
    await plant('src/core/cycleA.ts', "import { b } from './cycleB.ts';\nexport const a = (): unknown => b;");
    await plant('src/core/cycleB.ts', "import { a } from './cycleA.ts';\nexport const b = (): unknown => a;");
    await plant(
      'src/server/floating.ts',
      'async function f(): Promise<void> {}\nexport function g(): void {\n  f();\n}',
    );
    await plant('src/core/unit.test.ts', "import '../io/clock.ts';\nimport 'vitest';");

    const output = await promisify(execFile)(
      process.execPath,
      [biome, 'lint', '--reporter=json', '--max-diagnostics=none'],
      { cwd: directory, maxBuffer: 64 * 1024 * 1024 },
    ).then(
      () => Promise.reject(new Error('biome accepted a tree full of planted violations')),
      (error: { stdout: string }) => error.stdout,
    );
    for (const diagnostic of (JSON.parse(output) as { diagnostics: Diagnostic[] }).diagnostics) {
      const path = diagnostic.location.path.replaceAll('\\', '/');
      byFile.set(path, [...(byFile.get(path) ?? []), diagnostic]);
    }
  });

  afterAll(() => rm(directory, { recursive: true, force: true }));

  const arrowsBroken = (path: string): string[] =>
    (byFile.get(path) ?? []).filter((d) => arrowCategories.includes(d.category)).map((d) => d.message);

  test.each(violations.map((v, index) => [...v, index] as const))('%s rejects %j', (folder, _source, says, index) => {
    expect(arrowsBroken(`${folder}/violation${index}.ts`)).toEqual([expect.stringContaining(says)]);
  });

  test.each(permitted.map((p, index) => [...p, index] as const))('%s accepts %j', (folder, _source, index) => {
    expect(arrowsBroken(`${folder}/permitted${index}.ts`)).toEqual([]);
  });

  test('a unit test beside its file may import real parts of other folders', () => {
    expect(arrowsBroken('src/core/unit.test.ts')).toEqual([]);
  });

  test('an import cycle is rejected', () => {
    expect((byFile.get('src/core/cycleA.ts') ?? []).map((d) => d.category)).toContain('lint/suspicious/noImportCycles');
  });

  test('a floating promise is rejected', () => {
    expect((byFile.get('src/server/floating.ts') ?? []).map((d) => d.category)).toContain(
      'lint/nursery/noFloatingPromises',
    );
  });
});
