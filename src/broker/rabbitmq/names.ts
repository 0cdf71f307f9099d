import { createHash } from 'node:crypto';
import { LIMITS } from '../../limits.ts';

/**
 * What is called how on the broker; documented in docs/rabbitmq.md, because other programs publish to these names.
 *
 *   millrace.QUEUE           tasks of priority 4           millrace.QUEUE.dead      dead letters
 *   millrace.QUEUE.high      tasks of priorities 5–9       millrace.QUEUE.suspect   tasks that were with lost workers twice
 *   millrace.QUEUE.low       tasks of priorities 0–3       millrace-reply.CLIENT    ends of a client's tasks
 *   millrace-delay.00 … 30   the delay ladder: an exchange and a queue each; millrace-due gives to QUEUE what has waited
 *
 * Names are percent-encoded, dots too, so that a dot always separates. A dash cannot occur in a prefix.
 */
export type Band = 'high' | 'normal' | 'low';
export const BANDS: readonly Band[] = ['high', 'normal', 'low'];

const HIGH_FROM = 5;
const LOW_TO = 3;

export function bandOf(priority: number): Band {
  if (priority >= HIGH_FROM) return 'high';
  return priority <= LOW_TO ? 'low' : 'normal';
}

/** AMQP names have at most 255 bytes; a routing key of the ladder holds 31 words of one letter before the name. */
const ENCODED_MAX = 140;
const KEPT_CHARACTERS = 100;

const SUFFIX: Readonly<Record<Band, string>> = { high: '.high', normal: '', low: '.low' };

export class Names {
  readonly due: string;
  readonly #prefix: string;
  readonly #encoded = new Map<string, string>();

  constructor(prefix: string) {
    this.#prefix = prefix;
    this.due = `${prefix}-due`;
  }

  band(queue: string, band: Band): string {
    return this.#base(queue) + SUFFIX[band];
  }

  dead(queue: string): string {
    return `${this.#base(queue)}.dead`;
  }

  suspect(queue: string): string {
    return `${this.#base(queue)}.suspect`;
  }

  reply(client: string): string {
    return `${this.#prefix}-reply.${client}`;
  }

  /** Of the exchange and of the queue. */
  delay(level: number): string {
    return `${this.#prefix}-delay.${String(level).padStart(2, '0')}`;
  }

  #base(queue: string): string {
    let encoded = this.#encoded.get(queue);
    if (encoded === undefined) {
      encoded = `${this.#prefix}.${encode(queue)}`;
      if (this.#encoded.size >= LIMITS.queuesMax) this.#encoded.clear();
      this.#encoded.set(queue, encoded);
    }
    return encoded;
  }
}

/** The longest names keep their beginning and get a hash in place of their end. */
function encode(queue: string): string {
  const encoded = encodeURIComponent(queue).replace(/[.~*!'()]/g, percent);
  if (encoded.length <= ENCODED_MAX) return encoded;
  const hash = createHash('sha256').update(queue).digest('hex').slice(0, 32);
  return `${encoded.slice(0, KEPT_CHARACTERS).replace(/%.?$/, '')}~${hash}`;
}

function percent(character: string): string {
  return `%${character.charCodeAt(0).toString(16).toUpperCase()}`;
}
