import type { Command } from 'commander';
import { z } from 'zod';
import { LIMITS, type QueueLimits, type QueueLimitsChange } from '../limits.ts';
import { addCommand } from './command.ts';
import { CONNECTION_FLAGS, withClient } from './connection.ts';
import { UsageError } from './failure.ts';
import { flag, integer, integerOrNone, type Kind, NONE, toggle } from './flags.ts';
import { print, printJson } from './output.ts';
import { formatCount, formatDuration } from './units.ts';

const UNIT_MS = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 } as const;
const RATE = /^(\d+)\/(\d*)(ms|s|m|h)$/;

const COUNT = integerOrNone(1, LIMITS.queueConcurrencyMax);

const RATE_KIND: Kind<string> = {
  placeholder: 'n/time|none',
  expects: 'tasks in a time (ms, s, m or h), such as 100/1s or 5000/h, or none',
  schema: z.string().refine((written) => written === NONE || RATE.test(written)),
  fromText: (written) => written,
};

const FLAGS = {
  ...CONNECTION_FLAGS,
  concurrency: flag(COUNT, 'tasks that workers have at the same time, those that they hold ahead included'),
  concurrencyPerKey: flag(COUNT, 'the same for the tasks of one concurrencyKey'),
  rate: flag(RATE_KIND, 'tasks that are handed out in a time, evenly'),
  burst: flag(
    integer(1, LIMITS.rateCountMax),
    'with --rate: how many at once after a pause; as many as its number unless given',
  ),
  length: flag(
    integerOrNone(1, LIMITS.queueLengthMax),
    'unfinished tasks that it holds; more are refused with QUEUE_FULL until some have ended',
  ),
  json: toggle('print JSON'),
};

export function registerLimit(group: Command): void {
  addCommand(group, {
    usage: 'limit <queue>',
    summary:
      'show or set how many tasks of a queue run at the same time, or in a time, over all workers, and how many it holds',
    details: 'What is not given stays as it is; none lifts a limit. Limits outlive a restart of the server.',
    flags: FLAGS,
    examples: [
      'millrace queue limit api',
      'millrace queue limit api --concurrency 10 --rate 100/1s --burst 20',
      'millrace queue limit api --rate none',
      'millrace queue limit api --length 100000',
    ],
    run: ({ concurrency, concurrencyPerKey, rate, burst, length, json, ...values }, [name = '']) => {
      const change = readChange({ concurrency, concurrencyPerKey, rate, burst, length });
      return withClient(values, { name: 'millrace queue' }, async (client) => {
        const queue = client.queue(name);
        const limits = Object.keys(change).length === 0 ? (await queue.status()).limits : await queue.limit(change);
        if (json) printJson(limits);
        else print(describeLimits(limits).join('\n'));
      });
    },
  });
}

interface Given {
  concurrency: number | typeof NONE | undefined;
  concurrencyPerKey: number | typeof NONE | undefined;
  rate: string | undefined;
  burst: number | undefined;
  length: number | typeof NONE | undefined;
}

function readChange({ concurrency, concurrencyPerKey, rate, burst, length }: Given): QueueLimitsChange {
  if (burst !== undefined && (rate === undefined || rate === NONE)) {
    throw new UsageError('--burst belongs to a rate: give --rate too, such as --rate 100/1s');
  }
  return {
    ...(concurrency === undefined ? {} : { concurrency: parseCount(concurrency) }),
    ...(concurrencyPerKey === undefined ? {} : { concurrencyPerKey: parseCount(concurrencyPerKey) }),
    ...(rate === undefined ? {} : { rate: rate === NONE ? null : { ...parseRate(rate), burst } }),
    ...(length === undefined ? {} : { length: parseCount(length) }),
  };
}

function parseCount(count: number | typeof NONE): number | null {
  return count === NONE ? null : count;
}

/** Of what the flag's schema let through. */
export function parseRate(rate: string): { count: number; periodMs: number } {
  const [, count, periods, unit] = RATE.exec(rate) as unknown as [string, string, string, keyof typeof UNIT_MS];
  return { count: Number(count), periodMs: (periods === '' ? 1 : Number(periods)) * UNIT_MS[unit] };
}

export function describeLimits({ concurrency, rate, concurrencyPerKey, length }: QueueLimits): string[] {
  const perKey = concurrencyPerKey === null ? [] : [`of one key     ${formatCount(concurrencyPerKey)}`];
  return [
    `at one time    ${concurrency === null ? 'no limit' : formatCount(concurrency)}`,
    ...perKey,
    rate === null
      ? 'rate           no limit'
      : `rate           ${formatCount(rate.count)} in ${formatDuration(rate.periodMs)}, up to ${formatCount(rate.burst)} at once`,
    ...(length === null ? [] : [`length         ${formatCount(length)} unfinished tasks`]),
  ];
}
