// @ts-check
import { chromiumProgram } from './binaries.mjs';
import { run } from './processes.mjs';
import { provide, ServiceMissing } from './services.mjs';

/**
 * @typedef {object} FoundChromium
 * @property {string} url Of its WebSocket, for playwright-core's `chromium.connect`.
 * @property {() => Promise<void>} stop
 */

/** It asks nobody on the network for anything, and draws without a graphics card. */
const FLAGS = [
  '--disable-gpu',
  '--disable-quic',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
  '--no-first-run',
];

/**
 * A browser without a window: `CHROMIUM_PATH`, or one that is on this machine, or Debian's by apt-get.
 *
 * @param {{ tell: (line: string) => void }} options
 * @returns {Promise<FoundChromium>}
 */
export async function findChromium({ tell }) {
  const program = process.env.CHROMIUM_PATH || (await installed(tell));
  const { chromium } = await import('playwright-core');
  try {
    // Ubuntu's chromium-browser is a script that only tells how to install another one.
    await run(program, ['--version'], { timeoutMs: 30_000 });
    const server = await chromium.launchServer({
      executablePath: program,
      // Its sandbox needs an ordinary user; where tests run as root, they run in a container.
      args: process.getuid?.() === 0 ? ['--no-sandbox', ...FLAGS] : FLAGS,
      host: '127.0.0.1',
    });
    return { url: server.wsEndpoint(), stop: () => server.close() };
  } catch (error) {
    throw missing(`${program} does not run: ${String(error).split('\n')[0]}`);
  }
}

/** @param {(line: string) => void} tell */
async function installed(tell) {
  const refused = await provide(chromiumProgram, ['chromium', 'chromium-sandbox'], tell);
  const program = chromiumProgram();
  if (refused !== undefined || program === undefined) throw missing(refused ?? 'it is gone again');
  return program;
}

/** @param {string} reason */
function missing(reason) {
  return new ServiceMissing(
    `no Chromium here (${reason}): install it (Debian: apt-get install chromium chromium-sandbox), or set CHROMIUM_PATH to a Chromium or Chrome`,
  );
}
