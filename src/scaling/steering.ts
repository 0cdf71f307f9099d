/** What a supervisor says to a worker process … */
export type Order =
  /** First: what the worker is to be, as the supervisor was told it. */
  | { readonly type: 'start'; readonly values: object }
  /** Take nothing more, finish what runs however long that takes, end. */
  | { readonly type: 'retire' }
  /** As a SIGTERM: what runs may go on for the worker's own stop timeout. */
  | { readonly type: 'stop' };

/** … and what that answers. */
export type Word =
  /** It takes tasks from these queues. */
  | { readonly type: 'working'; readonly queues: readonly string[] }
  /** The last one: why it ends. */
  | { readonly type: 'failed'; readonly code: string; readonly message: string };
