import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Credentials } from '../../src/access/credentials.ts';
import { Keyring } from '../../src/access/keyring.ts';
import { open } from '../../src/connect.ts';
import { ERROR_CODES } from '../../src/errors.ts';
import { createApp } from '../../src/http/app.ts';
import type { HttpApp, HttpWorld } from '../../src/http/context.ts';
import { dashboardRoutes } from '../../src/http/dashboard-files.ts';
import { HttpServer } from '../../src/http/http-server.ts';
import { NdjsonLines } from '../../src/http/ndjson-lines.ts';
import { PROBLEM_TYPE } from '../../src/http/problem.ts';
import type { Client } from '../../src/index.ts';
import { SystemClock } from '../../src/io/clock.ts';
import { attempt, Broken, Faults, fuzz, inTime, oursWith, tolerate } from './harness.ts';
import { cutInto, fewMutations, mutate, pieces } from './mutations.ts';
import { bodyText, type Schema, type Schemas, textOf } from './schema-texts.ts';
import { brokenText, HOSTILE_KEYS, hostileJson, type JsonText } from './texts.ts';

const faults = new Faults().listen();

/** Defects that an app met, which it answers with a problem all the same. */
const defects: string[] = [];
/** An answer that is an error says it in so many bytes at most. */
const PROBLEM_BYTES_MAX = 32 * 1024;

let client: Client;
let world: Omit<HttpWorld, 'onStop'>;
let app: HttpApp;
let server: HttpServer;
const stops: Parameters<HttpWorld['onStop']>[0][] = [];

beforeAll(async () => {
  const opened = await open('memory:fuzz-http');
  client = opened.client;
  world = {
    ...opened,
    clock: new SystemClock(),
    access: { keyring: new Keyring(), hostNames: [] },
    features: { tasks: true, events: true, schedules: true, limits: true },
    showPayloads: true,
    onNotice: (_level, message) => defects.push(message),
  };
  app = createApp({ ...world, onStop: (stop) => stops.push(stop) });
  server = await HttpServer.start({ ...world, host: '127.0.0.1', port: 0, tls: undefined });
});

afterAll(async () => {
  await Promise.all(stops.map((stop) => stop({ timeoutMs: 0 })));
  await server.stop({ timeoutMs: 0 });
  await client.close();
  faults.ignore();
});

/** What every answer of the API is: no defect, and an error as a problem of bounded size. */
async function checkAnswer(response: Response, what: string): Promise<void> {
  const isStream = response.headers.get('content-type')?.startsWith('text/event-stream') === true;
  const text = isStream ? await beginningOf(response) : await response.text();
  const [defect] = defects.splice(0);
  if (defect !== undefined) throw new Broken(`${what} met a defect: ${defect}`);
  if (response.status === 500) throw new Broken(`${what} was answered with 500: ${text.slice(0, 500)}`);
  if (response.status < 400 || what.startsWith('HEAD')) return;
  if (response.headers.get('content-type') !== PROBLEM_TYPE)
    throw new Broken(`${what}: ${response.status} is no problem`);
  if (text.length > PROBLEM_BYTES_MAX) throw new Broken(`${what}: a problem of ${text.length} bytes`);
  const { code, status } = JSON.parse(text) as { code: string; status: number };
  if (!Object.hasOwn(ERROR_CODES, code) || status !== response.status)
    throw new Broken(`${what}: ${text.slice(0, 500)}`);
}

/** A stream of events has no end of its own. */
async function beginningOf(response: Response): Promise<string> {
  const reader = (response.body as ReadableStream<Uint8Array>).getReader();
  const { value } = await reader.read();
  await reader.cancel();
  return Buffer.from(value ?? []).toString();
}

async function ask(
  method: string,
  path: string,
  { headers = {}, body }: { headers?: Record<string, string>; body?: Uint8Array | undefined } = {},
): Promise<void> {
  const what = `${method} ${path.slice(0, 200)}`;
  const init = { method, headers: { host: 'localhost', ...lengthOf(body), ...headers } };
  const request = new Request(
    `http://localhost${path}`,
    body === undefined ? init : { ...init, body: new Uint8Array(body) },
  );
  await inTime(async () => checkAnswer(await app.fetch(request, {}), what));
  faults.check();
}

