import { LIMITS } from '../../limits.ts';
import { FRAME } from '../../protocol/frames.ts';
import type { FrameWriter } from '../../protocol/writer.ts';
import type { HeldRun } from './held-run.ts';

interface Remark {
  /** JSON; the last one counts. */
  progress: string | undefined;
  lines: [atMs: number, text: string][];
  dropped: number;
}

/**
 * What handlers have said of their tasks since it was last sent: the last progress of each, and the last lines of its log.
 * A handler may say more in a turn than anyone can send, and there may be no connection: beyond a bound, lines are only
 * counted.
 */
export class Remarks {
  readonly #byRun = new Map<HeldRun, Map<number, Remark>>();
  #bytes = 0;

  get empty(): boolean {
    return this.#byRun.size === 0;
  }

  progress(run: HeldRun, index: number, json: string): void {
    this.#of(run, index).progress = json;
  }

  log(run: HeldRun, index: number, atMs: number, text: string): void {
    const remark = this.#of(run, index);
    if (remark.lines.length >= LIMITS.taskLogLinesMax) {
      this.#bytes -= (remark.lines.shift() as [number, string])[1].length;
      remark.dropped++;
    }
    if (this.#bytes + text.length > LIMITS.unsentLogBytesMax) {
      remark.dropped++;
      return;
    }
    this.#bytes += text.length;
    remark.lines.push([atMs, text]);
  }

  /** Before the settlements of the turn: a server hears of no task that it has had the settlement of. */
  write(writer: FrameWriter): void {
    for (const [run, remarks] of this.#byRun) {
      for (const [index, remark] of remarks) if (!run.isGone(index)) writeRemark(writer, run, index, remark);
    }
    this.clear();
  }

  clear(): void {
    this.#byRun.clear();
    this.#bytes = 0;
  }

  #of(run: HeldRun, index: number): Remark {
    let remarks = this.#byRun.get(run);
    if (remarks === undefined) {
      remarks = new Map();
      this.#byRun.set(run, remarks);
    }
    let remark = remarks.get(index);
    if (remark === undefined) {
      remark = { progress: undefined, lines: [], dropped: 0 };
      remarks.set(index, remark);
    }
    return remark;
  }
}

function writeRemark(writer: FrameWriter, run: HeldRun, index: number, { progress, lines, dropped }: Remark): void {
  const id = run.id(index);
  const token = String(run.token(index));
  if (progress !== undefined) {
    writer.begin(FRAME.PROGRESS, 0);
    writer.text(`{"id":"${id}","token":"${token}","progress":${progress}}`);
    writer.end();
  }
  if (lines.length > 0 || dropped > 0) writer.json(FRAME.LOG, 0, { id, token, lines, dropped });
}
