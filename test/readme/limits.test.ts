import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { ROOT } from '../../scripts/release/artifacts.mjs';
import { LIMITS } from '../../src/limits.ts';

const count = (value: number): string => value.toLocaleString('en');
const millions = (value: number): string => `${count(value / 1e6)} million`;
const kib = (bytes: number): string => `${bytes / 2 ** 10} KiB`;
const mib = (bytes: number): string => `${bytes / 2 ** 20} MiB`;
const seconds = (ms: number): string => `${ms / 1000} s`;
const minutes = (ms: number): string => `${ms / 60_000} minutes`;

/** By row of the table in docs/operating.md: the figures of its bound. */
const BOUNDS: Readonly<Record<string, readonly string[]>> = {
  connections: [count(LIMITS.connectionsMax), count(LIMITS.httpConnectionsMax)],
  'requests over HTTP at the same time': [
    count(LIMITS.httpRequestsMax),
    count(LIMITS.leaseRequestsMax),
    count(LIMITS.ndjsonStreamsMax),
    count(LIMITS.httpPipelinedMax),
  ],
  'connections of one address': [],
  strangers: [
    seconds(LIMITS.handshakeTimeoutMs),
    count(LIMITS.tlsHandshakesMax),
    seconds(LIMITS.httpHeadersTimeoutMs),
    seconds(LIMITS.httpBodyTimeoutMs),
    minutes(LIMITS.httpSilenceMs),
  ],
  'a frame': [mib(LIMITS.frameBytesMax), seconds(LIMITS.frameTimeoutMs), mib(LIMITS.unfinishedFrameBytesMax)],
  'bytes of all connections that wait for the disk': [
    mib(LIMITS.unconfirmedBytesShared),
    kib(LIMITS.littleUnconfirmedBytes),
    mib(LIMITS.unconfirmedShareBytesMin),
    mib(LIMITS.unconfirmedBytesPerConnectionMax),
    mib(LIMITS.unconfirmedBytesMax),
  ],
  '… in a client': [mib(LIMITS.clientBufferBytesMax), count(LIMITS.clientBufferTasksMax)],
  'bytes that a reader leaves unread': [
    mib(LIMITS.sendBufferBytesMax),
    mib(LIMITS.sendBufferBytesEvict),
    mib(LIMITS.unsentBytesMax),
    mib(LIMITS.httpUnsentBytesMax),
    minutes(LIMITS.httpAnswerMs),
  ],
  'tasks that a worker holds': [count(LIMITS.prefetchMax), count(LIMITS.queuesPerWorkerMax)],
  'tasks that are leased over HTTP': [count(LIMITS.leasesMax), mib(LIMITS.leasedBytesMax)],
  'unfinished tasks of a queue': [],
  tasks: [millions(LIMITS.tasksMax)],
  'queues; combinations of queue, name and options': [count(LIMITS.queuesMax), count(LIMITS.kindsMax)],
  schedules: [count(LIMITS.schedulesMax), mib(LIMITS.schedulesBytesMax), kib(LIMITS.schedulePayloadBytesMax)],
  'dependencies; unique keys': [
    count(LIMITS.dependenciesMax),
    count(LIMITS.submissionDependenciesMax),
    millions(LIMITS.relationsMax),
    millions(LIMITS.uniqueKeysMax),
  ],
  'a batch, or a flow': [count(LIMITS.batchTasksMax), mib(LIMITS.frameBytesMax)],
  'payload; result': [mib(LIMITS.payloadBytesMax)],
  'names, keys': [`${LIMITS.queueNameBytesMax} bytes`],
  'headers of a task': [count(LIMITS.headersMax), kib(LIMITS.headersBytesMax)],
  'calls of one connection without an answer': [count(LIMITS.callsInFlightPerConnectionMax)],
  'results that one client waits for': [count(LIMITS.resultWaitersPerConnectionMax)],
  'event streams': [count(LIMITS.watchesPerConnectionMax), count(LIMITS.watchesMax), count(LIMITS.eventStreamsMax)],
  'a body over HTTP': [mib(LIMITS.httpBodyBytesMax), mib(LIMITS.httpBodiesBytesMax), mib(LIMITS.ndjsonLineBytesMax)],
};

const FIGURES = /\d+(?:,\d{3})*(?: (?:million|bytes|KiB|MiB|s|minutes)\b)?/g;

const page = await readFile(join(ROOT, 'docs/operating.md'), 'utf8');
const table = page.slice(page.indexOf('\n| what | bound |')).split('\n\n', 1)[0] as string;
const rows = [...table.matchAll(/^\| (.+?) \| (.+?) \|/gm)]
  .map(([, what, bound]) => [what as string, bound as string] as const)
  .slice(1);

test('every limit that docs/operating.md names has the bound of src/limits.ts', () => {
  const written = rows.map(([what, bound]) => [what, bound.match(FIGURES) ?? []]);
  expect(Object.fromEntries(written)).toEqual(BOUNDS);
  expect(table).toContain(`less ${LIMITS.openFilesReserved};`);
});

test('what stands in one figure there is one bound', () => {
  const { queueNameBytesMax, taskNameBytesMax, scheduleNameBytesMax, uniqueKeyBytesMax, concurrencyKeyBytesMax } =
    LIMITS;
  expect([taskNameBytesMax, scheduleNameBytesMax, uniqueKeyBytesMax, concurrencyKeyBytesMax]).toEqual(
    new Array(4).fill(queueNameBytesMax),
  );
  expect(LIMITS.resultBytesMax).toBe(LIMITS.payloadBytesMax);
});
