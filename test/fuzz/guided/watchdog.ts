import { writeFileSync } from 'node:fs';
import { isMainThread, Worker, workerData } from 'node:worker_threads';

/**
 * An input that never ends keeps its thread from saying so. Another one looks at the clock, writes the input to a file and ends
 * the process.
 */
const HANG_MS = 10_000;
const LOOK_MS = 1000;
const INPUT_BYTES_MAX = 64 * 1024;

interface Shared {
  /** How many inputs have begun, and the length of the one that runs; 0 while none does. */
  readonly state: Int32Array;
  readonly input: Uint8Array;
  readonly path: string;
}

export class Watchdog {
  readonly #worker: Worker;
  readonly #state: Int32Array;
  readonly #input: Uint8Array;

  constructor(path: string) {
    this.#state = new Int32Array(new SharedArrayBuffer(8));
    this.#input = new Uint8Array(new SharedArrayBuffer(INPUT_BYTES_MAX));
    const shared: Shared = { state: this.#state, input: this.#input, path };
    this.#worker = new Worker(new URL(import.meta.url), { workerData: shared });
    this.#worker.unref();
  }

  begin(input: Buffer): void {
    this.#input.set(input.subarray(0, INPUT_BYTES_MAX));
    this.#state[1] = input.length;
    this.#state[0] = ((this.#state[0] ?? 0) + 1) | 0;
  }

  end(): void {
    this.#state[1] = 0;
  }

  async stop(): Promise<void> {
    await this.#worker.terminate();
  }
}

function watch({ state, input, path }: Shared): void {
  let seen = -1;
  let sinceMs = performance.now();
  setInterval(() => {
    const [count = 0, length = 0] = state;
    if (count !== seen || length === 0) {
      seen = count;
      sinceMs = performance.now();
    } else if (performance.now() - sinceMs > HANG_MS) {
      writeFileSync(path, input.slice(0, length));
      console.error(`an input has taken ${HANG_MS} ms; it is in ${path}`);
      process.kill(process.pid, 'SIGKILL');
    }
  }, LOOK_MS);
}

if (!isMainThread && workerData !== null) watch(workerData as Shared);
