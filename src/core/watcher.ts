import type { Kind } from './kind.ts';

/** Someone who is told what becomes of tasks; there is none unless somebody asked. */
export interface CoreWatcher {
  /** The others follow on. */
  enqueued(kind: Kind, firstId: number, count: number, atMs: number): void;
  /** Not for a task whose attempt failed after its cancelling was asked for. Called before it can be forgotten. */
  cancelled(slot: number): void;
}
