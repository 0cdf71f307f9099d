import { type ErrorCode, MillraceError } from '../../errors.ts';
import { LIMITS } from '../../limits.ts';
import type { Payload, TaskError } from '../contract.ts';
import type { Unpublished } from '../store.ts';
import type { HeldTask } from './held-task.ts';
import { copyOf } from './message.ts';
import { parcel } from './parcel.ts';
import { REPLY_TYPE, writeOutcome, writeReply } from './replies.ts';
import { carriedHeaders, deadLetterHeaders, sendTask } from './routes.ts';
import type { Shared } from './shared.ts';

/** How a worker is done with a task. */
export type TaskEnd = { readonly task: HeldTask } & (
  | { readonly kind: 'completed'; readonly result: Payload | undefined }
  | {
      readonly kind: 'failed';
      readonly error: TaskError;
      readonly atMs: number;
      readonly delayMs: number;
      readonly startedAtMs: number;
    }
  /** Without `startedAtMs` no handler ran. */
  | { readonly kind: 'dead'; readonly error: TaskError; readonly atMs: number; readonly startedAtMs?: number }
  | { readonly kind: 'released' }
);

/** Outcomes for one reply queue. */
interface Letter {
  readonly texts: string[];
  readonly ids: string[];
  characters: number;
}

/**
 * What comes before the acknowledgement of a task that has ended: who waits for it is told; a further attempt, or the dead
 * letter, is confirmed by the broker. The ends of one turn for one client are one message.
 */
export class Ends {
  readonly #shared: Shared;
  readonly #done: (task: HeldTask) => void;
  readonly #giveBack: (task: HeldTask) => void;
  readonly #refused: (error: MillraceError) => void;
  readonly #letters = new Map<string, Letter>();

  /** `refused`: the broker will never take what must come before an acknowledgement; the worker cannot go on. */
  constructor(
    shared: Shared,
    done: (task: HeldTask) => void,
    giveBack: (task: HeldTask) => void,
    refused: (error: MillraceError) => void,
  ) {
    this.#shared = shared;
    this.#refused = refused;
    this.#done = done;
    this.#giveBack = giveBack;
  }

  /** `unpublished`: where a store keeps the further attempts until they are published. */
  record(ends: readonly TaskEnd[], unpublished?: Unpublished): void {
    const { store } = this.#shared;
    let left = 0;
    const published = (): void => {
      if (--left === 0 && unpublished !== undefined) store?.published(unpublished);
    };
    for (const end of ends) if (end.kind === 'failed') left++;
    for (const end of ends) this.#one(end, published);
    this.#post();
  }

  /** A cancel was asked for while they ran, and they did not complete. */
  cancelled(ends: readonly TaskEnd[]): void {
    for (const { task } of ends) {
      this.#reply(task, writeOutcome(task.message.id, task.attempt, { state: 'cancelled' }, undefined));
      this.#done(task);
    }
    this.#post();
  }

  /** To the dead letters: whoever looks there finds the task, with the reason. */
  bury(task: HeldTask, error: TaskError, atMs: number): void {
    const { outbound, names } = this.#shared;
    const { message, spec } = task;
    const name = names.dead(spec.queue);
    outbound.send(
      parcel(
        {
          routingKey: name,
          care: 'insist',
          replyTo: message.replyTo,
          correlationId: message.correlationId,
          headers: { ...carriedHeaders(message.headers), ...deadLetterHeaders(error.code, error, atMs) },
          needs: [{ kind: 'queue', name }],
        },
        [copyOf(message, task.attempt)],
        [message.id],
        (failure) => {
          if (failure !== undefined) {
            this.#stuck(task, 'its dead letter', failure);
            return;
          }
          this.#told(task, error);
          this.#post();
        },
      ),
    );
  }

