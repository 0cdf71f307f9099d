import fc from 'fast-check';
import { anyJson, hostileJson, type JsonText, jsonOf, listOf, objectOf } from './texts.ts';

/** As much of JSON Schema as the API's description uses. */
export interface Schema {
  readonly $ref?: string;
  readonly type?: string | readonly string[];
  readonly enum?: readonly unknown[];
  readonly const?: unknown;
  readonly anyOf?: readonly Schema[];
  readonly oneOf?: readonly Schema[];
  readonly allOf?: readonly Schema[];
  readonly items?: Schema;
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly additionalProperties?: boolean | Schema;
  readonly minimum?: number;
  readonly maximum?: number;
}

export type Schemas = Readonly<Record<string, Schema>>;

/** How long a request may wait that a test waits for. */
const WAIT_MS_MAX = 2;

const word = jsonOf(fc.constantFrom('q', 'n', 'a', '1-0', '1-1', 'default', 'UTC', '* * * * *', 'cancel', 'e30=', 'é'));

/** JSON that nearly fits the schema: of each object some members do not, or are missing, or are there twice. */
export function textOf(schema: Schema, schemas: Schemas, name = ''): JsonText {
  if (schema.$ref !== undefined) return textOf(schemas[schema.$ref.split('/').at(-1) ?? ''] ?? {}, schemas, name);
  if (name === 'waitMs') return jsonOf(fc.constantFrom(0, WAIT_MS_MAX, -1, 1e9));
  if (schema.const !== undefined) return fc.constant(JSON.stringify(schema.const));
  if (schema.enum !== undefined) return jsonOf(fc.constantFrom(...schema.enum));
  const either = schema.anyOf ?? schema.oneOf;
  if (either !== undefined) return fc.oneof(...either.map((each) => textOf(each, schemas, name)));
  if (schema.allOf !== undefined) return fc.oneof(...schema.allOf.map((each) => textOf(each, schemas, name)));
  const type = typeof schema.type === 'object' ? schema.type[0] : schema.type;
  switch (type) {
    case 'string':
      return word;
    case 'integer':
    case 'number':
      return jsonOf(numberOf(schema));
    case 'boolean':
      return jsonOf(fc.boolean());
    case 'array':
      return listOf(textOf(schema.items ?? {}, schemas));
    case 'object':
      return objectTextOf(schema, schemas);
    default:
      return anyJson;
  }
}

function numberOf({ minimum = 0, maximum = 1000 }: Schema): fc.Arbitrary<number> {
  const inside = fc.integer({ min: Math.ceil(minimum), max: Math.floor(Math.min(maximum, minimum + 1000)) });
  return fc.oneof(
    { weight: 5, arbitrary: inside },
    { weight: 1, arbitrary: fc.constantFrom(minimum - 1, maximum + 1, 0.5) },
  );
}

function objectTextOf({ properties = {}, additionalProperties }: Schema, schemas: Schemas): JsonText {
  const members = Object.entries(properties).map(([name, each]): [string, JsonText] => [
    name,
    textOf(each, schemas, name),
  ]);
  if (typeof additionalProperties === 'object') members.push(['more', textOf(additionalProperties, schemas)]);
  return objectOf(Object.fromEntries(members));
}

/** Nearly what fits, or anything. */
export function bodyText(schema: Schema, schemas: Schemas): JsonText {
  return fc.oneof({ weight: 8, arbitrary: textOf(schema, schemas) }, { weight: 1, arbitrary: hostileJson });
}
