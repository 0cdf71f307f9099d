import { appendFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';

// What the handlers did, one JSON line each: what a killed process has written stays.
const tell = (key, attempt, what) => appendFileSync('runs.ndjson', `${JSON.stringify({ key, attempt, what })}\n`);

export default {
  send: async ({ key }, { attempt }) => {
    tell(key, attempt, 'begun');
    await sleep(5 + Math.random() * 20);
    tell(key, attempt, 'ended');
    return key;
  },
  // The first attempt never ends.
  hang: ({ key }, { attempt }) => {
    tell(key, attempt, 'begun');
    return attempt === 1 ? new Promise(() => {}) : key;
  },
};
