import { defineTask } from 'millrace';

/** The module that every thread loads. */
const primes = defineTask('primes.count', { timeoutMs: 10_000 });
const endless = defineTask('endless', { timeoutMs: 200, maxAttempts: 1 });

export default [
  primes.handle(({ from, to }) => {
    let count = 0;
    for (let number = from; number < to; number++) if (isPrime(number)) count++;
    return count;
  }),
  endless.handle(() => {
    for (;;);
  }),
];

function isPrime(number) {
  if (number < 2) return false;
  for (let divisor = 2; divisor * divisor <= number; divisor++) if (number % divisor === 0) return false;
  return true;
}
