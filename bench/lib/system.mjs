// @ts-check
/**
 * What the bench asks of each system. A file of `systems/` exports one or more of these; its client libraries are imported
 * where they are used, since the runner needs none of them and one may be missing.
 *
 * @typedef {object} System
 * @property {string} name As in `--systems`.
 * @property {string} title
 * @property {boolean} syncs Whether what is confirmed is on the disk: enqueues and completions.
 * @property {string} durability When what is confirmed is on the disk, in words.
 * @property {string[]} settings What was chosen, as its documentation advises for throughput.
 * @property {string[]} packages From npm, whose versions are told.
 * @property {'node' | 'bun'} runtime Of producer and consumer.
 * @property {number} batchTasks In one call of `enqueueBatch`.
 * @property {number} batchesInFlight
 * @property {(tell: (line: string) => void) => Promise<string | undefined>} provide Sees to it that its programs are here;
 *   resolves with the reason when they are not.
 * @property {() => Promise<Instance>} start A new, empty one on a port of its own.
 * @property {() => Promise<unknown>} load Imports the client, so that it takes no time afterwards.
 * @property {(url: string, queue: string, manner: Manner) => Promise<Producer>} produce Makes the queue when there is none.
 * @property {(url: string, queue: string, handler: Handler, manner: Manner) => Promise<Consumer>} consume
 *
 * @typedef {object} Manner What a row is like, for systems whose best settings depend on it.
 * @property {boolean} isSingle Whether tasks are enqueued one by one, or a few at a time, and not in large batches.
 *
 * @typedef {object} Instance
 * @property {string} url
 * @property {string} version Of the server.
 * @property {string} directory All that it keeps.
 * @property {number[]} pids Whose memory counts.
 * @property {() => Promise<void>} [rest] Between rows: what its maintenance does in quiet times, which rows that follow each other do
 *   not leave it.
 * @property {() => Promise<void>} kill As `kill -9`.
 * @property {() => Promise<void>} start After it was killed; resolves when it serves.
 * @property {() => Promise<void>} stop With its data. Always resolves.
 *
 * @typedef {object} Producer
 * @property {(payloads: object[]) => Promise<unknown>} enqueueBatch Resolves when all are confirmed.
 * @property {(payload: object) => Promise<unknown>} enqueue One, in a call of its own.
 * @property {() => Promise<unknown>} close
 *
 * @typedef {object} Consumer
 * @property {() => Promise<unknown>} settle Resolves when the server has every completion so far. It may take nothing more.
 * @property {() => Promise<unknown>} close
 *
 * @typedef {(payload: unknown) => Promise<void>} Handler Called once for each task, with its parsed JSON, whatever that is.
 */
export {};
