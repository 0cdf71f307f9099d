import type { Clock } from '../../io/clock.ts';
import type { Random } from '../../io/random.ts';

/**
 * Ids that a client gives its tasks: nobody has to be asked, they never repeat, and sorted as text they are in the order
 * of their enqueues. 26 characters, base 36:
 *
 *   ttttttttt cccccccccc nnnnnnn     milliseconds since 1970 · the client, drawn at random · a counter
 */
const TIME_CHARACTERS = 9;
const CLIENT_CHARACTERS = 10;
const COUNT_CHARACTERS = 7;
const CHARACTERS = TIME_CHARACTERS + CLIENT_CHARACTERS + COUNT_CHARACTERS;
const COUNT_MAX = 36 ** COUNT_CHARACTERS;

export class MessageIds {
  readonly #clock: Clock;
  readonly #client: string;
  #lastMs = 0;
  #count = 0;
  #timeText = '';

  constructor(clock: Clock, random: Random) {
    this.#clock = clock;
    this.#client = base36(Number.parseInt(random.hex(6), 16), CLIENT_CHARACTERS);
  }

  /** Part of each id of this client, and of nobody else's. */
  get client(): string {
    return this.#client;
  }

  next(): string {
    const nowMs = this.#clock.wallMs();
    // A clock that is set back must not bring the ids out of their order.
    if (nowMs > this.#lastMs || this.#count >= COUNT_MAX) {
      this.#lastMs = Math.max(nowMs, this.#lastMs + (this.#count >= COUNT_MAX ? 1 : 0));
      this.#timeText = base36(this.#lastMs, TIME_CHARACTERS) + this.#client;
      if (this.#count >= COUNT_MAX) this.#count = 0;
    }
    return this.#timeText + base36(this.#count++, COUNT_CHARACTERS);
  }

  /** Whether this client made the id. */
  isOwn(id: string): boolean {
    return this.clientOf(id) === this.#client;
  }

  /** The client that made the id; undefined when it is another program's. */
  clientOf(id: string): string | undefined {
    if (id.length !== CHARACTERS || !/^[0-9a-z]*$/.test(id)) return undefined;
    return id.slice(TIME_CHARACTERS, TIME_CHARACTERS + CLIENT_CHARACTERS);
  }
}

function base36(value: number, characters: number): string {
  return value.toString(36).padStart(characters, '0');
}
