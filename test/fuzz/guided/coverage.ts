import { Session } from 'node:inspector';

/** What V8 says of a function that ran: the first range is all of it, the others are blocks that ran another number of times. */
interface FunctionCoverage {
  readonly ranges: readonly { readonly startOffset: number; readonly endOffset: number; readonly count: number }[];
}

interface ScriptCoverage {
  readonly scriptId: string;
  readonly url: string;
  readonly functions: readonly FunctionCoverage[];
}

/** Blocks of one function that were seen not to run, and whether any input made them run. */
interface Known {
  readonly blocks: Map<string, { readonly start: number; readonly end: number; isCovered: boolean }>;
}

/** Which blocks of the program have run at all, over all inputs; by V8's own block coverage, so that nothing is instrumented. */
export class Coverage {
  readonly #session = new Session();
  readonly #matters: (url: string) => boolean;
  readonly #functions = new Map<string, Known>();
  functionCount = 0;
  blockCount = 0;

  constructor(matters: (url: string) => boolean) {
    this.#matters = matters;
    this.#session.connect();
    this.#session.post('Profiler.enable');
    this.#session.post('Profiler.startPreciseCoverage', { callCount: true, detailed: true });
  }

  /** Whether something has run since the last call that had never run before. */
  foundNew(): boolean {
    let isNew = false;
    for (const { scriptId, url, functions } of this.#take()) {
      if (!this.#matters(url)) continue;
      for (const each of functions) if (this.#look(scriptId, each)) isNew = true;
    }
    return isNew;
  }

  #take(): readonly ScriptCoverage[] {
    let result: readonly ScriptCoverage[] = [];
    // A session of one's own thread answers before `post` returns.
    this.#session.post('Profiler.takePreciseCoverage', (error, answer) => {
      if (error !== null) throw error;
      result = answer.result;
    });
    return result;
  }

  #look(scriptId: string, { ranges }: FunctionCoverage): boolean {
    const [whole, ...blocks] = ranges;
    if (whole === undefined || whole.count === 0) return false;
    const name = `${scriptId}:${whole.startOffset}:${whole.endOffset}`;
    let known = this.#functions.get(name);
    const isFirst = known === undefined;
    if (known === undefined) {
      known = { blocks: new Map() };
      this.#functions.set(name, known);
      this.functionCount++;
    }
    const silent = blocks.filter(({ count }) => count === 0);
    for (const { startOffset: start, endOffset: end } of silent) {
      const key = `${start}:${end}`;
      // A block that is told of for the first time ran in each run before, or those would have told of it.
      if (!known.blocks.has(key)) known.blocks.set(key, { start, end, isCovered: !isFirst });
    }
    let isNew = isFirst;
    for (const block of known.blocks.values()) {
      if (
        block.isCovered ||
        silent.some(({ startOffset, endOffset }) => startOffset <= block.start && block.end <= endOffset)
      )
        continue;
      block.isCovered = true;
      this.blockCount++;
      isNew = true;
    }
    return isNew;
  }

  close(): void {
    this.#session.disconnect();
  }
}
