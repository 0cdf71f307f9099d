// @ts-check
import { beanstalkds } from './beanstalkd.mjs';
import { millrace, millraceInterval } from './millrace.mjs';

/** @type {readonly import('../lib/system.mjs').System[]} */
export const SYSTEMS = [millrace, millraceInterval, ...beanstalkds];

/** @param {string} name */
export function systemNamed(name) {
  const system = SYSTEMS.find((one) => one.name === name);
  if (system === undefined) {
    throw new Error(`no system ${JSON.stringify(name)}; there are ${SYSTEMS.map((one) => one.name).join(', ')}`);
  }
  return system;
}
