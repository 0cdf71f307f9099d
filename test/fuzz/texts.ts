import fc from 'fast-check';

/** JSON as text: what an object cannot hold, a member that is there twice for one, is said in it too. */
export type JsonText = fc.Arbitrary<string>;

/** Keys that mean something to JavaScript, and must mean nothing here. */
export const HOSTILE_KEYS: readonly string[] = [
  ...['__proto__', 'constructor', 'prototype', '__defineGetter__', 'hasOwnProperty', 'toString', 'valueOf', 'toJSON'],
  ...['then', 'length', 'name', 'message', 'code', 'cause', '0', '-1', '', '\u0000', '\ud800', '😀'],
];

const DEEP = 20_000;
const deep = fc.constantFrom(
  `${'['.repeat(DEEP)}${']'.repeat(DEEP)}`,
  `${'{"a":'.repeat(DEEP)}1${'}'.repeat(DEEP)}`,
  `${'{"__proto__":'.repeat(100)}{"polluted":1}${'}'.repeat(100)}`,
);

const numbers = fc.oneof(
  fc.constantFrom('0', '-0', '1', '-1', '1.5', '1e400', '-1e400', '1e-400', '9007199254740993', '4294967296', '65536'),
  fc.integer().map(String),
  fc.double({ noNaN: true, noDefaultInfinity: true }).map(String),
);

const strings = fc.oneof(
  fc.constantFrom('', ' ', '\u0000', '\ud800', 'é', '1-0', '../../etc/passwd', '%00', '1e3', 'null', '[object Object]'),
  fc.string({ maxLength: 20 }),
  fc.string({ unit: 'binary', maxLength: 10 }),
  fc.constantFrom(127, 128, 129, 200, 5000).map((length) => 'x'.repeat(length)),
);

const scalar: JsonText = fc.oneof(
  { weight: 3, arbitrary: strings.map((text) => JSON.stringify(text)) },
  { weight: 2, arbitrary: numbers },
  { weight: 2, arbitrary: fc.constantFrom('null', 'true', 'false') },
);

/** Any JSON, small as a rule, with hostile keys. */
export const anyJson: JsonText = fc.letrec<{ value: string; list: string; object: string }>((tie) => ({
  value: fc.oneof({ depthSize: 'small' }, scalar, tie('list'), tie('object')),
  list: fc.array(tie('value'), { maxLength: 4 }).map((items) => `[${items.join()}]`),
  object: fc
    .array(fc.tuple(fc.oneof(fc.constantFrom(...HOSTILE_KEYS), fc.string({ maxLength: 6 })), tie('value')), {
      maxLength: 4,
    })
    .map((members) => `{${members.map(([key, value]) => `${JSON.stringify(key)}:${value}`).join()}}`),
})).value;

/** What no reader expects where it comes. */
export const hostileJson: JsonText = fc.oneof(
  { weight: 8, arbitrary: anyJson },
  { weight: 1, arbitrary: fc.constantFrom('{"toString":1,"valueOf":1,"toJSON":1}', '{"then":1}', '[[[]]]') },
  { weight: 1, arbitrary: deep },
);

export const jsonOf = <T>(values: fc.Arbitrary<T>): JsonText => values.map((value) => JSON.stringify(value));

/** A value as it should be, or, one time in eight, not. */
export function mostly(good: JsonText): JsonText {
  return fc.oneof({ weight: 7, arbitrary: good }, { weight: 1, arbitrary: hostileJson });
}

export function listOf(item: JsonText, { max = 4 }: { max?: number } = {}): JsonText {
  return fc.array(item, { maxLength: max }).map((items) => `[${items.join()}]`);
}

type Members = readonly (readonly [string, string])[];

function member(name: string, good: JsonText): fc.Arbitrary<Members> {
  return fc.oneof(
    { weight: 9, arbitrary: good.map((text): Members => [[name, text]]) },
    { weight: 2, arbitrary: hostileJson.map((text): Members => [[name, text]]) },
    { weight: 1, arbitrary: fc.constant<Members>([]) },
    {
      weight: 1,
      arbitrary: fc.tuple(good, hostileJson).map(
        ([one, other]): Members => [
          [name, one],
          [name, other],
        ],
      ),
    },
  );
}

const more: fc.Arbitrary<Members> = fc.oneof(
  { weight: 5, arbitrary: fc.constant<Members>([]) },
  { weight: 1, arbitrary: fc.array(fc.tuple(fc.constantFrom(...HOSTILE_KEYS), hostileJson), { maxLength: 3 }) },
);

/** An object with these members: each as it should be, of another kind, missing, or there twice; and perhaps others. */
export function objectOf(members: Readonly<Record<string, JsonText>>): JsonText {
  return fc.tuple(more, ...Object.entries(members).map(([name, good]) => member(name, good))).map(
    (parts) =>
      `{${parts
        .flat()
        .map(([key, value]) => `${JSON.stringify(key)}:${value}`)
        .join()}}`,
  );
}

/** Text that was JSON, with something in it changed, or cut. */
export function brokenText(text: JsonText): fc.Arbitrary<string> {
  return fc.oneof(
    { weight: 6, arbitrary: text },
    { weight: 1, arbitrary: fc.tuple(text, fc.nat(200)).map(([whole, length]) => whole.slice(0, length)) },
    {
      weight: 1,
      arbitrary: fc
        .tuple(text, fc.nat(200), fc.constantFrom('"', '{', '}', ',', ':', '\\', '\u0000', ' ', '\ufeff'))
        .map(([whole, at, inserted]) => whole.slice(0, at) + inserted + whole.slice(at)),
    },
  );
}
