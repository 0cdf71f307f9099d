import type { MessagePort } from 'node:worker_threads';
import { errorFromJSON, MillraceError } from '../../errors.ts';
import type { Clock } from '../../io/clock.ts';
import type { KeyRing } from '../../sealing/key-ring.ts';
import { Sealing } from '../../sealing/sealing.ts';
import type { Parent } from '../../task/handler.ts';
import { type LoadedHandlers, loadHandlers } from '../handlers-module.ts';
import { indexHandlers, kindOf } from '../options.ts';
import { Runner } from '../runner.ts';
import { ThreadClock } from './clock.ts';
import { type GroupRun, readGroup } from './group.ts';
import { Marks } from './marks.ts';
import type { ErrorAsData, FromThread, Session, ToThread } from './messages.ts';
import { Reporter } from './reporter.ts';

/** What a thread of the pool runs: the session with its worker, until that closes it. */
export default async function serve({ url, port, marks, clockBaseMs }: Session): Promise<void> {
  const tell = (message: FromThread): void => port.postMessage(message);
  let loaded: LoadedHandlers;
  try {
    loaded = await loadHandlers(new URL(url));
    indexHandlers(loaded.handlers);
  } catch (error) {
    tell({ type: 'refused', error: asData(error) });
    port.close();
    return;
  }
  tell({ type: 'ready', handlers: loaded.handlers.map(kindOf) });
  await new ThreadSession(port, new Marks(marks), new ThreadClock(clockBaseMs), loaded).closed;
  port.close();
}

function asData(error: unknown): ErrorAsData {
  const known = error instanceof MillraceError ? error : new MillraceError('HANDLERS', String(error));
  // What cannot be cloned would keep the rest from crossing.
  return { code: known.code, message: known.message, details: {} };
}

class ThreadSession {
  /** Resolves when the worker has closed it and no handler runs any more. */
  readonly closed: Promise<void>;
  readonly #port: MessagePort;
  readonly #marks: Marks;
  readonly #clock: Clock;
  readonly #loaded: LoadedHandlers;
  #runner!: Runner;
  #reporter!: Reporter;
  /** Those of which not every task has begun, in their order. */
  #runs: GroupRun[] = [];
  #calls = new Map<number, { resolve: (parents: Parent[]) => void; reject: (error: Error) => void }>();
  #callCount = 0;
  #end!: () => void;

  constructor(port: MessagePort, marks: Marks, clock: Clock, loaded: LoadedHandlers) {
    this.#port = port;
    this.#marks = marks;
    this.#clock = clock;
    this.#loaded = loaded;
    this.closed = new Promise((resolve) => {
      this.#end = resolve;
    });
    port.on('message', (message: ToThread) => this.#receive(message));
    // A handler that ends the thread must not take with it what others have finished.
    process.on('exit', () => this.#reporter?.tell());
  }

  #receive(message: ToThread): void {
    switch (message.type) {
      case 'work':
        this.#work(message.concurrency, message.keyRing);
        return;
      case 'group':
        this.#deliver(readGroup(message));
        return;
      case 'revoke':
        this.#revoke(message.number, message.reason);
        return;
      case 'recalled':
        this.#reporter.recalled(message.last);
        return;
      case 'close':
        this.#close(errorFromJSON(message.reason));
        return;
      case 'parents':
        this.#answered(message.call, message.parents);
        return;
      default:
        throw new Error(`a thread was told ${JSON.stringify(message satisfies never)}`);
    }
  }

  #work(concurrency: number, keyRing: KeyRing | undefined): void {
    this.#reporter = new Reporter(this.#port, this.#marks, this.#clock, concurrency);
    const warn = (details: object, message: string): void => this.#tell({ type: 'warn', details, message });
    this.#runner = new Runner({
      clock: this.#clock,
      consumption: this.#reporter,
      parents: (id) => this.#parents(id),
      handlers: indexHandlers(this.#loaded.handlers),
      concurrency,
      logger: { info: warn, warn, error: warn },
      hooks: undefined,
      tracing: this.#loaded.tracing,
      sealing: keyRing === undefined ? undefined : new Sealing(keyRing),
      gate: this.#reporter,
    });
  }

  #deliver(runs: readonly GroupRun[]): void {
    const waiting = this.#runs.filter(({ first, length }) => !this.#reporter.hasBegun(first + length - 1));
    this.#runs = [...waiting, ...runs];
    for (const run of runs) this.#runner.deliver(run);
  }

  #revoke(number: number, reason: 'cancelled' | 'lease-lost'): void {
    const run =
      (this.#reporter.find(number)?.run as GroupRun | undefined) ??
      this.#runs.find(({ first, length }) => number >= first && number < first + length);
    // What has ended is told already.
    if (run === undefined || (this.#reporter.hasBegun(number) && this.#reporter.find(number) === undefined)) return;
    const index = number - run.first;
    this.#runner.revoke(run, index, reason);
    if (reason === 'lease-lost') this.#reporter.lost(run, index);
  }

  #close(reason: MillraceError): void {
    this.#runner?.stopStarting();
    this.#runner?.abandon(reason);
    void (this.#reporter?.idle() ?? Promise.resolve()).then(() => this.#end());
  }

  #parents(id: string): Promise<Parent[]> {
    return new Promise((resolve, reject) => {
      const call = ++this.#callCount;
      this.#calls.set(call, { resolve, reject });
      this.#tell({ type: 'parents', call, id });
    });
  }

  #answered(call: number, parents: Parent[] | ErrorAsData): void {
    const waiting = this.#calls.get(call);
    this.#calls.delete(call);
    if (Array.isArray(parents)) waiting?.resolve(parents);
    else waiting?.reject(errorFromJSON(parents));
  }

  #tell(message: FromThread): void {
    this.#port.postMessage(message);
  }
}
