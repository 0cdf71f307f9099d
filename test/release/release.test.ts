import { describe, expect, test } from 'vitest';
import { billOfMaterials, readLock, readManifest } from '../../scripts/release/artifacts.mjs';
import { problemsOfLock } from '../../scripts/release/lock.mjs';

describe('the lockfile', () => {
  test('brings no install script along, and holds every package by its hash', async () => {
    expect(problemsOfLock(await readLock())).toEqual([]);
  });

  const integrity = `sha512-${'A'.repeat(86)}==`;
  test.each([
    [{ integrity, hasInstallScript: true }, 'runs a script'],
    [{ integrity: 'sha1-2jmj7l5rSw0yVb/vlWAYkK/YBwk=' }, 'no SHA-512'],
    [{}, 'no SHA-512'],
    [{ link: true }, 'is a link'],
    [{ inBundle: true, integrity }, 'is bundled'],
    [{ integrity, resolved: 'git+ssh://git@host.example/evil.git#1234567' }, 'is no registry'],
    [{ integrity, resolved: 'http://registry.example/evil/-/evil-1.0.0.tgz' }, 'is no registry'],
  ])('with %j is refused', (locked, problem) => {
    const packages = { '': {}, 'node_modules/good': { integrity }, 'node_modules/evil': locked };
    const problems = problemsOfLock({ lockfileVersion: 3, packages });
    expect(problems).toEqual([expect.stringContaining(problem)]);
    expect(problems[0]).toMatch(/^node_modules\/evil /);
  });

  test('of another version is not taken for a good one', () => {
    expect(problemsOfLock({ lockfileVersion: 1 })).toHaveLength(1);
  });
});

describe('the bill of materials', () => {
  test('names what an installation brings along, no more and no less, and is the same each time', async () => {
    const [one, other] = await Promise.all([billOfMaterials(), billOfMaterials()]);
    expect(other).toBe(one);
    const { bomFormat, metadata, components } = JSON.parse(one);
    const { name, version } = await readManifest();
    expect(bomFormat).toBe('CycloneDX');
    expect(metadata.component).toMatchObject({ name, version, purl: `pkg:npm/${name}@${version}` });
    const listed = components.map((each: { name: string; version: string }) => `${each.name}@${each.version}`);
    expect(listed.sort()).toEqual((await installed()).sort());
    for (const { hashes } of components) expect(hashes).toEqual([expect.objectContaining({ alg: 'SHA-512' })]);
  });
});

/** By the lockfile: what no tool for development alone brings along. */
async function installed(): Promise<string[]> {
  const { packages } = await readLock();
  const names = Object.entries(packages).filter(([path, { dev }]) => path !== '' && dev !== true);
  return names.map(([path, { version }]) => `${path.slice(path.lastIndexOf('node_modules/') + 13)}@${version}`);
}

test('the package runs nothing when it is installed', async () => {
  const { scripts } = await readManifest();
  expect(Object.keys(scripts).filter((name) => /^(pre|post)?install$|^(pre|post)?prepare$/.test(name))).toEqual([]);
});