/** As a client says it. */
function lengthOf(body: Uint8Array | undefined): Record<string, string> {
  return body === undefined ? {} : { 'content-type': 'application/json', 'content-length': String(body.length) };
}

interface Operation {
  readonly method: string;
  readonly path: string;
  readonly parameters: readonly { readonly name: string; readonly in: string; readonly schema?: Schema }[];
  readonly body: Schema | undefined;
}

interface Described {
  readonly paths: Record<
    string,
    Record<
      string,
      { parameters?: Operation['parameters']; requestBody?: { content: Record<string, { schema: Schema }> } }
    >
  >;
  readonly components: { readonly schemas: Schemas };
}

async function describedOperations(): Promise<{ operations: Operation[]; schemas: Schemas }> {
  const { paths, components } = (await (
    await app.request('/openapi.json', { headers: { host: 'localhost' } })
  ).json()) as Described;
  const operations = Object.entries(paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, { parameters = [], requestBody }]): Operation => {
      const body = requestBody?.content['application/json']?.schema;
      return { method: method.toUpperCase(), path, parameters, body };
    }),
  );
  return { operations, schemas: components.schemas };
}

const segment = fc.oneof(
  { weight: 5, arbitrary: fc.constantFrom('1-0', '1-1', 'q', 'default', 's') },
  {
    weight: 1,
    arbitrary: fc.constantFrom(...HOSTILE_KEYS, '..', '.', '%', '%00', '%2e%2e', '%c3%28', 'x'.repeat(2000)),
  },
  { weight: 1, arbitrary: fc.string({ maxLength: 20 }) },
);

/** Text as it stands in a URL, written as it must be, or not. */
const inUrl = (text: fc.Arbitrary<string>): fc.Arbitrary<string> =>
  fc.tuple(text, fc.integer({ min: 0, max: 9 })).map(([each, luck]) => {
    const whole = Buffer.from(each).toString();
    return luck === 0 ? encodeURI(whole) : encodeURIComponent(whole);
  });

/** A string stands in a query without its quotes. */
const bare = (text: JsonText): fc.Arbitrary<string> =>
  text.map((each) => (each.startsWith('"') ? (JSON.parse(each) as string) : each));

function requestOf(
  { method, path, parameters, body }: Operation,
  schemas: Schemas,
): fc.Arbitrary<{ method: string; path: string; headers: Record<string, string>; body: Uint8Array | undefined }> {
  const places = path.split(/\{[^}]+\}/);
  const segments = fc.array(inUrl(segment), { minLength: places.length - 1, maxLength: places.length - 1 });
  const query = parameters.filter(({ in: where }) => where === 'query');
  const queries = fc.tuple(
    ...query.map(({ name, schema = {} }) =>
      fc.oneof(
        { weight: 3, arbitrary: fc.constant('') },
        { weight: 3, arbitrary: inUrl(bare(textOf(schema, schemas, name))).map((text) => `${name}=${text}`) },
        { weight: 1, arbitrary: inUrl(segment).map((text) => `${name}=${text}&${name}=2`) },
      ),
    ),
    fc.constantFrom('', '', '', '__proto__=1', 'constructor[prototype][x]=1', '=', '&&', '%'),
  );
  const given = brokenText(body === undefined ? hostileJson : bodyText(body, schemas));
  const [some, none] = body === undefined ? [1, 9] : [12, 1];
  const bodies = fc.oneof({ weight: some, arbitrary: given }, { weight: none, arbitrary: fc.constant(undefined) });
  return fc
    .tuple(segments, queries, bodies, fewMutations, fc.nat(9), otherHeaders)
    .map(([filled, query, text, mutations, luck, headers]) => {
      const whole = places.map((place, index) => place + (filled[index] ?? '')).join('');
      const asked = query.filter((each) => each !== '').join('&');
      const bytes = text === undefined || method === 'GET' ? undefined : Buffer.from(text);
      // Most bodies are those that were meant; some have other bytes in them, which may be no UTF-8.
      return {
        method,
        path: asked === '' ? whole : `${whole}?${asked}`,
        headers,
        body: bytes === undefined || luck > 0 ? bytes : mutate(bytes, mutations),
      };
    });
}

