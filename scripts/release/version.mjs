// @ts-check
// `npm version` has set the version in package.json; the programs say it from here.
import { readFile, writeFile } from 'node:fs/promises';

const { version } = JSON.parse(await readFile('package.json', 'utf8'));
const file = 'src/version.ts';
const source = await readFile(file, 'utf8');
const parts = source.split(/(?<=VERSION = ')[^']+(?=';)/);
if (parts.length !== 2) throw new Error(`${file} does not set VERSION once`);
await writeFile(file, parts.join(version));
