/** What a benchmark's process does when its parent asks. Parameters and results cross as JSON. */
// biome-ignore lint/suspicious/noExplicitAny: a table of methods with different parameters; `Params` gives each its type.
export type Methods = Record<string, (params: any) => Promise<unknown>>;
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
    Promise.resolve(params)
      .then(methods[method])
      .then(
        (result) => send({ id, result }),
        (error: unknown) =>
          send({ id, error: error instanceof Error ? (error.stack ?? error.message) : String(error) }),
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

function send(answer: Answer): void {
  if (process.connected) process.send?.(answer);
}
