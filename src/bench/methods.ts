/**
 * What a benchmark's process does when its parent asks. Each method has parameters of its own, which `Params` names: a table of
 * any of them can be called with none. Parameters and results cross as JSON.
 */
export type Methods = Record<string, (params: never) => Promise<unknown>>;
export type MethodName<M extends Methods> = Extract<keyof M, string>;
export type Params<M extends Methods, N extends MethodName<M>> = Parameters<M[N]>[0];
export type Result<M extends Methods, N extends MethodName<M>> = Awaited<ReturnType<M[N]>>;

export interface Request {
  id: number;
  method: string;
  params: unknown;
}

export interface Answer {
  id: number;
  result?: unknown;
  error?: string;
}

/** Answers the parent until it is gone; then `leave` is awaited and the process ends. */
export function answerParent(methods: Methods, leave: () => Promise<void>): void {
  process.on('message', ({ id, method, params }: Request) => {
    answer(methods, method, params).then(
      (result) => send({ id, result }),
      (error: unknown) => send({ id, error: error instanceof Error ? (error.stack ?? error.message) : String(error) }),
    );
  });
  process.on('disconnect', () => {
    // `exit` and not the end of the loop: it also writes the profile, and nothing that is left open may hold it up.
    leave().then(
      () => process.exit(),
      (error: unknown) => {
        process.stderr.write(`${error instanceof Error ? error.stack : String(error)}\n`);
        process.exit(1);
      },
    );
  });
  // Ctrl-C goes to the whole group of processes; the parent ends them in order.
  process.on('SIGINT', () => {});
}

async function answer(methods: Methods, method: string, params: unknown): Promise<unknown> {
  const run = methods[method];
  if (run === undefined) throw new Error(`there is no method ${JSON.stringify(method)}`);
  // `Child.call` lets only those through that the method takes.
  return await run(params as never);
}

function send(answer: Answer): void {
  if (process.connected) process.send?.(answer);
}
