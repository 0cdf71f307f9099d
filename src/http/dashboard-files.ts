import { readdirSync, readFileSync, statSync } from 'node:fs';
import { extname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { LIMITS } from '../limits.ts';
import { type HttpApp, newApp } from './context.ts';

/** A file of the dashboard, in memory: there are few, and they are small. */
export interface DashboardFile {
  readonly body: Uint8Array<ArrayBuffer>;
  readonly type: string;
  /** Its name says what is in it: it never changes. */
  readonly isImmutable: boolean;
}

/** Where `npm run build` puts it. */
export const DASHBOARD_DIRECTORY = fileURLToPath(new URL('../dashboard/', import.meta.url));

const TYPES: Readonly<Record<string, string>> = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.svg': 'image/svg+xml',
};

/**
 * Nothing but the own origin's files and API: no inline script or style, no other origin, no frame around it. What a task
 * says is only ever put in as text; trusted types have the browser refuse everything else.
 */
const SECURITY_HEADERS = {
  'content-security-policy': [
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "img-src 'self' data:",
    "connect-src 'self'",
    "font-src 'self'",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
    "require-trusted-types-for 'script'",
    "trusted-types 'none'",
  ].join('; '),
} as const;

const NOT_BUILT = `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>Millrace</title>
<p>The dashboard is not built here: <code>npm run build</code>, then start the server again.</p>
<p>The API is there all the same: <a href="openapi.json">openapi.json</a>.</p>
</html>
`;

/** Each by its path from the page on; empty when it was not built. Reads at most LIMITS.dashboardFilesMax. */
export function readDashboard(directory: string): Map<string, DashboardFile> {
  const files = new Map<string, DashboardFile>();
  for (const path of listed(directory)) {
    const type = TYPES[extname(path)];
    const file = join(directory, path);
    if (type === undefined || statSync(file).size > LIMITS.dashboardFileBytesMax) continue;
    if (files.size >= LIMITS.dashboardFilesMax) break;
    files.set(path.replaceAll('\\', '/'), {
      body: new Uint8Array(readFileSync(file)),
      type,
      isImmutable: path.startsWith('assets'),
    });
  }
  return files;
}

function listed(directory: string): string[] {
  try {
    return readdirSync(directory, { recursive: true, encoding: 'utf8' }).sort();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
}

/** The page at `/`, and its files below `/assets/`. */
export function dashboardRoutes(directory: string = DASHBOARD_DIRECTORY): HttpApp {
  const files = readDashboard(directory);
  const page = files.get('index.html') ?? {
    body: new TextEncoder().encode(NOT_BUILT),
    type: TYPES['.html'] as string,
    isImmutable: false,
  };
  const app = newApp();
  app.get('/', () => answer(page));
  for (const [path, file] of files) {
    if (path !== 'index.html') app.get(`/${path}`, () => answer(file));
  }
  return app;
}

function answer({ body, type, isImmutable }: DashboardFile): Response {
  return new Response(body, {
    headers: {
      ...SECURITY_HEADERS,
      'content-type': type,
      'cache-control': isImmutable ? 'public, max-age=31536000, immutable' : 'no-store',
    },
  });
}
