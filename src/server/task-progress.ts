import { LIMITS } from '../limits.ts';
import type { Progress } from './messages.ts';

interface Said {
  readonly token: number;
  readonly progress: Progress;
  readonly bytes: number;
}

/** How far the tasks of one worker are, as it said last; of too many what was said first is forgotten. */
export class TaskProgress {
  /** The one that was spoken of last stands at the end. */
  readonly #said = new Map<number, Said>();
  #bytes = 0;

  /** `countMax`: beyond it those go that `isHeld` does not know. */
  add(id: number, said: Said, countMax: number, isHeld: (id: number, token: number) => boolean): void {
    this.#forget(id);
    this.#said.set(id, said);
    this.#bytes += said.bytes;
    for (const oldest of this.#said.keys()) {
      if (this.#bytes <= LIMITS.progressBytesPerConnectionMax) break;
      this.#forget(oldest);
    }
    if (this.#said.size <= countMax) return;
    for (const [known, { token }] of this.#said) if (!isHeld(known, token)) this.#forget(known);
  }

  of(id: number): Said | undefined {
    return this.#said.get(id);
  }

  #forget(id: number): void {
    this.#bytes -= this.#said.get(id)?.bytes ?? 0;
    this.#said.delete(id);
  }
}
