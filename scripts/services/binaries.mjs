// @ts-check
import { accessSync, constants, readdirSync } from 'node:fs';
import { delimiter, dirname, join } from 'node:path';

/**
 * The directory of rabbitmq-server and rabbitmqctl, or undefined. Debian's programs in PATH change to the user rabbitmq
 * and to the system's directories; those below /usr/lib do not.
 */
export function rabbitDirectory() {
  return ['/usr/lib/rabbitmq/bin', '/opt/homebrew/sbin', '/usr/local/sbin', ...path()]
    .filter((directory) => directory !== '/usr/sbin')
    .find((directory) => isProgram(join(directory, 'rabbitmq-server')) && isProgram(join(directory, 'rabbitmqctl')));
}

/** The directory of postgres and initdb, or undefined. */
export function postgresDirectory() {
  const debian = list('/usr/lib/postgresql')
    .sort((one, other) => Number(other) - Number(one))
    .map((version) => join('/usr/lib/postgresql', version, 'bin'));
  return [...path(), ...debian].find(
    (directory) => isProgram(join(directory, 'postgres')) && isProgram(join(directory, 'initdb')),
  );
}

/** Debian puts servers where ordinary users have no PATH to. @param {string} name */
export function serverProgram(name) {
  return program(name) ?? ['/usr/sbin', '/usr/local/sbin'].map((directory) => join(directory, name)).find(isProgram);
}

/** The program of a Chromium or Chrome, or undefined. */
export function chromiumProgram() {
  const inPath = ['chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable'].map(program);
  return [...inPath, '/Applications/Google Chrome.app/Contents/MacOS/Google Chrome'].find(
    (file) => file !== undefined && isProgram(file),
  );
}

/** @param {string} name */
export function program(name) {
  const directory = path().find((one) => isProgram(join(one, name)));
  return directory === undefined ? undefined : join(directory, name);
}

function path() {
  return [...(process.env.PATH ?? '').split(delimiter), dirname(process.execPath)].filter(Boolean);
}

/** @param {string} file */
function isProgram(file) {
  try {
    accessSync(file, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

/** @param {string} directory */
function list(directory) {
  try {
    return readdirSync(directory);
  } catch {
    return [];
  }
}
