import { join } from 'node:path';

/** What users install, compiled: beside `build`, in which this file lies when it runs. MILLRACE_TEST_DIST tests another build. */
export const DIST = process.env.MILLRACE_TEST_DIST ?? join(import.meta.dirname, '../../../../dist');

export const MAIN = join(DIST, 'cli/main.js');

export const product = (): Promise<typeof import('../../src/index.ts')> => import(join(DIST, 'index.js'));
