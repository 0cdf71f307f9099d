import type { StandardSchemaV1 } from '@standard-schema/spec';
import { MillraceError, shown } from '../errors.ts';
import { checkInteger, LIMITS } from '../limits.ts';
import type { Encoding } from './codec.ts';
import type { Batch, TaskContext, TaskFormat, TaskHandler } from './handler.ts';
import { checkKeys, SpecTable, type TaskOptions, taskOptionKeys } from './options.ts';

export interface DefinitionOptions extends TaskOptions {
  /** Checks the input on enqueue, and again before the handler, which gets what the schema makes of it. */
  input?: StandardSchemaV1 | undefined;
  /** Checks what the handler returns; `result()` gives what the schema makes of it. */
  output?: StandardSchemaV1 | undefined;
  /** `bytes`: enqueues take a Uint8Array and handlers get one. Default `json`. */
  payload?: Encoding | undefined;
  /** `bytes`: handlers return a Uint8Array and `result()` gives one. Default `json`. */
  result?: Encoding | undefined;
}

type InputOf<O> = O extends { input: infer S extends StandardSchemaV1 }
  ? StandardSchemaV1.InferInput<S>
  : O extends { payload: 'bytes' }
    ? Uint8Array
    : unknown;
type ParsedOf<O> = O extends { input: infer S extends StandardSchemaV1 } ? StandardSchemaV1.InferOutput<S> : InputOf<O>;
type ReturnedOf<O> = O extends { output: infer S extends StandardSchemaV1 }
  ? StandardSchemaV1.InferInput<S>
  : O extends { result: 'bytes' }
    ? Uint8Array | undefined
    : unknown;
type ResultOf<O> = O extends { output: infer S extends StandardSchemaV1 }
  ? StandardSchemaV1.InferOutput<S>
  : ReturnedOf<O>;

type UntypedOptions = TaskOptions & { input?: undefined; output?: undefined; payload?: 'json'; result?: 'json' };

/**
 * Names a kind of task and says how its tasks look and run. Types come from the schemas, or are given:
 * `defineTask<Input, Output>('image.resize')`. Throws INVALID_ARGUMENT.
 */
export function defineTask<Input = unknown, Output = unknown>(
  name: string,
  options?: UntypedOptions,
): TaskDefinition<Input, Input, Output, Output>;
export function defineTask<const Options extends DefinitionOptions>(
  name: string,
  options: Options,
): TaskDefinition<InputOf<Options>, ParsedOf<Options>, ReturnedOf<Options>, ResultOf<Options>>;
export function defineTask(
  name: string,
  options: DefinitionOptions = {},
): TaskDefinition<unknown, unknown, unknown, unknown> {
  return new TaskDefinition(name, options);
}

const DEFINITION_KEYS = [...taskOptionKeys, 'input', 'output', 'payload', 'result'];
const BATCH_SIZE_DEFAULT = 1000;

/** A definition as those see it who enqueue its tasks. */
export interface TaskKind<Input, Result> extends TaskFormat {
  readonly specs: SpecTable;
  /** Not there; holds the types. */
  readonly types: { input: Input; result: Result };
}

/** Made by `defineTask`. `Input` is what is enqueued, `Parsed` what handlers get, `Returned` what they return, `Result` what `result()` gives. */
export class TaskDefinition<Input, Parsed, Returned, Result> implements TaskKind<Input, Result> {
  readonly name: string;
  readonly input: StandardSchemaV1 | undefined;
  readonly output: StandardSchemaV1 | undefined;
  readonly payload: Encoding;
  readonly result: Encoding;
  readonly specs: SpecTable;
  declare readonly types: { input: Input; result: Result };

  constructor(name: string, options: DefinitionOptions) {
    checkKeys(`the definition of ${shown(name)}`, options, DEFINITION_KEYS);
    this.name = name;
    this.specs = new SpecTable(name, options);
    this.input = checkSchema('input', options.input);
    this.output = checkSchema('output', options.output);
    this.payload = checkEncoding('payload', options.payload);
    this.result = checkEncoding('result', options.result);
  }

  /** For `client.work`. What `run` returns, or its promise resolves with, is the task's result. */
  handle(run: (input: Parsed, context: TaskContext) => Returned | Promise<Returned>): TaskHandler {
    checkFunction(`handle of ${this.name}`, run);
    return {
      kind: 'single',
      format: this,
      queue: this.specs.base.queue,
      run: run as (input: unknown, context: TaskContext) => unknown,
    };
  }

  /**
   * For `client.work`: takes up to `batchSize` tasks at once (default 1000). `run` returns nothing, or an array with one
   * result for each task; what it throws fails every task that it did not fail itself.
   */
  handleBatch(
    run: (batch: Batch<Parsed>) => BatchReturn<Returned> | Promise<BatchReturn<Returned>>,
    options: { batchSize?: number | undefined } = {},
  ): TaskHandler {
    checkFunction(`handleBatch of ${this.name}`, run);
    checkKeys('handleBatch', options, ['batchSize']);
    const batchSize = options.batchSize ?? BATCH_SIZE_DEFAULT;
    checkInteger('batchSize', batchSize, 1, LIMITS.prefetchMax);
    return {
      kind: 'batch',
      format: this,
      queue: this.specs.base.queue,
      batchSize,
      run: run as (batch: Batch<unknown>) => unknown,
    };
  }
}

// biome-ignore lint/suspicious/noConfusingVoidType: a handler that returns nothing is one that returns no array.
export type BatchReturn<Returned> = readonly Returned[] | undefined | void;

function checkFunction(what: string, value: unknown): void {
  if (typeof value === 'function') return;
  throw new MillraceError('INVALID_ARGUMENT', `${what} takes a function, not ${shown(value)}`);
}

function checkSchema(what: string, schema: StandardSchemaV1 | undefined): StandardSchemaV1 | undefined {
  if (schema === undefined || typeof schema?.['~standard']?.validate === 'function') return schema;
  throw new MillraceError('INVALID_ARGUMENT', `${what} must be a Standard Schema (zod, valibot, arktype, …)`);
}

function checkEncoding(what: string, encoding: Encoding | undefined): Encoding {
  if (encoding === undefined) return 'json';
  if (encoding === 'json' || encoding === 'bytes') return encoding;
  throw new MillraceError('INVALID_ARGUMENT', `${what} is ${shown(encoding)}; allowed are "json" and "bytes"`);
}
