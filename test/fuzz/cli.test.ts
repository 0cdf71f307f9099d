import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, test } from 'vitest';
import { CommandFailed } from '../../src/cli/failure.ts';
import { environmentName, flagName, momentMs } from '../../src/cli/flags.ts';
import { readLines } from '../../src/cli/lines.ts';
import { formatBytes, formatCount, formatDuration, formatRate } from '../../src/cli/units.ts';
import { connect } from '../../src/connect.ts';
import { lastDueMs, nextDueMs, parseTiming } from '../../src/schedule/timing.ts';
import { durationMs } from '../../src/testing/duration.ts';
import { handlersUrl, loadHandlers } from '../../src/worker/handlers-module.ts';
import { FLAGS, handleArguments, handleConfigFile, handleEnvironment } from './configs.ts';
import { Broken, fuzz, inTime, ours, oursWith, tolerate } from './harness.ts';
import { cutInto, fewMutations, mutate, pieces } from './mutations.ts';
import { anyJson, brokenText, HOSTILE_KEYS, hostileJson, type JsonText, jsonOf, listOf, objectOf } from './texts.ts';

let directory: string;

beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'millrace-fuzz-'));
});

afterAll(() => rmSync(directory, { recursive: true }));

const values = fc.oneof(
  fc.constantFrom(
    '1',
    'a,b',
    '99999',
    '-1',
    'true',
    'off',
    'always',
    '0.05',
    'tenant=a',
    '=',
    '2026-08-01T12:00Z',
    '7d',
    '',
    ' ',
  ),
  fc.constantFrom(
    '9'.repeat(400),
    '1_000',
    '1__0',
    '0x10',
    '1e3',
    '\u0000',
    '\n',
    '--',
    '-h',
    '__proto__=1',
    'tcp://x',
  ),
  fc.string({ maxLength: 12 }),
);
const keys = Object.keys(FLAGS);

describe('a configuration file', () => {
  const section: JsonText = fc
    .array(
      fc.tuple(
        fc.oneof(
          { weight: 4, arbitrary: fc.constantFrom(...keys) },
          { weight: 1, arbitrary: fc.constantFrom(...HOSTILE_KEYS) },
        ),
        fc.oneof(jsonOf(values), anyJson, hostileJson),
      ),
      { maxLength: 4 },
    )
    .map((members) => `{${members.map(([key, value]) => `${JSON.stringify(key)}:${value}`).join()}}`);
  const content = fc.oneof(
    { weight: 4, arbitrary: objectOf({ server: section, enqueue: section, port: anyJson, queues: listOf(anyJson) }) },
    { weight: 2, arbitrary: section },
    { weight: 1, arbitrary: hostileJson },
  );

  test('of any shape is read, or refused in one line', async () => {
    const path = join(directory, 'millrace.config.json');
    await fuzz(
      fc.tuple(brokenText(content), fewMutations, fc.nat(9)),
      ([text, mutations, luck]) => {
        writeFileSync(path, luck > 0 ? text : mutate(Buffer.from(text), mutations));
        handleConfigFile(path);
      },
      { runs: 500, boxMs: 300 },
    );
    for (const other of [directory, join(directory, 'none'), '']) handleConfigFile(other);
  });

  test('may as well be the environment', async () => {
    const environment = fc.dictionary(fc.constantFrom(...keys.map(environmentName)), values, { maxKeys: 4 });
    await fuzz(environment, handleEnvironment, { runs: 300, boxMs: 100 });
  });
});

test('a command line of any words is understood, or refused in one line', async () => {
  const word = fc.oneof(
    { weight: 3, arbitrary: fc.constantFrom(...keys.map(flagName)) },
    {
      weight: 1,
      arbitrary: fc.constantFrom(
        '--',
        '-',
        '--no-json',
        '---',
        '--__proto__',
        '--constructor=1',
        '-V',
        '--por',
        '--port=',
        '--help=x',
      ),
    },
    { weight: 3, arbitrary: values },
  );
  await fuzz(fc.array(word, { maxLength: 6 }), (words) => handleArguments(words), { runs: 200, boxMs: 300 });
});

