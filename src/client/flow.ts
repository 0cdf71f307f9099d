import type { Broker, RelatedTask } from '../broker/contract.ts';
import { MillraceError, shown } from '../errors.ts';
import { LIMITS } from '../limits.ts';
import type { TaskKind } from '../task/definition.ts';
import type { TaskFormat } from '../task/handler.ts';
import type { EnqueueOptions, ParentRef, RelationOptions, TaskRef } from '../task/options.ts';
import { idOf, resolveRelations } from '../task/relations.ts';
import type { Enqueuer } from './enqueuer.ts';
import { Task } from './task.ts';

/** A task of a flow that is being built: it has no id yet, and stands for the task in `dependsOn` and `Flow.task`. */
export class FlowTask<Result = unknown> {
  /** In the order of the calls of `add`. */
  readonly index: number;
  /** Not there; holds the type. */
  declare readonly result: Result;
  readonly #builder: FlowBuilder;

  constructor(builder: FlowBuilder, index: number) {
    this.#builder = builder;
    this.index = index;
  }

  isOf(builder: FlowBuilder): boolean {
    return this.#builder === builder;
  }
}

export type FlowTaskOptions = Omit<EnqueueOptions, 'dependsOn'> & RelationOptions<FlowTask | TaskRef>;

/** How the client makes a task of what `add` was given; resolves once its schema has checked the input. */
export type Preparation = (
  target: TaskKind<unknown, unknown> | string,
  input: unknown,
  options: Omit<EnqueueOptions, 'dependsOn'> | undefined,
) => Promise<{ task: Pick<RelatedTask, 'spec' | 'payload' | 'when' | 'headers'>; format: TaskFormat | undefined }>;

interface Added {
  readonly prepared: ReturnType<Preparation>;
  readonly relations: Pick<RelatedTask, 'dependsOn' | 'unique'>;
}

/** Gathers the tasks of one flow. Nothing is sent before the function that was given it is over. */
export class FlowBuilder {
  readonly #prepare: Preparation;
  readonly #added: Added[] = [];
  #isOver = false;

  constructor(prepare: Preparation) {
    this.#prepare = prepare;
  }

  get length(): number {
    return this.#added.length;
  }

  /**
   * Adds a task, with the options of an enqueue. `dependsOn` takes what earlier calls gave, and tasks or ids that were there
   * before. Throws INVALID_ARGUMENT.
   */
  add<Input, Result>(kind: TaskKind<Input, Result>, input: NoInfer<Input>, options?: FlowTaskOptions): FlowTask<Result>;
  add<Result = unknown>(name: string, input?: unknown, options?: FlowTaskOptions): FlowTask<Result>;
  add(target: TaskKind<unknown, unknown> | string, input: unknown, options?: FlowTaskOptions): FlowTask {
    if (this.#isOver) throw new MillraceError('INVALID_ARGUMENT', 'the flow is submitted already: begin another');
    if (this.#added.length >= LIMITS.batchTasksMax) {
      const message = `a flow has at most ${LIMITS.batchTasksMax} tasks: submit the rest as another, which depends on tasks of this`;
      throw new MillraceError('INVALID_ARGUMENT', message, { details: { bound: LIMITS.batchTasksMax } });
    }
    const relations = resolveRelations(options, (ref: FlowTask | TaskRef) => this.#placeOf(ref));
    const { dependsOn: _, ...rest } = options ?? {};
    const prepared = this.#prepare(target, input, rest);
    // Looked at when all have been added.
    prepared.catch(() => {});
    this.#added.push({ prepared, relations: relations ?? { dependsOn: [], unique: undefined } });
    return new FlowTask(this, this.#added.length - 1);
  }

  /** Once. Rejects like `Client.flow`. */
  async submit(broker: Broker, enqueuer: Enqueuer): Promise<Flow> {
    this.#isOver = true;
    const prepared = await Promise.all(this.#added.map((added) => added.prepared));
    const related = prepared.map(({ task }, index) => ({ ...task, ...(this.#added[index] as Added).relations }));
    const submitted = related.length === 0 ? [] : await enqueuer.submit(related);
    const tasks = submitted.map(({ id, isNew }, index) => new Task(broker, id, prepared[index]?.format, isNew));
    return new Flow(this, tasks);
  }

  #placeOf(ref: FlowTask | TaskRef): number | string {
    if (!(ref instanceof FlowTask)) return idOf(ref);
    if (ref.isOf(this)) return ref.index;
    throw new MillraceError('INVALID_ARGUMENT', 'dependsOn names a task that is being built in another flow');
  }
}

/** Tasks that were submitted together. */
export class Flow {
  /** In the order in which they were added. */
  readonly tasks: readonly Task[];
  readonly #builder: FlowBuilder;

  constructor(builder: FlowBuilder, tasks: readonly Task[]) {
    this.#builder = builder;
    this.tasks = tasks;
  }

  /** The task that `add` stood for. Throws INVALID_ARGUMENT for one of another flow. */
  task<Result>(ref: FlowTask<Result>): Task<Result> {
    if (ref instanceof FlowTask && ref.isOf(this.#builder)) return this.tasks[ref.index] as Task<Result>;
    throw new MillraceError('INVALID_ARGUMENT', `${shown(ref)} is no task of this flow`);
  }
}

/** The task of a batch that runs when all others have ended; by its name, its input may be anything. */
export interface BatchCallback<Task extends TaskKind<unknown, unknown> | string = string, Input = unknown> {
  readonly task: Task;
  readonly input?: Input;
  readonly options?: Omit<EnqueueOptions, 'dependsOn' | 'onParentFailure'> | undefined;
}

export interface BatchProgress {
  total: number;
  /** Completed, dead or cancelled. */
  ended: number;
  completed: number;
  dead: number;
  cancelled: number;
}

/** A group of tasks with one that runs when all have ended, however they ended. */
export class TaskGroup<Result = unknown> {
  readonly tasks: readonly Task[];
  /** Blocked until the others have ended; reads how, and their results, with `ctx.parents()`. */
  readonly callback: Task<Result>;

  constructor(tasks: readonly Task[], callback: Task<Result>) {
    this.tasks = tasks;
    this.callback = callback;
  }

  /** How far the group is. Rejects with NOT_FOUND when its callback is no longer retained. */
  async progress(): Promise<BatchProgress> {
    const { dependencies } = await this.callback.info();
    const { total = 0, open = 0, completed = 0, dead = 0, cancelled = 0 } = dependencies ?? {};
    return { total, ended: total - open, completed, dead, cancelled };
  }
}

/** For the callback: it depends on everything that was added. */
export function allOf(tasks: readonly FlowTask[]): readonly ParentRef<FlowTask>[] {
  return tasks.map((task) => ({ task, onFailure: 'run' as const }));
}