const otherHeaders: fc.Arbitrary<Record<string, string>> = fc.oneof(
  { weight: 6, arbitrary: fc.constant({}) },
  {
    weight: 1,
    arbitrary: fc.record({
      'content-type': fc.constantFrom(
        'application/json; charset=utf-16',
        'application/json;',
        'text/plain',
        'application/x-ndjson',
        'application/vnd.api+json',
        'x'.repeat(4000),
        '',
      ),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({ 'content-length': fc.constantFrom('0', '-1', '1e9', '99999999999999999999', 'x', '1, 2') }),
  },
  { weight: 1, arbitrary: fc.record({ 'transfer-encoding': fc.constantFrom('chunked', 'gzip, chunked', 'x') }) },
  {
    weight: 1,
    arbitrary: fc.record({ host: fc.constantFrom('', '[', 'evil.example', 'localhost:99999', '%', '[::1', 'a@b') }),
  },
  {
    weight: 1,
    arbitrary: fc.record({ origin: fc.constantFrom('null', 'http://', 'http://[', 'x', 'http://localhost') }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      authorization: fc.constantFrom('', 'Basic', 'Basic =', `Bearer ${'x'.repeat(5000)}`, 'Basic //79'),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      'last-event-id': fc.oneof(
        fc.constantFrom('-1', 'x-99999999999999999999', '-'.repeat(2000), '1-1-1-1', '__proto__-1'),
        fc.string({ unit: 'grapheme-ascii', maxLength: 40 }),
      ),
    }),
  },
);

describe('the API', () => {
  test('answers whatever nearly fits its description, and calls an error a problem', async () => {
    const { operations, schemas } = await describedOperations();
    expect(operations.length).toBeGreaterThan(30);
    const requests = fc.oneof(...operations.map((operation) => requestOf(operation, schemas)));
    await fuzz(requests, ({ method, path, ...rest }) => ask(method, path, rest), { runs: 600, boxMs: 700 });
  });

  test('answers any path and method', async () => {
    const path = fc.array(inUrl(segment), { maxLength: 5 }).map((segments) => `/${segments.join('/')}`);
    const methods = fc.constantFrom('GET', 'HEAD', 'POST', 'PUT', 'DELETE', 'PATCH', 'OPTIONS', 'PROPFIND');
    await fuzz(fc.tuple(methods, path), ([method, asked]) => ask(method, asked), { runs: 200, boxMs: 150 });
  });

  test('says in few bytes what is wrong with a body that is large', async () => {
    const long = 'x'.repeat(1_000_000);
    const bodies = [
      `{"name":"n","${long}":1}`,
      `{"name":"n",${Array.from({ length: 20_000 }, (_, index) => `"k${index}":1`).join()}}`,
      `{"name":"n","headers":{"${long}":1}}`,
      `{"name":"n","headers":{${Array.from({ length: 20_000 }, (_, index) => `"k${index}":1`).join()}}}`,
      `{"name":"${long}"}`,
      `{"name":"n","backoff":{"${long}":1}}`,
      `[${Array.from({ length: 20_000 }, () => '{}').join()}]`,
      `{"name":"n","payloadBase64":"${'A'.repeat(8_000_000)}"}`,
      `{"name":"n","payloadBase64":"${'A'.repeat(8_000_001)}"}`,
      `{"name":"n","dependsOn":[${Array.from({ length: 20_000 }, () => '1').join()}]}`,
    ];
    for (const body of bodies) await ask('POST', '/v1/tasks', { body: Buffer.from(body) });
  });
});

describe('a stream of lines', () => {
  test('has an answer for each line, whatever is in it and wherever it is cut', async () => {
    const { schemas } = await describedOperations();
    const line = brokenText(textOf({ $ref: '#/components/schemas/NewTask' }, schemas));
    const stream = fc.tuple(fc.array(line, { maxLength: 5 }), fc.constantFrom('\n', '\r\n', '\n\n'), fewMutations);
    await fuzz(
      stream,
      async ([lines, end, mutations]) => {
        const body = mutate(Buffer.from(lines.join(end)), mutations);
        const headers = { host: 'localhost', 'content-type': 'application/x-ndjson' };
        const request = new Request('http://localhost/v1/tasks', {
          method: 'POST',
          headers,
          body: new Uint8Array(body),
        });
        const answers = await inTime(async () => (await app.fetch(request, {})).text());
        for (const answer of answers.split('\n').filter((each) => each !== '')) {
          const { id, code } = JSON.parse(answer) as { id?: string; code?: string };
          if (id === undefined && !(code !== undefined && Object.hasOwn(ERROR_CODES, code)))
            throw new Broken(answer.slice(0, 500));
          if (answer.length > PROBLEM_BYTES_MAX)
            throw new Broken(`an answer of ${answer.length} characters to one line`);
        }
        faults.check();
      },
      { runs: 100, boxMs: 200 },
    );
  });

  test('is the same lines in whatever pieces it comes, and keeps nothing of a line that is too long', async () => {
    const bytes = fc
      .array(fc.constantFrom(0x0a, 0x0d, 0x20, 0x61, 0xff), { maxLength: 60 })
      .map((all) => Buffer.from(all));
    await fuzz(
      fc.tuple(bytes, pieces, fc.integer({ min: 0, max: 20 })),
      ([all, lengths, bytesMax]) => {
        const read = (chunks: readonly Buffer[]): unknown => {
          const lines = new NdjsonLines(bytesMax);
          return attempt(all.length, () =>
            [...chunks.flatMap((chunk) => lines.push(chunk)), ...lines.rest()].map((each) =>
              'bytes' in each ? each.bytes.toString('hex') : each,
            ),
          );
        };
        expect(read(cutInto(all, lengths))).toEqual(read([all]));
      },
      { runs: 200, boxMs: 100 },
    );
  });
});

describe('files of the dashboard', () => {
  let directory: string;

  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), 'millrace-fuzz-'));
    await mkdir(join(directory, 'page', 'assets'), { recursive: true });
    await writeFile(join(directory, 'secret.js'), 'SECRET');
    await writeFile(join(directory, 'page', 'index.html'), 'PAGE');
    await writeFile(join(directory, 'page', 'assets', 'app.js'), 'APP');
    await writeFile(join(directory, 'page', 'assets', 'notes.txt'), 'SECRET');
  });

  afterAll(() => rm(directory, { recursive: true }));

  test('are the only ones that any path leads to', async () => {
    const files = dashboardRoutes(join(directory, 'page'));
    const step = fc.constantFrom(
      '..',
      '.',
      '',
      '%2e%2e',
      '%2E.',
      '..%2f',
      '%2f',
      '..%5c',
      '\\..\\',
      '%00',
      'assets',
      'app.js',
      'secret.js',
      'notes.txt',
      '%252e%252e',
      '..;',
      'index.html',
      'app.js%00.html',
      '%c0%ae%c0%ae',
      directory,
    );
    await fuzz(
      fc.tuple(fc.array(step, { minLength: 1, maxLength: 6 }), fc.constantFrom('/', '//', '%2f', '\\')),
      async ([steps, separator]) => {
        const path = `/${steps.join(separator)}`;
        // As it came over the wire: a URL would have taken the dots out.
        const response = await files.fetch({ ...rawRequest(path) } as Request);
        const text = await response.text();
        if (text.includes('SECRET')) throw new Broken(`${path} leads to a file that is none of the page's`);
        if (response.status === 200 && text !== 'PAGE' && text !== 'APP')
          throw new Broken(`${path}: ${text.slice(0, 100)}`);
      },
      { runs: 300, boxMs: 150 },
    );
  });
});