test('lines of input are the same in whatever pieces they come', async () => {
  const bytes = fc
    .array(fc.constantFrom(0x0a, 0x0d, 0x7b, 0xff, 0xc3, 0xa9), { maxLength: 60 })
    .map((all) => Buffer.from(all));
  const read = async (chunks: readonly Buffer[]): Promise<string[]> => {
    const lines: string[] = [];
    async function* input(): AsyncGenerator<Buffer> {
      yield* chunks;
    }
    try {
      for await (const { number, text } of readLines(input(), 30)) lines.push(`${number} ${text}`);
    } catch (error) {
      if (!(error instanceof CommandFailed)) throw error;
    }
    return lines;
  };
  await fuzz(
    fc.tuple(bytes, pieces),
    async ([all, lengths]) => {
      const whole = await read([all]);
      const cut = await read(cutInto(all, lengths));
      // Where a line is too long is seen sooner in small pieces.
      if (cut.some((line, index) => whole[index] !== undefined && line !== whole[index]))
        throw new Broken(`${cut} are not ${whole}`);
    },
    { runs: 200, boxMs: 100 },
  );
});

test('any number is shown, and any text is a time, a duration, or none', async () => {
  const number = fc.oneof(
    fc.double({ min: 0, noNaN: true, noDefaultInfinity: true }),
    fc.nat(),
    fc.constantFrom(0, 5e-324, 1.7e308, 59_949.99, 999_499.9),
  );
  await fuzz(
    fc.tuple(
      number,
      fc.oneof(
        values,
        fc.string({ unit: fc.constantFrom('1', '9', '.', '-', ':', 'T', 'Z', '+', 'm', 's', 'd', ' '), maxLength: 25 }),
      ),
    ),
    ([shown, text]) => {
      for (const format of [formatBytes, formatCount, formatDuration, formatRate]) {
        if (format(shown).length > 400) throw new Broken(`${shown} is shown as ${format(shown)}`);
      }
      if (typeof momentMs(text, 1e12) !== 'number') throw new Broken(text);
      tolerate(() => durationMs(text as `${number}s`));
    },
    { runs: 500, boxMs: 100 },
  );
});

test('a file of handlers is loaded, or refused, whatever it exports and throws', async () => {
  const code = [
    ...[
      'export default null',
      'export default [1]',
      'export default { n: 1 }',
      'export default { __proto__: null, n() {} }',
      'throw 1n',
      'throw undefined',
      'throw Object.create(null)',
    ],
    ...[
      'const a = {}; a.a = a; throw a',
      'throw { toString: 1 }',
      'export const then = (resolve) => resolve(1)',
      'syntax error',
      '',
    ],
    ...['export default [{ kind: "single", format: { name: "n" }, run: 1 }]', '\u0000'],
  ];
  for (const [index, text] of code.entries()) {
    const path = join(directory, `handlers-${index}.mjs`);
    writeFileSync(path, text);
    await inTime(() => load(path));
  }
  for (const path of [
    directory,
    join(directory, 'none.mjs'),
    join(directory, 'a\u0000b'),
    join(directory, 'x'.repeat(300)),
  ]) {
    if (await load(path)) throw new Broken(`${path} was loaded`);
  }
});

/** Whether it has handlers. */
async function load(path: string): Promise<boolean> {
  try {
    await loadHandlers(handlersUrl(path));
    return true;
  } catch (error) {
    oursWith(error, ['HANDLERS', 'INVALID_ARGUMENT']);
    return false;
  }
}

