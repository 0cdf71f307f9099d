import type { Failure } from '../core/failures.ts';
import { NONE } from '../core/task-table.ts';
import { MillraceError } from '../errors.ts';
import { type AttemptFailure, parseAttemptFailure } from '../protocol/task-error.ts';
import type { Engine } from './engine.ts';

export type InspectedFailure = AttemptFailure & { attempt: number; atMs: number };

/** The newest failures of a task, newest last, without those that are taken back meanwhile, or go with their task. */
export async function loadFailures(engine: Engine, id: number, countMax: number): Promise<InspectedFailure[]> {
  const failures: InspectedFailure[] = [];
  for (const { attempt, atMs } of known(engine, id).slice(-countMax)) {
    const failure = await load(engine, () =>
      known(engine, id).find((each) => each.attempt === attempt && each.atMs === atMs),
    );
    if (failure !== undefined) failures.push({ attempt, atMs: Math.round(atMs), ...failure });
  }
  return failures;
}

/** Of very many tasks, a bounded number of failures is read, and of pages of the journal. */
export class FailureBudget {
  #failures: number;
  #loads: number;

  constructor(max: { failures: number; loads: number }) {
    this.#failures = max.failures;
    this.#loads = max.loads;
  }

  /** How many more may be read. */
  get left(): number {
    return this.#loads > 0 ? this.#failures : 0;
  }

  /** The newest failure of a task; undefined when it has none any more. */
  async newest(engine: Engine, id: number): Promise<AttemptFailure | undefined> {
    this.#failures--;
    const find = (): Failure | undefined => known(engine, id).at(-1);
    const place = find();
    if (place !== undefined && engine.reader.extent(place.segment, place.offset) === undefined) this.#loads--;
    return load(engine, find);
  }
}

function known(engine: Engine, id: number): Failure[] {
  const slot = engine.core.index.get(id);
  return slot === NONE ? [] : engine.core.failures(slot);
}

/** One that cannot be read is shown as that: the rest of the task, and of a list, is worth seeing all the same. */
async function load(engine: Engine, find: () => Failure | undefined): Promise<AttemptFailure | undefined> {
  try {
    const bytes = await engine.reader.loadBlob(find);
    return bytes === undefined ? undefined : parseAttemptFailure(bytes);
  } catch (error) {
    if (!(error instanceof MillraceError)) throw error;
    const { name, message, code } = error;
    return { error: { name, message, code } };
  }
}
