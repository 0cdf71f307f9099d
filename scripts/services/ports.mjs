// @ts-check

import { readFileSync } from 'node:fs';
import { connect, createServer } from 'node:net';

/** Ports that are handed out and perhaps not listened on yet. @type {Set<number>} */
const given = new Set();

/**
 * Ports on which nobody listens, below those that the system gives to outgoing connections: a service that is restarted
 * must find its port free.
 *
 * @param {number} count
 * @returns {Promise<number[]>}
 */
export async function freePorts(count) {
  const ports = [];
  const below = lowestEphemeralPort();
  for (let attempt = 0; ports.length < count; attempt += 1) {
    if (attempt === 1000) throw new Error(`no ${count} free ports between 10000 and ${below}`);
    const port = 10_000 + Math.floor(Math.random() * (below - 10_000));
    if (given.has(port) || !(await isFree(port))) continue;
    given.add(port);
    ports.push(port);
  }
  return ports;
}

function lowestEphemeralPort() {
  try {
    const [low] = readFileSync('/proc/sys/net/ipv4/ip_local_port_range', 'utf8').split(/\s+/).map(Number);
    return Math.max(low, 12_000);
  } catch {
    // macOS and Windows begin at 49152, Linux by default at 32768.
    return 32_768;
  }
}

/** @param {number} port */
export function isFree(port) {
  return new Promise((resolve) => {
    const server = createServer();
    server.once('error', () => resolve(false));
    server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)));
  });
}

/** Whether somebody takes connections there. @param {number} port @returns {Promise<boolean>} */
export function listens(port) {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1');
    socket.once('error', () => resolve(false));
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
  });
}

/**
 * Whether what listens there answers `hello` with at least one byte, or with what begins like `expected`.
 *
 * @param {number} port
 * @param {Uint8Array} hello
 * @param {string} [expected]
 * @returns {Promise<boolean>}
 */
export function answers(port, hello, expected = '') {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1');
    /** @param {boolean} yes */
    const end = (yes) => {
      socket.destroy();
      resolve(yes);
    };
    socket.setTimeout(2000, () => end(false));
    socket.once('connect', () => socket.write(hello));
    socket.once('data', (data) => end(data.toString('latin1').startsWith(expected)));
    socket.once('error', () => end(false));
    socket.once('end', () => end(false));
  });
}
