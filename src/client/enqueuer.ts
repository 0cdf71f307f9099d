import type {
  Broker,
  Payload,
  RelatedTask,
  SubmittedTask,
  TaskHeaders,
  TaskIds,
  TaskSpec,
  When,
} from '../broker/contract.ts';
import type { EnqueueTrace, Tracing } from '../task/tracing.ts';

/** The part of a backend that takes new tasks. */
export type Enqueuer = Pick<Broker, 'enqueue' | 'enqueueMany' | 'submit'>;

/** Traces each call, and gives its tasks the headers by which their attempts are found to belong to it. */
export class TracedEnqueuer implements Enqueuer {
  readonly #broker: Enqueuer;
  readonly #tracing: Tracing;

  constructor(broker: Enqueuer, tracing: Tracing) {
    this.#broker = broker;
    this.#tracing = tracing;
  }

  enqueue(spec: TaskSpec, payload: Payload, when: When, headers?: TaskHeaders): Promise<string> {
    const trace = this.#tracing.enqueue({ name: spec.name, queue: spec.queue, count: 1 });
    return followed(
      trace,
      () => this.#broker.enqueue(spec, payload, when, trace.headers(headers)),
      (id) => id,
    );
  }

  enqueueMany(spec: TaskSpec, payloads: readonly Payload[], when: When, headers?: TaskHeaders): Promise<TaskIds> {
    const trace = this.#tracing.enqueue({ name: spec.name, queue: spec.queue, count: payloads.length });
    return followed(
      trace,
      () => this.#broker.enqueueMany(spec, payloads, when, trace.headers(headers)),
      () => undefined,
    );
  }

  submit(tasks: readonly RelatedTask[]): Promise<readonly SubmittedTask[]> {
    const trace = this.#tracing.enqueue({
      name: common(tasks.map(({ spec }) => spec.name)),
      queue: common(tasks.map(({ spec }) => spec.queue)),
      count: tasks.length,
    });
    return followed(
      trace,
      () => this.#broker.submit(tasks.map((task) => ({ ...task, headers: trace.headers(task.headers) }))),
      (submitted) => (submitted.length === 1 ? submitted[0]?.id : undefined),
    );
  }
}

async function followed<T>(
  trace: EnqueueTrace,
  call: () => Promise<T>,
  idOf: (answer: T) => string | undefined,
): Promise<T> {
  try {
    const answer = await call();
    trace.confirmed(idOf(answer));
    return answer;
  } catch (error) {
    trace.failed(error);
    throw error;
  }
}

/** What all of them are, if they are the same. */
function common(texts: readonly string[]): string | undefined {
  return texts.every((text) => text === texts[0]) ? texts[0] : undefined;
}
