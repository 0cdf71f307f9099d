import { MillraceError } from '../../errors.ts';
import { type Clock, setPatientTimer, type Timer } from '../../io/clock.ts';
import { LIMITS } from '../../limits.ts';
import type { Republish, Store } from '../store.ts';
import { bodyOf, headOf, payloadFrom, tailOf } from './message.ts';
import type { MessageIds } from './message-ids.ts';
import type { Names } from './names.ts';
import type { Outbound } from './outbound.ts';
import { type Parcel, parcel, takerOf } from './parcel.ts';
import { isNeverTaken, Portion } from './portion.ts';
import { routeTask } from './routes.ts';

/** A queue that has not taken a task in time is given no others for so long: whoever publishes them would wait as well. */
const SLOW_MS = 30_000;
/** What they are logged as, in place of a worker. */
const REFUSALS = 'refusals';
/** A character has three bytes at most. */
const LOG_CHARACTERS_MAX = Math.floor(LIMITS.taskLogLineBytesMax / 3);

type Task = Republish['tasks'][number];

/**
 * Publishes what is in the outbox, and waits for the broker a bounded time: what it has not confirmed then is taken back from
 * the publisher and stays in the outbox, so that one queue in trouble holds up no other.
 */
export class Republishing {
  readonly #clock: Clock;
  readonly #store: Store;
  readonly #ids: MessageIds;
  readonly #names: Names;
  readonly #outbound: Outbound;
  /** Until when, steady time. */
  readonly #slow = new Map<string, number>();

  constructor(options: { clock: Clock; store: Store; ids: MessageIds; names: Names; outbound: Outbound }) {
    this.#clock = options.clock;
    this.#store = options.store;
    this.#ids = options.ids;
    this.#names = options.names;
    this.#outbound = options.outbound;
  }

  /**
   * Never rejects. Resolves within LIMITS.amqpPublishMs: with the first error, if there was one other than that the broker
   * does not take it yet. Tasks that it will never take are cancelled then, and their logs say why.
   */
  publish({ tasks, entries }: Republish): Promise<MillraceError | undefined> {
    return new Promise((resolve) => {
      let timer: Timer | undefined;
      const portion = new Portion(this.#store, { entries }, tasks.length, (first) => {
        timer?.cancel();
        resolve(first);
      });
      const open = new Set<Parcel>();
      const nowMs = this.#clock.wallMs();
      for (const task of tasks) {
        const answered = (error: MillraceError | undefined): void =>
          portion.answered([task.id], error, (refusal) => this.#told(task, refusal));
        const made = this.#parcelOf(task, nowMs, (error) => {
          open.delete(made);
          if (error === undefined) this.#slow.delete(takerOf(made));
          answered(error);
        });
        if (this.#isSlow(takerOf(made))) {
          answered(late());
          continue;
        }
        open.add(made);
        this.#outbound.send(made);
      }
      if (open.size === 0) return;
      timer = setPatientTimer(this.#clock, LIMITS.amqpPublishMs, () => this.#giveUp(open));
      timer.unref();
    });
  }

  #parcelOf(task: Task, nowMs: number, settled: Parcel['settled']): Parcel {
    const { id, spec, payload, headers, attempt, enqueuedAtMs, runAtMs } = task;
    const idText = JSON.stringify(id).slice(1, -1);
    const tail = tailOf(Math.floor(enqueuedAtMs), runAtMs ?? 0, headers);
    const body = bodyOf(headOf(spec, attempt), idText, tail, payloadFrom(payload));
    const route = routeTask(this.#names, spec, runAtMs === undefined ? 0 : runAtMs - nowMs);
    // Whoever enqueued it, if it was one of ours: the queue is gone if he is.
    const client = this.#ids.clientOf(id);
    const replyTo = client === undefined ? undefined : this.#names.reply(client);
    return parcel({ ...route, replyTo }, [body], [id], settled);
  }

  #giveUp(open: ReadonlySet<Parcel>): void {
    const nowMs = this.#clock.steadyMs();
    for (const [target, untilMs] of this.#slow) if (untilMs <= nowMs) this.#slow.delete(target);
    // A broker that is away, or short of memory, says nothing of a queue.
    if (this.#outbound.takes) for (const each of open) this.#slow.set(takerOf(each), nowMs + SLOW_MS);
    this.#outbound.withdraw(new Set(open), late());
  }

  #isSlow(target: string): boolean {
    return (this.#slow.get(target) ?? 0) > this.#clock.steadyMs();
  }

  /** Nobody may be there to be told. */
  #told({ id, attempt }: Task, refusal: MillraceError | undefined): void {
    if (refusal === undefined || !isNeverTaken(refusal)) return;
    const text = `the broker refused it: ${refusal.message}`.slice(0, LOG_CHARACTERS_MAX);
    const line = { atMs: Math.floor(this.#clock.wallMs()), attempt, text };
    this.#store.log(REFUSALS, id, () => ({ lines: [line], dropped: 0 }));
  }
}

function late(): MillraceError {
  const timeoutMs = LIMITS.amqpPublishMs;
  return new MillraceError('TIMEOUT', `the broker did not confirm it within ${timeoutMs} ms`, {
    details: { timeoutMs },
  });
}
