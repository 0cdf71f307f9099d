import type { ServerResponse } from 'node:http';
import type { HttpBindings } from '@hono/node-server';
import type { Context } from 'hono';
import type { Grant } from '../access/grant.ts';
import { beyondBound } from '../access/share.ts';
import type { Clock, Timer } from '../io/clock.ts';
import { LIMITS } from '../limits.ts';
import type { HttpEnv } from './context.ts';

export interface AnswerBounds {
  /** See LIMITS.httpUnsentBytesMax. */
  readonly unsentBytesMax: number;
  /** See LIMITS.httpAnswerMs. */
  readonly answerMs: number;
}

interface Answer {
  readonly grant: Grant;
  readonly outgoing: ServerResponse;
  /** When it was first seen to be made and not sent, in steady time. */
  wholeAtMs: number | undefined;
}

const SWEEP_MS = 1000;

/**
 * Answers that the system has not taken yet, for clients that do not read. One counts whole until all of it was taken, as it is
 * held until then. Once a second those are cut off that hold too much, and those that were given their time.
 */
export class Answers {
  readonly #clock: Clock;
  readonly #bounds: AnswerBounds;
  readonly #onCutOff: (message: string) => void;
  readonly #open = new Set<Answer>();
  #sweep: Timer | undefined;

  constructor(clock: Clock, onCutOff: (message: string) => void, bounds: Partial<AnswerBounds> = {}) {
    this.#clock = clock;
    this.#onCutOff = onCutOff;
    this.#bounds = { unsentBytesMax: LIMITS.httpUnsentBytesMax, answerMs: LIMITS.httpAnswerMs, ...bounds };
  }

  add(c: Context<HttpEnv>): void {
    const outgoing = outgoingOf(c);
    if (outgoing === undefined || outgoing.destroyed) return;
    const answer = { grant: c.get('grant'), outgoing, wholeAtMs: undefined };
    this.#open.add(answer);
    outgoing.once('close', () => this.#open.delete(answer));
    this.#scheduleSweep();
  }

  /** Only while there are any. */
  #scheduleSweep(): void {
    if (this.#sweep !== undefined || this.#open.size === 0) return;
    this.#sweep = this.#clock.setTimer(SWEEP_MS, () => {
      this.#sweep = undefined;
      this.#cutOff(this.#late(), `they did not read an answer within ${this.#bounds.answerMs} ms`);
      const { unsentBytesMax } = this.#bounds;
      const { sum, largest } = beyondBound(this.#open, unsentBytesMax, ({ outgoing }) => outgoing.writableLength);
      this.#cutOff(
        largest,
        `of ${sum} bytes of answers that were unread, at most ${unsentBytesMax} are allowed, they had the most`,
      );
      this.#scheduleSweep();
    });
    this.#sweep.unref();
  }

  #late(): Answer[] {
    const nowMs = this.#clock.steadyMs();
    return [...this.#open].filter((answer) => {
      if (!answer.outgoing.writableEnded) return false;
      answer.wholeAtMs ??= nowMs;
      return nowMs - answer.wholeAtMs > this.#bounds.answerMs;
    });
  }

  #cutOff(answers: readonly Answer[], reason: string): void {
    if (answers.length === 0) return;
    for (const { outgoing } of answers) outgoing.destroy();
    const who = answers.length === 1 ? '1 connection over HTTP was' : `${answers.length} connections over HTTP were`;
    this.#onCutOff(`${who} cut off: ${reason}`);
  }
}

/** Calls back once the answer was sent, or nobody is left who would get it; of a stream, which has bounds of its own, at once. */
export function onAnswered(c: Context<HttpEnv>, callback: () => void): void {
  const outgoing = outgoingOf(c);
  if (outgoing === undefined || outgoing.destroyed || c.get('isStream')) callback();
  else outgoing.once('close', callback);
}

function outgoingOf({ env }: Context<HttpEnv>): ServerResponse | undefined {
  return (env as Partial<HttpBindings> | undefined)?.outgoing as ServerResponse | undefined;
}
