// Loaded before the server's own code: SIGUSR2 moves the wall clock of this process by up to a day, or back to the truth.
// Steady time (`performance.now`, timers) goes on as it does when somebody sets a machine's clock.
const DAY_MS = 86_400_000;
const trueNow = Date.now;
let offsetMs = 0;
Date.now = () => trueNow() + offsetMs;
process.on('SIGUSR2', () => {
  offsetMs = offsetMs === 0 ? Math.floor((Math.random() * 2 - 1) * DAY_MS) : 0;
});
