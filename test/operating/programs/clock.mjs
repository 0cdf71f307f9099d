import { existsSync, readFileSync } from 'node:fs';

// Loaded before the server's own code. The file `clock` says by how many milliseconds this machine's clock is wrong, at the
// start and again at each SIGUSR2. Steady time goes on, as it does when somebody sets a clock.
const FILE = 'clock';
const trueNow = Date.now;
let wrongByMs = 0;
const set = () => {
  wrongByMs = existsSync(FILE) ? Number(readFileSync(FILE, 'utf8')) : 0;
};
set();
Date.now = () => trueNow() + wrongByMs;
process.on('SIGUSR2', set);
