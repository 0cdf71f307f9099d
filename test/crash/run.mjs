import { parseArgs } from 'node:util';
import { crash } from './crash.mjs';

// npm run test:crash -- --kills=100 [--freezes=2] [--seed=N] [--json]: so many kills of the server and as many of workers
const { values } = parseArgs({
  options: {
    kills: { type: 'string', default: '100' },
    freezes: { type: 'string', default: '2' },
    seed: { type: 'string', default: String(Math.floor(Math.random() * 2 ** 31)) },
    json: { type: 'boolean', default: false },
  },
});
const kills = Number(values.kills);
const freezes = Number(values.freezes);
const seed = Number(values.seed);
if (!Number.isInteger(kills) || kills < 1 || !Number.isInteger(freezes) || freezes < 0 || !Number.isInteger(seed)) {
  process.stderr.write('usage: npm run test:crash -- --kills=100 --freezes=2 --seed=1\n');
  process.exit(2);
}
const startMs = performance.now();
process.stderr.write(`seed ${seed}\n`);
const { counters, problems, directory, ...killed } = await crash({
  kills,
  freezes,
  seed,
  say: (line) => process.stderr.write(`${line}\n`),
});
const report = { ...killed, ...counters, seconds: Math.round((performance.now() - startMs) / 1000) };
if (values.json) process.stdout.write(`${JSON.stringify({ ...report, problems })}\n`);
else for (const [name, count] of Object.entries(report)) process.stdout.write(`${name.padEnd(16)} ${count}\n`);
if (problems.length > 0) {
  process.stderr.write(`\n${problems.slice(0, 20).join('\n')}\n`);
  process.stderr.write(`${problems.length} problems; the ledgers are in ${directory}; run again with --seed=${seed}\n`);
  process.exitCode = 1;
}
