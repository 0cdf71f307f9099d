import type { MessagePort } from 'node:worker_threads';
import type { TaskError, TaskHeaders, TaskSpec } from '../../broker/contract.ts';
import type { MillraceError } from '../../errors.ts';
import type { KeyRing } from '../../sealing/key-ring.ts';
import type { Parent } from '../../task/handler.ts';
import type { HandlerKind } from '../options.ts';

/**
 * What a worker and one of its threads say to each other. Tasks of a thread are numbered in the order in which they are handed
 * over, from 1: these numbers are meant by `number` and `first`.
 *
 *   worker                                thread
 *     Session ───────────────────────────▶  loads the module
 *     ◀─────────────── ready | refused ───
 *     work ───────────────────────────────▶
 *     group … ────────────────────────────▶  runs them
 *     ◀──────────────────────── report … ──  when it has nothing else to do, and from time to time
 *     revoke, recalled ───────────────────▶
 *     ◀────────────────── parents, warn ──
 *     close ──────────────────────────────▶  aborts what runs; ends its session when that has ended
 */
export interface Session {
  readonly url: string;
  readonly port: MessagePort;
  /** See `Marks`. */
  readonly marks: SharedArrayBuffer;
  /** See `ThreadClock`. */
  readonly clockBaseMs: number;
}

export type ToThread =
  | { readonly type: 'work'; readonly concurrency: number; readonly keyRing: KeyRing | undefined }
  | Group
  | { readonly type: 'revoke'; readonly number: number; readonly reason: 'cancelled' | 'lease-lost' }
  /** Of the tasks up to this one, those that have not begun are to be forgotten. */
  | { readonly type: 'recalled'; readonly last: number }
  | { readonly type: 'close'; readonly reason: ErrorAsData }
  | { readonly type: 'parents'; readonly call: number; readonly parents: Parent[] | ErrorAsData };

export type FromThread =
  | { readonly type: 'ready'; readonly handlers: readonly HandlerKind[] }
  | { readonly type: 'refused'; readonly error: ErrorAsData }
  | Report
  | { readonly type: 'parents'; readonly call: number; readonly id: string }
  | { readonly type: 'warn'; readonly details: object; readonly message: string };

/** Tasks that are handed over together. */
export interface Group {
  readonly type: 'group';
  readonly parts: readonly GroupPart[];
  /** Where each payload ends in what follows, u32 each, then the payloads. */
  readonly block: ArrayBuffer;
}

/** Consecutive tasks of one run. */
export interface GroupPart {
  readonly spec: TaskSpec;
  readonly attempt: number;
  readonly enqueuedAtMs: number;
  readonly first: number;
  readonly length: number;
  /** Of the first when the others follow it, else of each. */
  readonly ids: string | readonly string[];
  /** By index in the part; undefined when there are none. */
  readonly headers: ReadonlyMap<number, TaskHeaders> | undefined;
}

/** What became of tasks since the last report. */
export interface Report {
  readonly type: 'report';
  /** The last task whose handler was called, and has returned or is named in `entered`. */
  readonly returned: number;
  /** `from, to` (not included) of tasks that completed without a result, one pair after the other. */
  readonly completed: readonly number[];
  readonly results: TextResults | undefined;
  readonly byteResults: readonly { readonly number: number; readonly bytes: Uint8Array }[];
  readonly failed: readonly FailedTask[];
  readonly released: readonly number[];
  /** Handlers that did not end at once and run still … */
  readonly entered: readonly EnteredAttempt[];
  /** … and those of them that have ended, by the number of the first task. */
  readonly ended: readonly number[];
  /** Since then it knows what was taken back: it may be given tasks again. */
  readonly recallAccepted: boolean;
  /** Tasks that did not begin, or ended before they were named in `entered`, because their lease was lost. */
  readonly dropped: readonly number[];
  readonly remarks: readonly Remark[];
  /** How long tasks took, by name. */
  readonly costs: readonly Cost[];
}

/** JSON of results: of each its task's number, after `base`, and where it ends in the text. */
export interface TextResults {
  readonly base: number;
  readonly ends: Uint32Array;
  readonly text: string;
}

export interface FailedTask {
  readonly number: number;
  readonly error: TaskError;
  readonly final: boolean;
  readonly retryDelayMs: number | undefined;
  readonly startedMs: number;
}

export interface EnteredAttempt {
  readonly first: number;
  readonly length: number;
  readonly startedMs: number;
}

export interface Remark {
  readonly number: number;
  readonly kind: 'progress' | 'log';
  readonly text: string;
}

export interface Cost {
  readonly name: string;
  readonly tasks: number;
  readonly ms: number;
}

export type ErrorAsData = ReturnType<MillraceError['toJSON']>;
