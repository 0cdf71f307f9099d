// @ts-check
// npm run release: see docs/releasing.md.
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { run } from '../services/processes.mjs';
import { billOfMaterials, npm, pack, ROOT, readLock, readManifest, sha512, tryOut } from './artifacts.mjs';
import { problemsOfLock } from './lock.mjs';

const USAGE = `Usage: npm run release -- [options]

Makes what a release consists of, in a folder: the package, built twice and the same both times, its bill of materials
(CycloneDX), and the SHA-512 of both. Before that it holds that the lockfile brings no script along and that npm knows of no
vulnerability in what users install; after it that the package installs and works where nothing else is.

  --out DIR     where to put them (default: release)
  --no-audit    the registry cannot be asked for vulnerabilities: says so, and --publish is refused
  --publish     then publish, with provenance: in the CI of a public repository, at the tag of the version, all tests passed
  -h, --help    show this`;

const TESTS_TIMEOUT_MS = 60 * 60_000;

/** Fails a release; what it says is all that one needs to know. */
class Refusal extends Error {}

try {
  await main();
} catch (error) {
  const wrongUsage = error instanceof Error && 'code' in error && String(error.code).startsWith('ERR_PARSE_ARGS');
  if (!(error instanceof Refusal) && !wrongUsage) throw error;
  process.stderr.write(`${error.message}${wrongUsage ? `\n\n${USAGE}` : ''}\n`);
  process.exitCode = wrongUsage ? 2 : 1;
}

async function main() {
  const { values } = parseArgs({
    options: {
      out: { type: 'string', default: 'release' },
      'no-audit': { type: 'boolean', default: false },
      publish: { type: 'boolean', default: false },
      help: { type: 'boolean', short: 'h', default: false },
    },
  });
  if (values.help) {
    process.stdout.write(`${USAGE}\n`);
    return;
  }
  if (values.publish && values['no-audit']) throw new Refusal('--publish needs the audit: leave --no-audit out');
  const manifest = await readManifest();
  if (values.publish) await checkPublishable(manifest);
  await checkLock();
  if (values['no-audit']) tell('NOT AUDITED: npm was not asked for known vulnerabilities');
  else await audit();
  if (values.publish) {
    tell('all tests');
    await npm(['run', 'test:all'], { timeoutMs: TESTS_TIMEOUT_MS });
  }
  const tarball = await build(resolve(values.out), manifest);
  if (values.publish) await npm(['publish', tarball, '--provenance', '--access', 'public']);
}

/** @param {import('./artifacts.mjs').Manifest} manifest */
async function checkPublishable({ version, repository }) {
  // npm proves where a package was built by a token of the CI that builds it, and by the repository that is named here.
  if (repository === undefined) throw new Refusal('package.json names no repository, and provenance is about one');
  if (process.env.GITHUB_ACTIONS === undefined && process.env.GITLAB_CI === undefined) {
    throw new Refusal('provenance comes from GitHub Actions or GitLab CI: publish from there (docs/releasing.md)');
  }
  const changed = await run('git', ['status', '--porcelain'], { cwd: ROOT });
  if (changed !== '') throw new Refusal(`there are changes that are not committed:\n${changed}`);
  const tags = (await run('git', ['tag', '--points-at', 'HEAD'], { cwd: ROOT })).split('\n');
  if (!tags.includes(`v${version}`)) throw new Refusal(`this commit is not tagged v${version}`);
  const changelog = await readFile(join(ROOT, 'CHANGELOG.md'), 'utf8');
  if (!changelog.includes(`\n## [${version}]`)) throw new Refusal(`CHANGELOG.md has no section [${version}]`);
}

async function checkLock() {
  const problems = problemsOfLock(await readLock());
  if (problems.length > 0) throw new Refusal(problems.join('\n'));
  tell('lockfile: no install scripts, every package held by its hash');
}

async function audit() {
  try {
    await npm(['audit', '--omit', 'dev', '--audit-level', 'low']);
  } catch (error) {
    throw new Refusal(`${error instanceof Error ? error.message : error}\n\nNothing was made.`);
  }
  tell('audit: no known vulnerability in what users install');
}

/**
 * @param {string} out
 * @param {import('./artifacts.mjs').Manifest} manifest
 */
async function build(out, { name, version }) {
  await mkdir(out, { recursive: true });
  const tarball = await pack(out, { build: true });
  const hash = await sha512(tarball);
  const elsewhere = await mkdtemp(join(tmpdir(), 'millrace-again-'));
  try {
    const again = await sha512(await pack(elsewhere, { build: true }));
    if (again !== hash) throw new Refusal(`built twice, and not the same: ${hash} and ${again}`);
  } finally {
    await rm(elsewhere, { recursive: true });
  }
  await tryOut(tarball);
  const bill = join(out, `${name}-${version}.cdx.json`);
  await writeFile(bill, await billOfMaterials());
  const sums = [`${hash}  ${basename(tarball)}`, `${await sha512(bill)}  ${basename(bill)}`];
  await writeFile(join(out, 'SHA512SUMS'), `${sums.join('\n')}\n`);
  tell(`${tarball}: the same when built again, installs and works\n${bill}\n${join(out, 'SHA512SUMS')}`);
  return tarball;
}

/** @param {string} line */
function tell(line) {
  process.stderr.write(`${line}\n`);
}
