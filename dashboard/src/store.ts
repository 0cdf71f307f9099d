import { useEffect, useState } from 'preact/hooks';

/** One value and those who look at it. */
export class Store<T> {
  #value: T;
  readonly #watchers = new Set<() => void>();

  constructor(value: T) {
    this.#value = value;
  }

  get value(): T {
    return this.#value;
  }

  set(value: T): void {
    if (Object.is(value, this.#value)) return;
    this.#value = value;
    for (const watcher of [...this.#watchers]) watcher();
  }

  watch(watcher: () => void): () => void {
    this.#watchers.add(watcher);
    return () => this.#watchers.delete(watcher);
  }
}

/** Renders again whenever it changes. */
export function useStore<T>(store: Store<T>): T {
  const [, again] = useState(0);
  useEffect(() => {
    const seen = store.value;
    const stop = store.watch(() => again((count) => count + 1));
    // It may have changed between the first rendering and now.
    if (!Object.is(seen, store.value)) again((count) => count + 1);
    return stop;
  }, [store]);
  return store.value;
}
