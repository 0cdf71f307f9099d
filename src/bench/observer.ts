/** What an open dashboard asks for each second, and Prometheus. */
const PATHS = ['/v1/stats', '/v1/stats/history', '/metrics'];
const INTERVAL_MS = 1000;
const TIMEOUT_MS = 30_000;

/** Looks at a server as its operators do, from this process, until it is stopped. */
export class Observer {
  readonly #url: string;
  #timer: NodeJS.Timeout | undefined;
  #stopped = false;

  constructor(url: string) {
    this.#url = url;
    this.#look();
  }

  stop(): void {
    this.#stopped = true;
    clearTimeout(this.#timer);
  }

  #look(): void {
    this.#timer = setTimeout(() => this.#look(), INTERVAL_MS);
    Promise.all(PATHS.map((path) => this.#get(path))).catch((error: unknown) => {
      // A run that nobody observed must not pass for one; but its server ends before the observer hears of it.
      if (!this.#stopped) throw error;
    });
  }

  async #get(path: string): Promise<void> {
    const response = await fetch(this.#url + path, { signal: AbortSignal.timeout(TIMEOUT_MS) });
    await response.arrayBuffer();
    if (response.status !== 200) throw new Error(`GET ${path} answered ${response.status}`);
  }
}
