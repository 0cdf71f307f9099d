import { Ledger } from './ledger.mjs';
import { millrace } from './product.mjs';
import { Random } from './random.mjs';
import { FLAKY_FAILURES } from './workload.mjs';

// Works until it is killed, or told to stop by SIGTERM.
const [url, name, path, seed] = process.argv.slice(2);
const ledger = new Ledger(path);
const random = new Random(Number(seed));

const client = await millrace.connect(url, {
  name,
  reconnect: { initialDelayMs: 10, maxDelayMs: 200 },
  connectTimeoutMs: 3_600_000,
});

/**
 * The lease under which an attempt was begun; tells which start of the server gave it.
 *
 * @param {object} context
 */
function tokenOf(context) {
  const { run, from } = /** @type {{ run: { token(index: number): number }, from: number }} */ (context);
  return run.token(from);
}

await client.work(
  {
    crash: async (input, context) => {
      const { key, manner } = /** @type {import('./workload.mjs').Payload} */ (input);
      const { id, attempt, maxAttempts } = context;
      ledger.write('start', { key, id, attempt, maxAttempts, token: tokenOf(context), worker: name });
      if (random.chance(0.5)) await new Promise((resolve) => setTimeout(resolve, random.integer(0, 30)));
      if (manner === 'doomed') throw new Error(`doomed: attempt ${attempt}`);
      if (manner === 'final') throw new millrace.FatalTaskError('final');
      if (manner === 'flaky' && attempt <= FLAKY_FAILURES) throw new Error(`flaky: attempt ${attempt}`);
      ledger.write('end', { key, id, attempt });
      return key;
    },
  },
  { name, concurrency: 20 },
);

process.once('SIGTERM', () => {
  void client.close();
});
