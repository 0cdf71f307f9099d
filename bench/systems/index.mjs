// @ts-check
import { beanstalkds } from './beanstalkd.mjs';
import { bullmqs } from './bullmq.mjs';
import { bunqueues } from './bunqueue.mjs';
import { graphileWorker } from './graphile-worker.mjs';
import { millrace, millraceInterval } from './millrace.mjs';
import { natses } from './nats.mjs';
import { pgBoss } from './pg-boss.mjs';
import { rabbits } from './rabbitmq.mjs';

/** @type {readonly import('../lib/system.mjs').System[]} */
export const SYSTEMS = [
  millrace,
  millraceInterval,
  ...rabbits,
  ...bullmqs,
  graphileWorker,
  pgBoss,
  ...natses,
  ...beanstalkds,
  ...bunqueues,
];

/** @param {string} name */
export function systemNamed(name) {
  const system = SYSTEMS.find((one) => one.name === name);
  if (system === undefined) {
    throw new Error(`no system ${JSON.stringify(name)}; there are ${SYSTEMS.map((one) => one.name).join(', ')}`);
  }
  return system;
}
