/** The release; `package.json` carries the same. */
export const VERSION = '0.1.0';
