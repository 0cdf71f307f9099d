import { expect, test } from 'vitest';
import { UsageError } from './failure.ts';
import {
  choice,
  environmentName,
  flag,
  flagName,
  integer,
  list,
  momentMs,
  pairs,
  resolveFlags,
  SHARE,
  type Sources,
  text,
  toggle,
} from './flags.ts';

const FLAGS = {
  port: flag(integer(0, 65_535), 'port', 5555),
  logFile: flag(text('file'), 'file'),
  queues: flag(list('a,b'), 'queues'),
  fsync: flag(choice('always', 'never'), 'durability', 'always'),
  failRate: flag(SHARE, 'share', 0),
  header: flag(pairs('name=value'), 'headers'),
  json: toggle('JSON'),
};

function resolve(
  written: Record<string, unknown>,
  environment: Sources['environment'] = {},
  file: Sources['file'] = {},
): ReturnType<typeof resolveFlags<typeof FLAGS>> {
  return resolveFlags(FLAGS, written, { environment, file });
}

test('a flag wins over the environment, that over the file, and that over the default', () => {
  const environment = { MILLRACE_PORT: '2' };
  const file = { port: 3 };
  expect(resolve({ port: '1' }, environment, file).port).toBe(1);
  expect(resolve({}, environment, file).port).toBe(2);
  expect(resolve({}, {}, file).port).toBe(3);
  expect(resolve({}).port).toBe(5555);
});

test('an empty variable is one that is not set', () => {
  expect(resolve({}, { MILLRACE_PORT: '' }, { port: 3 }).port).toBe(3);
});

test('names in the three places follow from one key', () => {
  expect(flagName('fsyncIntervalMs')).toBe('--fsync-interval-ms');
  expect(environmentName('fsyncIntervalMs')).toBe('MILLRACE_FSYNC_INTERVAL_MS');
});

test.each([
  [{ queues: 'a, b' }, {}, { queues: ['a', 'b'] }],
  [{ port: '1_000' }, {}, { port: 1000 }],
  [{ failRate: '.25' }, {}, { failRate: 0.25 }],
  [{ json: true }, {}, { json: true }],
  [{}, { MILLRACE_JSON: 'off' }, { json: false }],
  [{}, { MILLRACE_JSON: '1' }, { json: true }],
  [{}, { MILLRACE_LOG_FILE: 'a.log' }, { logFile: 'a.log' }],
  [{ header: ['tenant=a', 'query=a=b,c', 'empty='] }, {}, { header: { tenant: 'a', query: 'a=b,c', empty: '' } }],
  [{}, { MILLRACE_HEADER: 'tenant=a' }, { header: { tenant: 'a' } }],
])('text becomes a value: %j %j', (written, environment, expected) => {
  expect(resolve(written, environment)).toMatchObject(expected);
});

test.each([
  ['90s', 1_000_000 - 90_000],
  ['1.5m', 1_000_000 - 90_000],
  ['250ms', 999_750],
  ['2d', 0],
  ['2026-08-01T12:00Z', Date.UTC(2026, 7, 1, 12)],
  ['2026-08-01 12:00:01.5+02:00', Date.UTC(2026, 7, 1, 10, 0, 1, 500)],
  ['2026-08-01', new Date(2026, 7, 1).getTime()],
  ['2026-08-01T12:00', new Date(2026, 7, 1, 12).getTime()],
])('%s is a moment', (written, ms) => {
  expect(momentMs(written, 1_000_000)).toBe(ms);
});

test.each(['', '5', '-5s', '5 s', '2026', '2026-13-01', 'yesterday', '1e3s', '2026-08-01T'])(
  '%j is no moment',
  (written) => {
    expect(momentMs(written, 0)).toBeNaN();
  },
);

test.each([
  [{ port: '70000' }, {}, {}, '--port is 70000; it must be a whole number from 0 to 65535'],
  [{ port: '1.5' }, {}, {}, '--port is "1.5"; it must be a whole number from 0 to 65535'],
  [{}, { MILLRACE_PORT: 'x' }, {}, `the environment's MILLRACE_PORT is "x"; it must be`],
  [{}, {}, { port: '5' }, 'port in the configuration file is "5"; it must be'],
  [{ fsync: 'often' }, {}, {}, '--fsync is "often"; it must be always or never'],
  [{ failRate: '2' }, {}, {}, '--fail-rate is 2; it must be a share'],
  [{ header: ['tenant'] }, {}, {}, '--header is ["tenant"]; it must be a name and a value with = between'],
  [{ header: ['=a'] }, {}, {}, '--header is ["=a"]; it must be a name'],
  [{}, {}, { header: { tenant: 5 } }, 'header in the configuration file is {"tenant":5}; it must be'],
  [{ queues: 'a,,b' }, {}, {}, '--queues is ["a","","b"]; it must be one name or several'],
])('a wrong value is named with its place and what would do: %j %j %j', (written, environment, file, message) => {
  expect(() => resolve(written, environment, file)).toThrow(UsageError);
  expect(() => resolve(written, environment, file)).toThrow(message);
});
