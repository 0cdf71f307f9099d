import { useEffect, useMemo } from 'preact/hooks';
import { Store, useStore } from '../store.ts';
import { ApiError, get } from './client.ts';

/**
 * Asking again and again. `live` → `paused` by the switch in the head; → `gone` when the server does not answer, with longer
 * and longer pauses; hidden tabs ask nothing. One state for the page, since one server answers it all.
 */
export interface Connection {
  state: 'connecting' | 'live' | 'paused' | 'gone';
  /** Of `gone`. */
  error?: ApiError;
  sinceMs: number;
}

export const connection = new Store<Connection>({ state: 'connecting', sinceMs: Date.now() });

const BACKOFF_MS = [1000, 2000, 4000, 8000, 15_000];

const pollers = new Set<Poller<unknown>>();

function told(error?: ApiError): void {
  const { state } = connection.value;
  if (state === 'paused') return;
  if (error?.isOutage) {
    if (state !== 'gone') connection.set({ state: 'gone', error, sinceMs: Date.now() });
  } else if (state !== 'live') {
    connection.set({ state: 'live', sinceMs: Date.now() });
    if (state === 'gone') refreshAll();
  }
}

export function setPaused(paused: boolean): void {
  connection.set({ state: paused ? 'paused' : 'connecting', sinceMs: Date.now() });
  if (!paused) refreshAll();
}

/** Asks for everything that is shown at once. */
export function refreshAll(): void {
  for (const poller of pollers) poller.refresh();
}

document.addEventListener('visibilitychange', () => {
  if (!document.hidden) refreshAll();
});

export interface Polled<T> {
  data: T | undefined;
  /** Why the last attempt brought nothing; what is in `data` is older then. */
  error: ApiError | undefined;
  atMs: number;
}

/** Milliseconds from one question to the next, or those by what was answered; 0 asks once. */
type Pace<T> = number | ((data: T) => number);

/** One address, asked while somebody looks at it. */
export class Poller<T> extends Store<Polled<T>> {
  readonly #path: string;
  readonly #pace: Pace<T>;
  #users = 0;
  #failures = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #asking: AbortController | undefined;

  constructor(path: string, pace: Pace<T>) {
    super({ data: undefined, error: undefined, atMs: 0 });
    this.#path = path;
    this.#pace = pace;
  }

  start(): () => void {
    this.#users += 1;
    if (this.#users === 1) {
      pollers.add(this as Poller<unknown>);
      this.refresh();
    }
    return () => {
      this.#users -= 1;
      if (this.#users > 0) return;
      pollers.delete(this as Poller<unknown>);
      clearTimeout(this.#timer);
      this.#asking?.abort();
      this.#asking = undefined;
    };
  }

  refresh(): void {
    clearTimeout(this.#timer);
    if (this.#asking === undefined && this.#users > 0) void this.#ask();
  }

  async #ask(): Promise<void> {
    const asking = new AbortController();
    this.#asking = asking;
    const startedMs = performance.now();
    try {
      const data = await get<T>(this.#path, asking.signal);
      if (asking.signal.aborted) return;
      this.#asking = undefined;
      this.#failures = 0;
      this.set({ data, error: undefined, atMs: Date.now() });
      told();
    } catch (error) {
      if (asking.signal.aborted) return;
      this.#asking = undefined;
      if (!(error instanceof ApiError)) throw error;
      this.#failures += 1;
      this.set({ ...this.value, error });
      told(error);
    }
    this.#plan(performance.now() - startedMs);
  }

  #plan(tookMs: number): void {
    const { data, error } = this.value;
    const intervalMs = typeof this.#pace === 'number' ? this.#pace : data === undefined ? 0 : this.#pace(data);
    if (intervalMs === 0 && !error?.isOutage) return;
    const pauseMs =
      error === undefined
        ? Math.max(intervalMs - tookMs, intervalMs / 4)
        : (BACKOFF_MS[Math.min(this.#failures, BACKOFF_MS.length) - 1] ?? 0);
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      if (document.hidden || connection.value.state === 'paused') return;
      this.refresh();
    }, pauseMs);
  }
}

export function usePoller<T>(poller: Poller<T>): Polled<T> {
  useEffect(() => poller.start(), [poller]);
  return useStore(poller);
}

/** Asks for `path` while the component is there. */
export function usePoll<T>(path: string, pace: Pace<T>): Polled<T> & { refresh: () => void } {
  const poller = useMemo(() => new Poller<T>(path, pace), [path, pace]);
  const polled = usePoller(poller);
  return { ...polled, refresh: () => poller.refresh() };
}
