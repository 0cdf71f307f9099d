import type { Client } from '../../src/client/client.ts';
import type { TaskEvents } from '../../src/client/events.ts';
import { formatTaskId } from '../../src/ids.ts';
import { DEFAULTS } from '../../src/limits.ts';
import type { SimProcess } from './process.ts';
import { SimProgram } from './program.ts';
import { Violation } from './scheduler.ts';
import type { EventStream, StreamFilter } from './streams.ts';
import { QUEUES } from './workload.ts';

/** A stream that was closed, or whose client was, has ended by then. */
const END_MS = 1000;
/** They share the room of a link: the more there are, the sooner each has less than it needs. */
const CHATTY_STREAMS = 8;

/** Watches events: some streams at once, each left now and then for another; some are read slowly. */
export class WatcherProgram extends SimProgram {
  #reading = new Set<Promise<void>>();
  #open = new Set<EventStream>();

  protected begin(process: SimProcess, client: Client): void {
    // Those of its last life went with it.
    for (const stream of this.#open) this.world.events.close(stream);
    this.#open = new Set();
    this.#reading = new Set();
    const { chatty } = this.world.options;
    const count = chatty ? CHATTY_STREAMS : this.random.int(1, 4);
    for (let i = 0; i < count; i++) this.#watch(process, client);
    if (chatty) this.#stall(process);
  }

  /** For so long that more waits for its streams than the server keeps. */
  #stall(process: SimProcess): void {
    const { scheduler } = this.world;
    scheduler.schedule(this.random.exponential(15_000), process, 'watcher stalls', () => {
      if (this.world.calm || this.stopping) return;
      process.stalledUntilMs = Math.max(process.stalledUntilMs, scheduler.nowMs + this.random.between(10_000, 40_000));
      this.#stall(process);
    });
  }

  #filter(): StreamFilter {
    const ids = [...this.world.model.tasks.keys()];
    const kind = this.random.weighted({
      all: this.world.options.chatty ? 10 : 1,
      queue: 2,
      task: ids.length > 0 ? 1 : 0,
    });
    if (kind === 'queue') return { queue: this.random.pick(QUEUES) };
    // One that nobody has heard of for long may still be retried.
    return kind === 'task' ? { task: formatTaskId(this.random.pick(ids.slice(-20))) } : {};
  }

  #watch(process: SimProcess, client: Client): void {
    const filter = this.#filter();
    const askedAt = this.world.events.now;
    const opened = this.promises.watch('events', process, DEFAULTS.callTimeoutMs, client.events(filter));
    const read = opened.then(
      (events) => this.#read(process, client, events, this.world.events.open(filter, askedAt)),
      (error: unknown) => {
        this.allow('events', error, ['TIMEOUT', 'CLOSED', 'STOPPING', 'STORAGE_FAILED']);
        this.#later(process, client);
      },
    );
    this.#reading.add(read);
    void read.then(() => this.#reading.delete(read));
  }

  #later(process: SimProcess, client: Client): void {
    process.clock.setTimer(this.random.exponential(500), () => {
      if (!this.stopping) this.#watch(process, client);
    });
  }

  async #read(process: SimProcess, client: Client, events: TaskEvents, stream: EventStream): Promise<void> {
    const { world, random } = this;
    this.#open.add(stream);
    const pauseMeanMs = random.pick([0, 0, 1, 100]);
    const leavesAfter = random.chance(0.3) ? random.int(1, 200) : Number.POSITIVE_INFINITY;
    for (let count = 0; count < leavesAfter || world.calm; count++) {
      const { done, value } = await events.next();
      if (done === true) {
        if (!this.stopping) throw new Violation('stream-ended', `a stream of ${process.name} has ended by itself`);
        break;
      }
      world.events.heard(stream, value);
      if (pauseMeanMs > 0 && !world.calm && !this.stopping) await this.#pause(process, random.exponential(pauseMeanMs));
    }
    this.#open.delete(stream);
    world.events.close(stream);
    if (this.stopping) return;
    await this.promises.watch('the end of events', process, END_MS, events.return());
    const { done } = await this.promises.watch('what follows the end of events', process, END_MS, events.next());
    if (done !== true) throw new Violation('stream-goes-on', `a stream of ${process.name} was left`);
    this.#later(process, client);
  }

  #pause(process: SimProcess, ms: number): Promise<void> {
    return new Promise((resolve) => process.clock.setTimer(ms, resolve));
  }

  /** Closing the client ends its streams. */
  protected override async closed(process: SimProcess): Promise<void> {
    await this.promises.watch('the end of all events', process, END_MS, Promise.all(this.#reading));
  }
}
