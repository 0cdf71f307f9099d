import { clearTimeout, setImmediate, setTimeout } from 'node:timers';

/** The event loop itself, also where a test framework has put timers of its own in place of the global ones. */
export const eventLoop = {
  /** Runs `callback` after the input that is there has been read. */
  afterInput(callback: () => void): void {
    setImmediate(callback);
  },

  /** Resolves after the promise reactions that are due. */
  reactions(): Promise<void> {
    return new Promise((resolve) => {
      process.nextTick(resolve);
    });
  },

  /** Resolves after everything that can run now has run. */
  turn(): Promise<void> {
    return new Promise((resolve) => {
      setImmediate(resolve);
    });
  },

  /** Resolves after so much real time. */
  pause(ms: number): Promise<void> {
    return new Promise((resolve) => {
      setTimeout(resolve, ms);
    });
  },

  /** Runs `callback` after so much real time, unless what it returns is called before. */
  after(ms: number, callback: () => void): () => void {
    const handle = setTimeout(callback, ms);
    return () => clearTimeout(handle);
  },
};