test('any cron expression is understood, or refused, in bounded time', async () => {
  const field = fc.oneof(
    {
      weight: 5,
      arbitrary: fc.constantFrom(
        '*',
        '0',
        '1',
        '31',
        '29',
        '2',
        '*/2',
        '0-59',
        '1,2,3',
        'L',
        'W',
        '15W',
        'LW',
        '5#5',
        'MON-FRI',
        'FEB',
        '?',
        '30',
        '59/1',
        'FRI#L',
        '7L',
      ),
    },
    { weight: 1, arbitrary: fc.string({ unit: fc.constantFrom(...'0123456789*/,-#LW?+@:JANMON '), maxLength: 12 }) },
  );
  const cron = fc.oneof(
    { weight: 6, arbitrary: fc.array(field, { minLength: 4, maxLength: 7 }).map((fields) => fields.join(' ')) },
    {
      weight: 1,
      arbitrary: fc.constantFrom(
        '@daily',
        '@yearly',
        '@reboot',
        '@',
        '@@',
        '*'.repeat(300),
        `${'0,'.repeat(120)}0 * * * *`,
      ),
    },
    { weight: 1, arbitrary: fc.string({ maxLength: 40 }) },
  );
  const zone = fc.constantFrom(
    undefined,
    'UTC',
    'Europe/Berlin',
    'America/Santiago',
    'Australia/Lord_Howe',
    '+05:30',
    'Mars/Phobos',
    '',
  );
  const moment = fc.constantFrom(
    0,
    Date.UTC(2026, 2, 29),
    Date.UTC(2026, 9, 25),
    Date.UTC(2096, 1, 29),
    Date.UTC(9999, 11, 31),
  );
  await fuzz(
    fc.tuple(cron, zone, moment),
    async ([expression, timeZone, nowMs]) => {
      await inTime(async () => {
        const refusal = tolerate(() => {
          const timing = parseTiming({ cron: expression, timeZone }, nowMs);
          const next = nextDueMs(timing, nowMs);
          if (next !== null && !(next > nowMs)) throw new Broken(`${expression} comes at ${next} after ${nowMs}`);
          const last = lastDueMs(timing, nowMs);
          if (last !== null && !(last <= nowMs)) throw new Broken(`${expression} came at ${last} before ${nowMs}`);
        });
        if (refusal !== undefined) oursWith(refusal, ['INVALID_ARGUMENT']);
      });
    },
    { runs: 200, boxMs: 400 },
  );
});

describe('the URL of a backend', () => {
  const part = fc.oneof(
    fc.constantFrom(
      '127.0.0.1',
      '[::1]',
      ':1',
      '/',
      '//',
      '@',
      '?',
      '#',
      '%',
      '%00',
      '..',
      ' ',
      '\u0000',
      'é',
      'x'.repeat(300),
      'user:SECRET@',
    ),
    fc.string({ maxLength: 6 }),
  );
  const url = fc
    .tuple(
      fc.constantFrom('tcp:', 'TCP://', 'tls://', 'http://', 'memory', '', 'javascript:', '__proto__:', 'tcp:/'),
      fc.array(part, { maxLength: 4 }),
    )
    .map(([scheme, parts]) => scheme + parts.join(''));

  test('that leads nowhere is refused', async () => {
    await fuzz(
      url.filter((text) => !leadsAway(text) && !/^file:/i.test(text)),
      async (text) => {
        const options = { connectTimeoutMs: 1 };
        await connect(text, options).then((client) => client.close(), ours);
      },
      { runs: 200, boxMs: 200 },
    );
  });

  /** Names that would be looked up, and other machines that would be asked. */
  function leadsAway(text: string): boolean {
    if (!/^tcp:/i.test(text) || !URL.canParse(text)) return false;
    return !['127.0.0.1', '[::1]', ''].includes(new URL(text).hostname);
  }

  test('that names no directory is refused, and makes none', async () => {
    for (const path of ['', '%', '%00', '//host/share', 'a\u0000b', `${directory}/%`, `${directory}/a%00b`]) {
      const refusal = await connect(`file:${path}`).then(() => undefined, ours);
      if (refusal === undefined) throw new Broken(`file:${path} was opened`);
    }
  });
});

test('options of any kind are refused by name', async () => {
  const options = fc.dictionary(
    fc.constantFrom('name', 'reconnect', 'embedded', 'amqp', 'tracing', 'connectTimeoutMs', 'toString', 'x'),
    fc.oneof(fc.anything(), fc.constantFrom(null, 0, {})),
    { maxKeys: 3 },
  );
  await fuzz(
    options,
    async (given) => {
      await connect('tls://x', given).then(
        () => {
          throw new Broken('tls: is not supported');
        },
        (error: unknown) => oursWith(error, ['INVALID_ARGUMENT', 'UNSUPPORTED']),
      );
    },
    { runs: 300, boxMs: 150 },
  );
});
