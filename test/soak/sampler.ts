import { readdirSync, readFileSync } from 'node:fs';
import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';

/** What a process takes; undefined when it has gone meanwhile. */
export interface Usage {
  readonly rssBytes: number;
  readonly openFiles: number;
}

const PAGE_BYTES = 4096;

/** Linux tells it through files. */
export function usageOf(pid: number): Usage | undefined {
  try {
    const [, pages] = readFileSync(`/proc/${pid}/statm`, 'utf8').split(' ');
    return { rssBytes: Number(pages) * PAGE_BYTES, openFiles: openFilesOf(pid) };
  } catch {
    return undefined;
  }
}

/** Those of another user cannot be counted. */
function openFilesOf(pid: number): number {
  try {
    return readdirSync(`/proc/${pid}/fd`).length;
  } catch {
    return 0;
  }
}

/** What the files of a directory take, those below it too. Files come and go meanwhile. */
export async function bytesBelow(directory: string): Promise<number> {
  const entries = await readdir(directory, { withFileTypes: true }).catch(() => []);
  const sizes = entries.map(async (entry) => {
    const path = join(directory, entry.name);
    if (entry.isDirectory()) return await bytesBelow(path);
    const stats = await stat(path).catch(() => undefined);
    return (stats?.blocks ?? 0) * 512;
  });
  return (await Promise.all(sizes)).reduce((sum, bytes) => sum + bytes, 0);
}
