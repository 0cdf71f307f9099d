import type { TaskEvent } from '../../src/broker/contract.ts';
import { check } from './checkers.ts';
import type { Happening, Place } from './events.ts';

export interface StreamFilter {
  readonly queue?: string;
  readonly task?: string;
}

/**
 * One stream of a client, against what the servers told: where in that it may be. It begins somewhere between its being asked
 * for and its being open, goes on with each event to the next that is its own, over as many as it says were dropped, and after
 * a gap it may be anywhere up to the present. It is in error when it can be nowhere.
 */
export class EventStream {
  readonly #lives: readonly (readonly Happening[])[];
  readonly #filter: StreamFilter;
  #places: readonly Place[];

  constructor(lives: readonly (readonly Happening[])[], filter: StreamFilter, askedAt: Place, openAt: Place) {
    this.#lives = lives;
    this.#filter = filter;
    this.#places = this.#between(askedAt, openAt);
  }

  heard(event: TaskEvent, now: Place): void {
    const before = this.#places;
    if (event.type === 'dropped') {
      const { count } = event;
      this.#places =
        count === null ? this.#between(first(before), now) : before.flatMap((place) => this.#over(place, count) ?? []);
    } else {
      const text = JSON.stringify(event);
      this.#places = before.flatMap((place) => {
        const at = this.#next(place);
        return at !== undefined && this.#lives[place.life]?.[at]?.text === text ? { life: place.life, at: at + 1 } : [];
      });
    }
    if (this.#places.length > 0) return;
    const [place] = before;
    const at = place && this.#next(place);
    const next = place && at !== undefined ? this.#lives[place.life]?.[at]?.text : 'nothing';
    const where = before.length === 1 ? `${next} was to come` : `none of ${before.length} places fits`;
    check(
      false,
      'event-missing',
      `a stream of ${JSON.stringify(this.#filter)} was told ${JSON.stringify(event)}; ${where}`,
    );
  }

  /** What it has not been told, though it happened before. */
  behind(now: Place): string | undefined {
    const isThere = this.#places.some((place) => place.life === now.life && this.#next(place) === undefined);
    return isThere ? undefined : `a stream of ${JSON.stringify(this.#filter)} is at ${JSON.stringify(this.#places[0])}`;
  }

  /** The next of its own at or after a place. */
  #next({ life, at }: Place): number | undefined {
    const told = this.#lives[life] ?? [];
    const { queue, task } = this.#filter;
    for (let index = at; index < told.length; index++) {
      const { event } = told[index] as Happening;
      if ((queue === undefined || event.queue === queue) && (task === undefined || event.id === task)) return index;
    }
    return undefined;
  }

  #over(place: Place, count: number): Place | undefined {
    let { at } = place;
    for (let left = count; left > 0; left--) {
      const next = this.#next({ life: place.life, at });
      if (next === undefined) return undefined;
      at = next + 1;
    }
    return { life: place.life, at };
  }

  /** Each of its own from one place to another, in all lives, and the end. */
  #between(from: Place, to: Place): Place[] {
    const places: Place[] = [];
    for (let life = Math.max(0, from.life); life <= to.life; life++) {
      const end = life === to.life ? to.at : (this.#lives[life]?.length ?? 0);
      let at = life === from.life ? from.at : 0;
      for (let next = this.#next({ life, at }); next !== undefined && next < end; next = this.#next({ life, at })) {
        places.push({ life, at: next });
        at = next + 1;
      }
      places.push({ life, at: end });
    }
    return places;
  }
}

function first(places: readonly Place[]): Place {
  return places.reduce((a, b) => (a.life < b.life || (a.life === b.life && a.at < b.at) ? a : b));
}
