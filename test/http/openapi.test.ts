import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Keyring } from '../../src/access/keyring.ts';
import { createApp } from '../../src/http/app.ts';
import { SystemClock } from '../../src/io/clock.ts';
import { ask } from './ask.ts';
import { HttpPlace } from './place.ts';

const METHODS = ['get', 'post', 'put', 'delete', 'patch'];

interface Operation {
  readonly name: string;
  readonly path: string;
  // biome-ignore lint/suspicious/noExplicitAny: JSON that is looked into.
  readonly about: any;
}

let place: HttpPlace;
// biome-ignore lint/suspicious/noExplicitAny: JSON that is looked into.
let described: any;
let operations: Operation[];

beforeAll(async () => {
  place = await HttpPlace.open();
  described = (await ask(`${place.url}/openapi.json`)).json;
  operations = Object.entries(described.paths as Record<string, Record<string, unknown>>).flatMap(([path, item]) =>
    Object.entries(item)
      .filter(([method]) => METHODS.includes(method))
      .map(([method, about]) => ({ name: `${method.toUpperCase()} ${path}`, path, about })),
  );
});
afterAll(() => place.close());

/** Each object in it, with where it is. */
function* objectsOf(value: unknown, where = '#'): Generator<[string, Record<string, unknown>]> {
  if (typeof value !== 'object' || value === null) return;
  yield [where, value as Record<string, unknown>];
  for (const [key, inner] of Object.entries(value)) yield* objectsOf(inner, `${where}/${key}`);
}

test('it is OpenAPI 3.1, and says how one shows who one is', () => {
  expect(described.openapi).toBe('3.1.0');
  expect(described.info).toMatchObject({ title: 'Millrace', version: expect.stringMatching(/^\d+\.\d+\.\d+/) });
  const schemes = Object.keys(described.components.securitySchemes);
  expect(schemes.sort()).toEqual(['basic', 'bearer']);
  for (const need of described.security) for (const scheme of Object.keys(need)) expect(schemes).toContain(scheme);
});

test('each operation has a name of its own, says what it does, and what it answers', () => {
  expect(operations.length).toBeGreaterThan(20);
  const ids = operations.map(({ about }) => about.operationId);
  expect(new Set(ids).size).toBe(ids.length);
  for (const { name, about } of operations) {
    expect(about.operationId, name).toMatch(/^[a-z][A-Za-z]+$/);
    expect(about.summary, name).toMatch(/\S/);
    expect(about.tags, name).toHaveLength(1);
    const successes = Object.keys(about.responses).filter((status) => status.startsWith('2'));
    expect(successes, name).toHaveLength(1);
    for (const [status, response] of Object.entries<{ description: string; content?: object }>(about.responses)) {
      expect(response.description, `${name} ${status}`).toMatch(/\S/);
      if (status !== '204') expect(Object.keys(response.content ?? {}), `${name} ${status}`).toHaveLength(1);
    }
  }
});

test('each operation of the API says how it refuses', () => {
  const problem = { $ref: '#/components/schemas/Problem' };
  for (const { name, about } of operations.filter(({ path }) => path.startsWith('/v1/'))) {
    expect(about.responses.default?.content, name).toEqual({ 'application/problem+json': { schema: problem } });
  }
});

test('each parameter in a path is described, and no other', () => {
  for (const { name, path, about } of operations) {
    const inPath = [...path.matchAll(/\{(\w+)\}/g)].map(([, parameter]) => parameter);
    const parameters: { in: string; name: string; required?: boolean; schema?: object }[] = about.parameters ?? [];
    expect(
      parameters.filter((each) => each.in === 'path').map((each) => each.name),
      name,
    ).toEqual(inPath);
    for (const parameter of parameters) {
      expect(parameter.schema, `${name} ${parameter.name}`).toBeDefined();
      if (parameter.in === 'path') expect(parameter.required, name).toBe(true);
    }
  }
});

test('what it refers to is there, and each schema says something', () => {
  for (const [where, value] of objectsOf(described)) {
    if (typeof value.$ref !== 'string') continue;
    const target = value.$ref
      .replace(/^#\//, '')
      .split('/')
      .reduce<unknown>((inner, key) => (inner as Record<string, unknown> | undefined)?.[key], described);
    expect(target, `${where}: ${value.$ref}`).toBeDefined();
  }
  for (const [where, value] of objectsOf(described)) {
    if ('nullable' in value) throw new Error(`${where}: nullable is of OpenAPI 3.0`);
    if (value.type === 'array') expect(value.items, where).toBeDefined();
  }
});

test('every route is in it', () => {
  const { broker, client } = place;
  const app = createApp({
    ...{ broker, client, clock: new SystemClock(), showPayloads: true, onStop: () => {}, onNotice: () => {} },
    access: { keyring: new Keyring(), hostNames: [] },
    features: { tasks: true, events: true, schedules: true, limits: true },
  });
  const routes = app.routes
    .filter(({ method, path }) => method !== 'ALL' && path.startsWith('/v1/'))
    .map(({ method, path }) => `${method} ${path.replaceAll(/:(\w+)/g, '{$1}')}`);
  const names = operations.map(({ name }) => name);
  expect(routes.length).toBeGreaterThan(20);
  expect(routes.filter((route) => !names.includes(route))).toEqual([]);
});

describe('docs/http-api.md', () => {
  let documented: { name: string; query: string[] }[];

  beforeAll(async () => {
    const text = await readFile(join(import.meta.dirname, '../../docs/http-api.md'), 'utf8');
    const cells = [...text.matchAll(/^\| (`.*?) \| /gm)].map(([, cell]) => cell as string);
    // What stands in sentences.
    const others = [...text.matchAll(/`GET \/(?:healthz|readyz|metrics|v1\/events)[^`]*`/g)].map(([cell]) => cell);
    documented = [...cells, ...others].flatMap(readCell);
  });

  /** `POST /a/b`, `/c` stands for POST /a/b and POST /a/c. */
  function readCell(cell: string): { name: string; query: string[] }[] {
    let method = '';
    let folder = '';
    return [...cell.matchAll(/`([^`]+)`/g)].map(([, code = '']) => {
      const [, written, path = '', query] = /^(?:([A-Z]+) )?(\/[^?]*)(?:\?(.*))?$/.exec(code) ?? [];
      const whole = written === undefined ? `${folder}${path}` : path;
      method = written ?? method;
      folder = whole.slice(0, whole.lastIndexOf('/'));
      return { name: `${method} ${whole}`, query: query?.split(/&| \| /) ?? [] };
    });
  }

  test('names only what there is', () => {
    expect(documented.length).toBeGreaterThan(20);
    const names = operations.map(({ name }) => name);
    expect(documented.map(({ name }) => name).filter((name) => !names.includes(name))).toEqual([]);
    for (const { name, query } of documented) {
      const parameters: { in: string; name: string }[] =
        operations.find((operation) => operation.name === name)?.about.parameters ?? [];
      const known = parameters.filter((each) => each.in === 'query').map((each) => each.name);
      expect(
        query.filter((each) => !known.includes(each)),
        name,
      ).toEqual([]);
    }
  });

  test('names all that there is', () => {
    const names = documented.map(({ name }) => name);
    expect(operations.map(({ name }) => name).filter((name) => !names.includes(name))).toEqual([]);
  });
});
