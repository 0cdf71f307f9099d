import { randomUUID } from 'node:crypto';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { dashboardRoutes, readDashboard } from '../../src/http/dashboard-files.ts';
import { LIMITS } from '../../src/limits.ts';
import { HttpPlace } from './place.ts';

describe('the files of the dashboard', () => {
  let directory: string;

  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), 'millrace-dashboard-'));
    await mkdir(join(directory, 'assets'));
    await writeFile(join(directory, 'index.html'), '<!doctype html><p>the page');
    await writeFile(join(directory, 'assets', 'index-0123.js'), 'export {};');
    await writeFile(join(directory, 'assets', 'index-0123.css'), 'p {}');
    await writeFile(join(directory, 'assets', 'notes.exe'), 'of a type that no page needs');
    await writeFile(join(directory, 'assets', 'large.js'), new Uint8Array(LIMITS.dashboardFileBytesMax + 1));
  });

  afterAll(() => rm(directory, { recursive: true, force: true }));

  const get = (path: string): Response | Promise<Response> => dashboardRoutes(directory).request(path);

  test('the page is asked for anew each time, and may load nothing from elsewhere', async () => {
    const page = await get('/');
    expect(await page.text()).toBe('<!doctype html><p>the page');
    expect(page.headers.get('content-type')).toBe('text/html; charset=utf-8');
    expect(page.headers.get('cache-control')).toBe('no-store');
    const policy = page.headers.get('content-security-policy') ?? '';
    expect(policy).toContain("default-src 'none'; script-src 'self'; style-src 'self'");
    expect(policy).toContain("frame-ancestors 'none'");
    expect(policy).not.toContain('unsafe');
  });

  test.each([
    ['/assets/index-0123.js', 'text/javascript; charset=utf-8'],
    ['/assets/index-0123.css', 'text/css; charset=utf-8'],
  ])('%s is kept by the browser: its name changes with it', async (path, type) => {
    const file = await get(path);
    expect(file.status).toBe(200);
    expect(file.headers.get('content-type')).toBe(type);
    expect(file.headers.get('cache-control')).toContain('immutable');
  });

  test.each(['/assets/', '/assets/gone.js', '/assets/notes.exe', '/assets/large.js', '/assets/..%2f..%2fpackage.json'])(
    '%s is not there',
    async (path) => {
      expect((await get(path)).status).toBe(404);
    },
  );

  test('what was not built has no files', () => {
    expect(readDashboard(join(directory, 'nowhere')).size).toBe(0);
  });
});

test('a server whose dashboard was not built says how to build it', async () => {
  // From src, where nothing is built.
  const place = await HttpPlace.open(`memory:${randomUUID()}`);
  try {
    const page = await fetch(`${place.url}/`);
    expect(page.status).toBe(200);
    expect(page.headers.get('content-security-policy')).toContain("default-src 'none'");
    expect(await page.text()).toContain('npm run build');
  } finally {
    await place.close();
  }
});