  #one(end: TaskEnd, published: () => void): void {
    const { task } = end;
    switch (end.kind) {
      case 'completed':
        if (task.message.replyTo !== undefined) this.#reply(task, completedText(task, end.result));
        this.#done(task);
        return;
      case 'failed': {
        const body = copyOf(task.message, task.attempt + 1);
        sendTask(this.#shared, task.message, body, end.delayMs, (error) => {
          if (error !== undefined) {
            this.#stuck(task, 'its next attempt', error);
            return;
          }
          published();
          this.#done(task);
        });
        return;
      }
      case 'dead':
        // A store remembers it, and makes it ready again from there.
        if (this.#shared.store !== undefined) this.#told(task, end.error);
        else this.bury(task, end.error, end.atMs);
        return;
      case 'released':
        if (task.suspect) this.#putBack(task);
        else this.#giveBack(task);
        return;
      default:
        end satisfies never;
    }
  }

  #told(task: HeldTask, error: TaskError): void {
    this.#reply(task, writeOutcome(task.message.id, task.attempt, { state: 'dead', error }, undefined));
    this.#done(task);
  }

  /** A suspect that is given back is a new message: the broker would count it as lost. */
  #putBack(task: HeldTask): void {
    const { outbound, names } = this.#shared;
    const { message, spec } = task;
    const name = names.suspect(spec.queue);
    const { replyTo, correlationId } = message;
    const headers = carriedHeaders(message.headers);
    outbound.send(
      parcel(
        { routingKey: name, care: 'insist', replyTo, correlationId, headers, needs: [{ kind: 'suspect', name }] },
        [copyOf(message, task.attempt)],
        [message.id],
        (failure) => {
          if (failure === undefined) this.#done(task);
          else this.#stuck(task, 'what gives it back', failure);
        },
      ),
    );
  }

  /** The broker has the task as long as the worker does not acknowledge it, and gives it to the next when this one ends. */
  #stuck({ message, spec }: HeldTask, what: string, error: MillraceError): void {
    // This client is closed, or has given the broker up: the worker ends with it.
    if (ENDS_OF_CLIENTS.has(error.code)) return;
    const text = `the worker ends: the broker does not take ${what} of task ${message.id} of queue ${spec.queue}, which is with the broker as it was: ${error.message}`;
    this.#refused(new MillraceError(error.code, text, { cause: error, details: error.details }));
  }

  #reply({ message }: HeldTask, text: string): void {
    const { replyTo, correlationId, id } = message;
    if (replyTo === undefined) return;
    if (correlationId !== undefined) {
      this.#send(replyTo, correlationId, [text], id);
      return;
    }
    let letter = this.#letters.get(replyTo);
    if (letter === undefined) {
      letter = { texts: [], ids: [], characters: 0 };
      this.#letters.set(replyTo, letter);
    }
    letter.texts.push(text);
    letter.ids.push(id);
    letter.characters += text.length;
    if (letter.texts.length < LIMITS.amqpReplyOutcomesMax && letter.characters < LIMITS.amqpReplyBytesMax) return;
    this.#letters.delete(replyTo);
    this.#send(replyTo, undefined, letter.texts, id);
  }

  #post(): void {
    for (const [replyTo, { texts, ids }] of this.#letters) this.#send(replyTo, undefined, texts, ids[0] as string);
    this.#letters.clear();
  }

  #send(replyTo: string, correlationId: string | undefined, texts: readonly string[], id: string): void {
    this.#shared.outbound.send(
      parcel({ routingKey: replyTo, type: REPLY_TYPE, correlationId, care: 'drop' }, [writeReply(texts)], [id], () => {
        // A client that is gone needs no answer; the publisher counts it.
      }),
    );
  }
}

export const ENDS_OF_CLIENTS: ReadonlySet<ErrorCode> = new Set<ErrorCode>(['CLOSED', 'DISCONNECTED']);

function completedText({ message, attempt }: HeldTask, result: Payload | undefined): string {
  if (typeof result === 'string') {
    return writeOutcome(message.id, attempt, { state: 'completed', result: undefined }, result);
  }
  return writeOutcome(message.id, attempt, { state: 'completed', result }, undefined);
}
