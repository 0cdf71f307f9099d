/**
 * What users install, compiled: programs that tests start as processes of their own use nothing else.
 *
 * @type {typeof import('../../../src/index.ts')}
 */
export const millrace = await import(new URL('../../../dist/index.js', import.meta.url).href);
