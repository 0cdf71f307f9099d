import { invariant } from '../../errors.ts';
import { placesOf } from '../places.ts';
import type { NewRelatedTask, Submission } from '../store.ts';
import type { Database } from './database.ts';
import { flagArray, headersArray, headersText, numberArray, pack, textArray } from './encode.ts';
import type { Kind, Kinds } from './kinds.ts';
import type { Parameter, Row } from './lane.ts';
import { ON_FAILURE, UNIQUE_SCOPE } from './relations-schema.ts';

type Places = ReturnType<typeof placesOf>;

/**
 * Tasks that have to do with others: one statement, whatever there are, so that it is all or nothing. It may be run again
 * after an unknown outcome, and then finds its tasks there.
 */
export class Submissions {
  readonly #database: Database;
  readonly #kinds: Kinds;
  readonly #settled: (settled: unknown) => void;

  constructor(database: Database, kinds: Kinds, settled: (settled: unknown) => void) {
    this.#database = database;
    this.#kinds = kinds;
    this.#settled = settled;
  }

  async submit(tasks: readonly NewRelatedTask[]): Promise<Submission> {
    if (tasks.length === 0) return { tasks: [], entries: [] };
    const kinds = await this.#kinds.of(tasks.map((task) => task.spec));
    const places = placesOf(tasks);
    const [row] = await this.#database.query('durable', SUBMIT, parametersOf(tasks, kinds, places));
    invariant(row !== undefined, 'a call of a function has a row');
    const { existing, entries, settled } = (row as Row).answer as {
      existing: Record<string, string>;
      entries: string[];
      settled: unknown;
    };
    this.#settled(settled);
    return {
      entries,
      tasks: tasks.map(({ id }, index) => {
        const asked = tasks[places[index] as number] as NewRelatedTask;
        const known = Object.hasOwn(existing, asked.id) ? existing[asked.id] : undefined;
        return { id: known ?? asked.id, isNew: known === undefined && asked.id === id };
      }),
    };
  }
}

function parametersOf(tasks: readonly NewRelatedTask[], kinds: readonly Kind[], places: Places): Parameter[] {
  const asked = tasks.map((_, index) => index).filter((index) => places[index] === index);
  const each = asked.map((index) => tasks[index] as NewRelatedTask);
  const edges = edgesOf(tasks, places);
  const relatives = new Map<string, number>();
  for (const { unique, dependsOn, id } of each) if (unique !== undefined || dependsOn.length > 0) relatives.set(id, 0);
  const outers = new Set<string>();
  const own = new Set(each.map((task) => task.id));
  for (const { parent } of edges) {
    if (own.has(parent)) relatives.set(parent, (relatives.get(parent) ?? 0) + 1);
    else outers.add(parent);
  }
  const packed = pack(each.map((task) => task.payload));
  const unique = asked.filter((index) => (tasks[index] as NewRelatedTask).unique !== undefined);
  return [
    textArray(each.map((task) => task.id)),
    numberArray(asked.map((index) => (kinds[index] as Kind).queueNo)),
    numberArray(asked.map((index) => (kinds[index] as Kind).no)),
    (tasks[0] as NewRelatedTask).enqueuedAtMs,
    numberArray(each.map((task) => task.runAtMs ?? null)),
    flagArray(each.map((task) => task.dependsOn.length > 0)),
    numberArray(each.map((task) => relatives.get(task.id) ?? null)),
    textArray(each.map((task) => task.unique?.key ?? null)),
    packed.bytes,
    packed.starts,
    packed.lengths,
    textArray(edges.map((edge) => edge.child)),
    textArray(edges.map((edge) => edge.parent)),
    numberArray(edges.map((edge) => edge.mode)),
    textArray([...outers]),
    numberArray(unique.map((index) => (kinds[index] as Kind).queueNo)),
    ...uniqueOf(unique.map((index) => tasks[index] as NewRelatedTask)),
    headersArray(each.map((task) => headersText(task.headers))),
  ];
}

function edgesOf(tasks: readonly NewRelatedTask[], places: Places): { child: string; parent: string; mode: number }[] {
  return tasks.flatMap(({ id, dependsOn }, index) => {
    if (places[index] !== index) return [];
    return dependsOn.map(({ on, onFailure }) => ({
      child: id,
      parent: typeof on === 'string' ? on : (tasks[places[on] as number] as NewRelatedTask).id,
      mode: ON_FAILURE[onFailure],
    }));
  });
}

function uniqueOf(tasks: readonly NewRelatedTask[]): Parameter[] {
  const scopes = tasks.map(({ unique }) => unique?.scope ?? 'unfinished');
  return [
    textArray(tasks.map((task) => (task.unique as { key: string }).key)),
    textArray(tasks.map((task) => task.id)),
    numberArray(scopes.map((scope) => (typeof scope === 'object' ? UNIQUE_SCOPE.time : UNIQUE_SCOPE[scope]))),
    numberArray(scopes.map((scope) => (typeof scope === 'object' ? scope.forMs : null))),
  ];
}

const SUBMIT = `SELECT submit($1::text[], $2::integer[], $3::integer[], $4::float8, $5::float8[], $6::boolean[],
  $7::integer[], $8::text[], $9::bytea, $10::integer[], $11::integer[],
  $12::text[], $13::text[], $14::integer[], $15::text[],
  $16::integer[], $17::text[], $18::text[], $19::integer[], $20::float8[], $21::text[]) AS answer`;
