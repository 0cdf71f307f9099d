import { FRAME } from '../../protocol/frames.ts';
import { payloadBytesBound } from '../../protocol/payloads.ts';
import { CompletionWriter, ReleaseWriter, writeFailure } from '../../protocol/settlement-writer.ts';
import type { FrameWriter } from '../../protocol/writer.ts';
import type { FailOptions, Payload } from '../contract.ts';
import type { HeldRun } from './held-run.ts';

/** What was settled and not answered, kept in a form from which it can be written again under other tokens. */
interface Completed {
  readonly kind: 'complete';
  readonly run: HeldRun;
  readonly from: number;
  to: number;
  /** One for each task; absent when none of them has a result. */
  readonly results: (Payload | undefined)[] | undefined;
  bytesBound: number;
}

interface Failed {
  readonly kind: 'fail';
  readonly run: HeldRun;
  readonly from: number;
  readonly to: number;
  /** JSON. */
  readonly error: string;
  readonly options: FailOptions;
  readonly bytesBound: number;
}

interface Released {
  readonly kind: 'release';
  readonly run: HeldRun;
  readonly from: number;
  to: number;
  readonly bytesBound: number;
}

export type Settlement = Completed | Failed | Released;

/** A frame's settlements; a frame is ended when it has grown beyond this, long before LIMITS.frameBytesMax. */
const FRAME_BYTES = 1024 * 1024;
const RUN_BYTES = 32;

/** What was settled since the last flush. Consecutive tasks of a run become one entry. */
export class SettlementList {
  #completed: Completed[] = [];
  #others: (Failed | Released)[] = [];

  get empty(): boolean {
    return this.#completed.length === 0 && this.#others.length === 0;
  }

  /** Everything, which the list then no longer holds. */
  take(): Settlement[] {
    const all = [...this.#completed, ...this.#others];
    this.#completed = [];
    this.#others = [];
    return all;
  }

  complete(run: HeldRun, index: number, result: Payload | undefined): void {
    const last = this.#completed.at(-1);
    const follows = last !== undefined && last.run === run && last.to === index;
    if (follows && last.results === undefined && result === undefined) {
      last.to++;
    } else if (follows && last.results !== undefined && last.bytesBound < FRAME_BYTES) {
      last.to++;
      last.results.push(result);
      last.bytesBound += payloadBytesBound(result);
    } else {
      const results = result === undefined ? undefined : [result];
      const bytesBound = RUN_BYTES + (result === undefined ? 0 : payloadBytesBound(result));
      this.#completed.push({ kind: 'complete', run, from: index, to: index + 1, results, bytesBound });
    }
  }

  completeMany(run: HeldRun, from: number, to: number): void {
    const last = this.#completed.at(-1);
    if (last !== undefined && last.run === run && last.to === from && last.results === undefined) last.to = to;
    else this.#completed.push({ kind: 'complete', run, from, to, results: undefined, bytesBound: RUN_BYTES });
  }

  /** `error` is the JSON that `encodeTaskError` gave. */
  fail(run: HeldRun, index: number, error: string, options: FailOptions): void {
    const bytesBound = RUN_BYTES + payloadBytesBound(error);
    this.#others.push({ kind: 'fail', run, from: index, to: index + 1, error, options, bytesBound });
  }

  release(run: HeldRun, index: number): void {
    const last = this.#others.at(-1);
    if (last?.kind === 'release' && last.run === run && last.to === index) last.to++;
    else this.#others.push({ kind: 'release', run, from: index, to: index + 1, bytesBound: RUN_BYTES });
  }
}

/** The frames that settlements need: each is one kind and of bounded size. */
export function groupByFrame(settlements: readonly Settlement[]): Settlement[][] {
  const groups: Settlement[][] = [];
  for (const kind of ['complete', 'fail', 'release'] as const) {
    let group: Settlement[] = [];
    let bytes = 0;
    for (const settlement of settlements) {
      if (settlement.kind !== kind) continue;
      if (group.length === 0 || bytes >= FRAME_BYTES) {
        group = [];
        bytes = 0;
        groups.push(group);
      }
      group.push(settlement);
      bytes += settlement.bytesBound;
    }
  }
  return groups;
}

/** Writes one group as one frame. Only tasks that still wait for their answer are named; false when there are none. */
export function writeGroup(writer: FrameWriter, requestId: number, group: readonly Settlement[]): boolean {
  const [first] = group;
  if (first === undefined) return false;
  writer.begin(FRAME_TYPES[first.kind], requestId);
  const completions = new CompletionWriter(writer);
  const releases = new ReleaseWriter(writer);
  for (const settlement of group) {
    if (settlement.kind === 'complete') writeCompleted(completions, settlement);
    else if (settlement.kind === 'release') forEachSettled(settlement, (id, token) => releases.add(id, token));
    else
      forEachSettled(settlement, (id, token) => writeFailure(writer, id, token, settlement.error, settlement.options));
  }
  completions.finish();
  releases.finish();
  if (writer.bodyBytes > 0) {
    writer.end();
    return true;
  }
  writer.abandon();
  return false;
}

const FRAME_TYPES = { complete: FRAME.COMPLETE, fail: FRAME.FAIL, release: FRAME.RELEASE } as const;

function writeCompleted(writer: CompletionWriter, settlement: Completed): void {
  const { run, from, to, results } = settlement;
  if (run.whole) {
    if (results === undefined) writer.add(run.firstId + from, run.firstToken + from, to - from);
    else writer.addWithResults(run.firstId + from, run.firstToken + from, to - from, results, 0);
    return;
  }
  forEachSettled(settlement, (id, token, index) => {
    if (results === undefined) writer.add(id, token, 1);
    else writer.addWithResults(id, token, 1, results, index - from);
  });
}

function forEachSettled(settlement: Settlement, each: (id: number, token: number, index: number) => void): void {
  const { run, from, to } = settlement;
  for (let index = from; index < to; index++) {
    if (run.isSettled(index)) each(run.firstId + index, run.token(index), index);
  }
}
