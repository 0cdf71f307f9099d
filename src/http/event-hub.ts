import type { Grant } from '../access/grant.ts';
import { Pool } from '../access/share.ts';
import type { Broker, EventFilter, TaskEvent, Watcher } from '../broker/contract.ts';
import { MillraceError } from '../errors.ts';
import type { Clock, Timer } from '../io/clock.ts';
import type { Random } from '../io/random.ts';
import { LIMITS } from '../limits.ts';
import { EventRing } from './event-ring.ts';
import { EventStream, type StreamOwner } from './event-stream.ts';

const EPOCH_BYTES = 6;

/**
 * One watch of the backend for all streams.
 *
 *   idle ──first stream──▶ watching ──last stream ended, a minute passed──▶ idle
 *                             └── the backend ended it: so end the streams ──▶ idle
 *
 * While it watches, the last events are kept. Who comes back within its time goes on where it was; after that the ids have
 * another epoch, and it is told that it does not know what it missed.
 */
export class EventHub {
  readonly #broker: Broker;
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #shown: (event: TaskEvent) => TaskEvent;
  #watch: Promise<Watch> | undefined;
  readonly #pool = new Pool(LIMITS.eventStreamsMax);
  #isStopped = false;

  /** `shown`: what may be seen of an event. */
  constructor(broker: Broker, io: { clock: Clock; random: Random }, shown: (event: TaskEvent) => TaskEvent) {
    this.#broker = broker;
    this.#clock = io.clock;
    this.#random = io.random;
    this.#shown = shown;
  }

  /** Rejects with BUFFER_FULL, STOPPING, UNSUPPORTED, and what else the backend says. */
  async open(filter: EventFilter, grant: Grant, lastEventId: string | undefined): Promise<EventStream> {
    if (this.#isStopped) throw new MillraceError('STOPPING', 'the server is stopping: come back in a while');
    const shortage = this.#pool.shortage(grant);
    if (shortage !== undefined) {
      const { bound, by } = shortage;
      const message = `${bound} event streams are open${by}, as many as may be: close some, or come back in a while`;
      throw new MillraceError('BUFFER_FULL', message, { details: { bound } });
    }
    this.#pool.take(grant);
    try {
      this.#watch ??= this.#begin();
      const watch = await this.#watch;
      return watch.open(filter, lastEventId, () => this.#pool.give(grant));
    } catch (error) {
      this.#pool.give(grant);
      throw error;
    }
  }

  /** All streams end, also one that is being opened. */
  stop(): void {
    this.#isStopped = true;
    this.#watch?.then(
      (watch) => watch.close(),
      // Whoever wanted to open a stream was told.
      () => {},
    );
  }

  #begin(): Promise<Watch> {
    const watch = new Watch(this.#clock, this.#random.hex(EPOCH_BYTES), this.#shown, () => {
      if (this.#watch === began) this.#watch = undefined;
    });
    const began = this.#broker.watch({}, watch).then(
      (end) => watch.begun(end),
      (error: unknown) => {
        if (this.#watch === began) this.#watch = undefined;
        throw error;
      },
    );
    return began;
  }
}

class Watch implements Watcher, StreamOwner {
  readonly ring = new EventRing();
  readonly epoch: string;
  readonly #clock: Clock;
  readonly #shown: (event: TaskEvent) => TaskEvent;
  readonly #onClosed: () => void;
  readonly #streams = new Map<EventStream, () => void>();
  #end: (() => void) | undefined;
  #isClosed = false;
  #isWaking = false;
  #heartbeat: Timer | undefined;
  #idle: Timer | undefined;

  constructor(clock: Clock, epoch: string, shown: (event: TaskEvent) => TaskEvent, onClosed: () => void) {
    this.#clock = clock;
    this.epoch = epoch;
    this.#shown = shown;
    this.#onClosed = onClosed;
  }

  begun(end: () => void): this {
    this.#end = end;
    if (this.#isClosed) end();
    else this.#beat();
    return this;
  }

  open(filter: EventFilter, lastEventId: string | undefined, onLeft: () => void): EventStream {
    this.#idle?.cancel();
    const stream = new EventStream(this, filter, lastEventId);
    if (this.#isClosed) {
      onLeft();
      stream.end();
      return stream;
    }
    this.#streams.set(stream, onLeft);
    this.ring.readers.add(stream);
    return stream;
  }

  left(stream: EventStream): void {
    this.ring.readers.delete(stream);
    this.#streams.get(stream)?.();
    this.#streams.delete(stream);
    if (this.#streams.size > 0 || this.#isClosed) return;
    this.#idle = this.#clock.setTimer(LIMITS.eventRingIdleMs, () => this.close());
    this.#idle.unref();
  }

  event(event: TaskEvent, count: number): void {
    this.ring.add(this.#shown(event), count);
    if (this.#isWaking) return;
    this.#isWaking = true;
    this.#clock.defer(() => {
      this.#isWaking = false;
      for (const stream of this.#streams.keys()) stream.wake();
    });
  }

  ended(_error: MillraceError): void {
    this.#end = undefined;
    this.close();
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#onClosed();
    this.#heartbeat?.cancel();
    this.#idle?.cancel();
    for (const stream of [...this.#streams.keys()]) stream.end();
    this.#end?.();
  }

  #beat(): void {
    this.#heartbeat = this.#clock.setTimer(LIMITS.eventHeartbeatMs, () => {
      for (const stream of this.#streams.keys()) stream.beat();
      this.#beat();
    });
    this.#heartbeat.unref();
  }
}
