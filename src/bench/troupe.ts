import { Child, type Role } from './child.ts';
import type { Methods } from './methods.ts';

export interface TroupeSettings {
  /** Aborted when the benchmark is interrupted. */
  signal: AbortSignal;
  /** Where each process writes a CPU profile. */
  profileDirectory: string | undefined;
}

/**
 * The processes of one measurement: they leave in order when it is done, and are killed when it fails or the benchmark is
 * interrupted.
 */
export class Troupe {
  readonly #settings: TroupeSettings;
  readonly #members: { leave: () => Promise<void>; kill: () => Promise<void> }[] = [];

  static async play<T>(settings: TroupeSettings, scene: (troupe: Troupe) => Promise<T>): Promise<T> {
    const { signal } = settings;
    signal.throwIfAborted();
    const troupe = new Troupe(settings);
    const onAbort = (): void => void troupe.#kill();
    signal.addEventListener('abort', onAbort);
    try {
      const result = await scene(troupe);
      await Promise.all(troupe.#members.map((member) => member.leave()));
      return result;
    } catch (error) {
      // What fails when everyone is killed is not the reason.
      signal.throwIfAborted();
      throw error;
    } finally {
      signal.removeEventListener('abort', onAbort);
      await troupe.#kill();
    }
  }

  private constructor(settings: TroupeSettings) {
    this.#settings = settings;
  }

  /** `name` is that of its profile. */
  start<M extends Methods>(role: Role, name: string): Child<M> {
    const { profileDirectory: directory } = this.#settings;
    const child = Child.start<M>(role, directory === undefined ? undefined : { directory, name });
    this.#members.push(child);
    return child;
  }

  async #kill(): Promise<void> {
    await Promise.all(this.#members.map((member) => member.kill()));
  }
}
