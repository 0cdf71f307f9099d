import { appendFileSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { type Backend, startRabbitWithStore, startServer } from './backend.ts';
import { check } from './check.ts';
import { brokenPromises, describeRun, drawReport, stretchesOf, trendsOf } from './report.ts';
import { type Evidence, type Sample, Scene } from './scene.ts';

const USAGE = `Usage: npm run test:soak -- [flags]

A mixed load on a server, or on RabbitMQ with PostgreSQL, for some time: delays, retries, flows, cancels, a schedule, cut
connections, workers that stop and die, a dashboard, a stream of events and /metrics. Then everything is left to come to its
end, and what the processes wrote down is checked. On Linux.

  --minutes N          how long there is load (default: 60; what grows is judged from 10 on)
  --rate N             tasks a second (default: 400)
  --rabbitmq           on private ones of RabbitMQ and PostgreSQL, from programs of this machine
  --url U --store S    on those that amqp://… and postgres://… name, which must be empty
  --sample-seconds N   between two looks at memory, files and disk (default: 10)
  --report DIR         where samples, graph and figures go (default: ./soak-report)
  -h, --help           show this

Exit codes: 0 all promises held, 1 one did not, 2 wrong usage.`;

/** How many problems are said; all are in the report. */
const PROBLEMS_SAID = 20;

const { minutes, rate, sampleSeconds, report, given, isRabbit } = readArguments();
const directory = await mkdtemp(join(tmpdir(), 'millrace-soak-'));
mkdirSync(report, { recursive: true });
// Interrupted, it takes along what it has started.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.once(signal, () => {
    rmSync(directory, { recursive: true, force: true });
    process.exit(1);
  });
}
process.exitCode = (await soak()) ? 0 : 1;

/** Whether every promise held. */
async function soak(): Promise<boolean> {
  const startBackend = (): Promise<Backend> =>
    isRabbit ? startRabbitWithStore(directory, given) : startServer(directory);
  const backend = await startBackend();
  say(`${backend.name}: ${minutes} minutes at ${rate} tasks a second; the dashboard is at ${backend.httpUrl}`);
  const samples = join(report, `${backend.name}.ndjson`);
  writeFileSync(samples, '');
  const onSample = (sample: Sample): void => {
    appendFileSync(samples, `${JSON.stringify(sample)}\n`);
    say(describeSample(sample));
  };
  const about = { directory: join(directory, 'books'), seconds: minutes * 60, rate, sampleSeconds, onSample };
  const scene = new Scene({ backend, ...about });
  let evidence: Evidence;
  let how: string;
  try {
    evidence = await scene.run();
  } finally {
    await scene.clear();
    how = await backend.stop();
  }
  if (how !== '0')
    evidence = { ...evidence, complaints: [...evidence.complaints, `${backend.name} ended with ${how}`] };
  return await tell(backend.name, evidence);
}

async function tell(name: string, evidence: Evidence): Promise<boolean> {
  say('checking the books');
  const verdict = await check(evidence);
  const stretches = stretchesOf(evidence, verdict.starts, sampleSeconds);
  const trends = trendsOf(evidence, stretches);
  const problems = brokenPromises(evidence, verdict, trends);
  writeFileSync(join(report, `${name}.svg`), drawReport(evidence, stretches));
  const figures = describeRun(evidence, verdict, trends);
  writeFileSync(join(report, `${name}.md`), figures);
  const { viewer, cuts, restarts, openFiles } = evidence;
  const counts = { ...verdict.counts, cuts, restarts, ...viewerCounts(viewer), openFiles };
  writeFileSync(
    join(report, `${name}.json`),
    `${JSON.stringify({ minutes, rate, counts, trends, stretches, disturbances: evidence.disturbances, problems }, undefined, 2)}\n`,
  );
  process.stdout.write(`\n${figures}\n`);
  if (problems.length === 0) {
    await rm(directory, { recursive: true });
    say(`every promise held; the report is in ${report}`);
    return true;
  }
  say(`\n${problems.slice(0, PROBLEMS_SAID).join('\n')}`);
  say(`${problems.length} problems; what the processes wrote is in ${directory}, the report in ${report}`);
  return false;
}

function viewerCounts({ requests, events, dropped }: Evidence['viewer']): Record<string, number> {
  return { requests, events, dropped };
}

function describeSample({ seconds, processes, dataBytes, backlog, completed }: Sample): string {
  const mib = (bytes: number): string => `${Math.round(bytes / 1024 / 1024)} MiB`;
  const all = Object.entries(processes).map(
    ([name, { rssBytes, openFiles }]) => `${name} ${mib(rssBytes)}/${openFiles}`,
  );
  return `${seconds} s: ${completed} completed, ${backlog} wait or run; disk ${mib(dataBytes)}; memory/files: ${all.join(', ')}`;
}

function say(line: string): void {
  process.stderr.write(`${line}\n`);
}

function readArguments() {
  const { values } = parse();
  if (values.help) {
    process.stdout.write(`${USAGE}\n`);
    process.exit(0);
  }
  const { url, store } = values;
  if ((url === undefined) !== (store === undefined)) fail('--url and --store go together');
  if (url !== undefined && !/^amqps?:/.test(url))
    fail(`--url is ${url}; only amqp:// is soaked where it is, a server is started`);
  return {
    minutes: positive('minutes', values.minutes),
    rate: positive('rate', values.rate),
    sampleSeconds: positive('sample-seconds', values['sample-seconds']),
    report: values.report,
    given: url === undefined || store === undefined ? undefined : { url, store },
    isRabbit: values.rabbitmq || url !== undefined,
  };
}

function parse() {
  try {
    return parseArgs({
      options: {
        minutes: { type: 'string', default: '60' },
        rate: { type: 'string', default: '400' },
        rabbitmq: { type: 'boolean', default: false },
        url: { type: 'string' },
        store: { type: 'string' },
        'sample-seconds': { type: 'string', default: '10' },
        report: { type: 'string', default: 'soak-report' },
        help: { type: 'boolean', short: 'h', default: false },
      },
    });
  } catch (error) {
    return fail((error as Error).message);
  }
}

function positive(name: string, written: string): number {
  const value = Number(written);
  return value > 0 && Number.isFinite(value) ? value : fail(`--${name} is ${written}; it must be a number above 0`);
}

function fail(message: string): never {
  process.stderr.write(`${message}\n\n${USAGE}\n`);
  process.exit(2);
}
