import { Agent, get } from 'node:http';

/** What an open dashboard asks for, and Prometheus. */
const EACH_SECOND = ['/v1/stats', '/metrics'];
const EACH_FIVE_SECONDS = [
  ...['/', '/v1/stats/history', '/v1/queues', '/v1/workers', '/v1/schedules', '/v1/dead-groups'],
  ...['/v1/tasks?queue=soak&order=newest&limit=50', '/v1/tasks?state=dead&error=doomed&limit=50'],
];
const TIMEOUT_MS = 30_000;
/** A browser's tab is closed, and another one opened. */
const STREAM_MS = 60_000;

/** Looks at a server over HTTP as its operators do, with a stream of events open, until it is stopped. */
export class Viewer {
  requests = 0;
  events = 0;
  /** That a stream said were missing. */
  dropped = 0;
  readonly failures: string[] = [];
  readonly #url: string;
  /** Its connections are kept, as a browser does, and closed with it. */
  readonly #agent = new Agent({ keepAlive: true });
  #seconds = 0;
  #timer: NodeJS.Timeout | undefined;
  #isStopped = false;
  readonly #leaving = new AbortController();
  readonly #watching: Promise<void>;

  constructor(url: string) {
    this.#url = url;
    this.#look();
    this.#watching = this.#watch();
  }

  async stop(): Promise<void> {
    this.#isStopped = true;
    clearTimeout(this.#timer);
    this.#leaving.abort();
    this.#agent.destroy();
    await this.#watching;
  }

  #look(): void {
    this.#timer = setTimeout(() => this.#look(), 1000);
    const paths = this.#seconds++ % 5 === 0 ? [...EACH_SECOND, ...EACH_FIVE_SECONDS] : EACH_SECOND;
    for (const path of paths) void this.#get(path);
  }

  async #get(path: string): Promise<void> {
    this.requests++;
    try {
      const status = await this.#statusOf(path);
      if (status !== 200) this.failures.push(`GET ${path} answered ${status}`);
    } catch (error) {
      if (!this.#isStopped) this.failures.push(`GET ${path}: ${String(error)}`);
    }
  }

  /** When the answer was read. */
  #statusOf(path: string): Promise<number> {
    return new Promise((resolve, reject) => {
      const request = get(this.#url + path, { agent: this.#agent, timeout: TIMEOUT_MS }, (response) => {
        response.once('end', () => resolve(response.statusCode ?? 0)).once('error', reject);
        response.resume();
      });
      request.once('error', reject);
      request.once('timeout', () => request.destroy(new Error(`nothing came for ${TIMEOUT_MS} ms`)));
    });
  }

  async #watch(): Promise<void> {
    let lastId: string | undefined;
    while (!this.#isStopped) {
      try {
        lastId = await this.#stream(lastId);
      } catch (error) {
        if (!this.#isStopped) this.failures.push(`GET /v1/events: ${String(error)}`);
        return;
      }
    }
  }

  /** Reads for a minute; resolves with where the next one goes on. */
  async #stream(after: string | undefined): Promise<string | undefined> {
    const response = await fetch(`${this.#url}/v1/events?queue=soak`, {
      headers: after === undefined ? {} : { 'last-event-id': after },
      signal: this.#leaving.signal,
    });
    if (response.status !== 200 || response.body === null) throw new Error(`answered ${response.status}`);
    const endMs = performance.now() + STREAM_MS;
    let lastId = after;
    let text = '';
    for await (const chunk of response.body) {
      text += Buffer.from(chunk).toString('latin1');
      const whole = text.lastIndexOf('\n\n');
      if (whole === -1) continue;
      const blocks = text.slice(0, whole);
      text = text.slice(whole + 2);
      this.events += blocks.match(/^data:/gm)?.length ?? 0;
      for (const [, count] of blocks.matchAll(/"type":"dropped","count":(\d+)/g)) this.dropped += Number(count);
      lastId =
        blocks
          .match(/^id: ?(.*)$/gm)
          ?.at(-1)
          ?.replace(/^id: ?/, '') ?? lastId;
      if (performance.now() > endMs) break;
    }
    return lastId;
  }
}
