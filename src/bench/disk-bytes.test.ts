import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { diskBytes } from './disk-bytes.ts';

test('a directory takes what its files and those below it take', () => {
  const directory = mkdtempSync(join(tmpdir(), 'millrace-test-'));
  try {
    expect(diskBytes(directory)).toBe(0);
    mkdirSync(join(directory, 'below'));
    for (const path of ['file', 'below/file']) writeFileSync(join(directory, path), Buffer.alloc(100_000, 1));
    expect(diskBytes(directory)).toBeGreaterThanOrEqual(200_000);
    expect(diskBytes(directory)).toBeLessThan(400_000);
  } finally {
    rmSync(directory, { recursive: true });
  }
});