/** What a server makes of a request line whose path is not normalised. */
function rawRequest(path: string): Pick<Request, 'method' | 'url' | 'headers'> {
  return { method: 'GET', url: `http://localhost${path}`, headers: new Headers() };
}

describe('bytes on the port', () => {
  /** What comes back until the other side has closed, or one answer is whole. */
  function exchange(bytes: Buffer): Promise<string> {
    return new Promise((resolve, reject) => {
      const socket = connect({ port: Number(new URL(server.url).port), host: '127.0.0.1' });
      let text = '';
      socket.on('data', (chunk: Buffer) => {
        text += chunk.toString('latin1');
      });
      socket.on('close', () => resolve(text));
      socket.on('error', (error: NodeJS.ErrnoException) =>
        error.code === 'ECONNRESET' || error.code === 'EPIPE' ? resolve(text) : reject(error),
      );
      socket.end(bytes);
    });
  }

  test('that are no request, or one that is like none, are refused, and the next one is answered', async () => {
    const target = fc.oneof(
      fc.constantFrom(
        '/v1/stats',
        '/../../etc/passwd',
        '/..%2f..%2fetc/passwd',
        '//',
        '*',
        'http://',
        'http://[::1',
        'localhost:1',
        '/%',
        '/\u0000',
        '/é',
        '?',
        '',
        `/${'x'.repeat(20_000)}`,
      ),
    );
    const method = fc.constantFrom('GET', 'POST', 'TRACE', 'TRACK', 'CONNECT', 'PRI', 'get', 'X', '', 'OPTIONS');
    const header = fc.oneof(
      fc.constantFrom(
        'host: localhost',
        'host: localhost',
        'host: [',
        'host: ',
        'content-length: 5',
        'content-length: -1',
        'content-length: 5\r\ncontent-length: 6',
        'transfer-encoding: chunked',
        'connection: upgrade\r\nupgrade: websocket',
        'expect: 100-continue',
        'expect: x',
        ': x',
        'x',
        'content-type: application/json',
      ),
      fc.nat(3).map((length) => `x: ${'y'.repeat(6000 * length)}`),
      fc.uint8Array({ minLength: 1, maxLength: 10 }).map((bytes) => `x: ${Buffer.from(bytes).toString('latin1')}`),
    );
    const request = fc.tuple(
      method,
      target,
      fc.array(header, { maxLength: 5 }),
      fc.constantFrom('', '{}', '5\r\n{}   \r\n0\r\n\r\n', 'x'.repeat(100)),
      fewMutations,
    );
    await fuzz(
      request,
      async ([verb, where, headers, body, mutations]) => {
        const head = [`${verb} ${where} HTTP/1.1`, ...headers, 'connection: close'].join('\r\n');
        const answer = await exchange(mutate(Buffer.from(`${head}\r\n\r\n${body}`, 'latin1'), mutations));
        const [defect] = defects.splice(0);
        if (defect !== undefined) throw new Broken(defect);
        const statuses = [...answer.matchAll(/^HTTP\/1\.1 (\d+)/gm)].map(([, status]) => status);
        if (statuses.includes('500')) throw new Broken(`500: ${answer.slice(0, 500)}`);
        if (answer.includes('root:')) throw new Broken('a file of the system came back');
        faults.check();
      },
      { runs: 120, boxMs: 350 },
    );
    expect((await fetch(`${server.url}/healthz`)).status).toBe(200);
  });
});

test('a file of credentials is taken, or refused with the line and without a secret of it', async () => {
  const word = fc.oneof(
    fc.constantFrom('read', 'operate', 'admin', 'ops', '#', '', '__proto__', 'x'.repeat(30), 'a:b'),
    fc.string({ maxLength: 30 }),
  );
  const line = fc.array(word, { maxLength: 4 }).map((words) => words.join(' '));
  await fuzz(
    fc.array(line, { maxLength: 6 }).map((lines) => lines.join('\n')),
    (text) => {
      const refusal = tolerate(() => Credentials.parse(text, 'the file').find(text));
      if (refusal !== undefined) oursWith(refusal, ['INVALID_ARGUMENT']);
    },
    { runs: 300, boxMs: 100 },
  );
});
