/** The release; `package.json` has the same, and `npm version` sets both. */
export const VERSION = '0.1.0';
