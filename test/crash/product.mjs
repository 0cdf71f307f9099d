/**
 * What users install, compiled; MILLRACE_TEST_DIST tests another build.
 */
const dist = process.env.MILLRACE_TEST_DIST ?? new URL('../../dist/', import.meta.url).pathname;

/** @type {typeof import('../../src/index.ts')} */
export const millrace = await import(`${dist}/index.js`);

export const cli = `${dist}/cli/main.js`;
