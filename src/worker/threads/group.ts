import { isAscii } from 'node:buffer';
import type { DeliveryRun, TaskHeaders, TaskSpec } from '../../broker/contract.ts';
import { formatTaskId, parseTaskId } from '../../ids.ts';
import { LIMITS } from '../../limits.ts';
import type { Group, GroupPart } from './messages.ts';

const END_BYTES = Uint32Array.BYTES_PER_ELEMENT;

/** Gathers tasks for one message. */
export class GroupBuilder {
  readonly #parts: GroupPart[] = [];
  readonly #payloads: Uint8Array[] = [];
  #bytes = 0;

  get length(): number {
    return this.#payloads.length;
  }

  /** Whether more is to go into another message. */
  get full(): boolean {
    return this.length >= LIMITS.threadGroupTasksMax || this.#bytes >= LIMITS.threadGroupBytesMax;
  }

  /** Takes at most `count` of the tasks, and the first of them in any case. Returns how many. */
  add(run: DeliveryRun, from: number, count: number, first: number): number {
    const countMax = Math.min(count, LIMITS.threadGroupTasksMax - this.length);
    let headers: Map<number, TaskHeaders> | undefined;
    let length = 0;
    while (length < countMax && (length === 0 || this.#bytes < LIMITS.threadGroupBytesMax)) {
      const payload = run.bytes(from + length);
      this.#payloads.push(payload);
      this.#bytes += payload.length;
      const own = run.headers(from + length);
      if (own !== undefined) {
        headers ??= new Map();
        headers.set(length, own);
      }
      length++;
    }
    const { spec, attempt, enqueuedAtMs } = run;
    this.#parts.push({ spec, attempt, enqueuedAtMs, first, length, ids: idsOf(run, from, length), headers });
    return length;
  }

  /** Nothing can be added after it. */
  build(): Group {
    const count = this.length;
    const block = new ArrayBuffer(count * END_BYTES + this.#bytes);
    const ends = new Uint32Array(block, 0, count);
    const bytes = new Uint8Array(block, count * END_BYTES);
    let end = 0;
    for (let index = 0; index < count; index++) {
      const payload = this.#payloads[index] as Uint8Array;
      bytes.set(payload, end);
      end += payload.length;
      ends[index] = end;
    }
    return { type: 'group', parts: this.#parts, block };
  }
}

/** One is enough where the backend numbers the tasks of a run; else each says its own. */
function idsOf(run: DeliveryRun, from: number, length: number): GroupPart['ids'] {
  const first = run.id(from);
  if (length === 1 || follows(first, length - 1, run.id(from + length - 1))) return first;
  return Array.from({ length }, (_, index) => run.id(from + index));
}

function follows(first: string, distance: number, last: string): boolean {
  try {
    return formatTaskId(parseTaskId(first) + distance) === last;
  } catch {
    return false;
  }
}

/** The parts of a group, as runs for the runner of the thread. */
export function readGroup({ parts, block }: Group): GroupRun[] {
  const count = parts.reduce((sum, { length }) => sum + length, 0);
  const payloads = new Payloads(block, count);
  let index = 0;
  return parts.map((part) => {
    const run = new GroupRun(part, payloads, index);
    index += part.length;
    return run;
  });
}

class Payloads {
  readonly #ends: Uint32Array;
  readonly #bytes: Buffer;
  /** All as one text, when they are ASCII: a part of it costs a quarter of decoding that part. */
  readonly #ascii: string | undefined;

  constructor(block: ArrayBuffer, count: number) {
    this.#ends = new Uint32Array(block, 0, count);
    this.#bytes = Buffer.from(block, count * END_BYTES);
    this.#ascii = count > 1 && isAscii(this.#bytes) ? this.#bytes.toString('latin1') : undefined;
  }

  bytes(index: number): Uint8Array {
    const start = this.#start(index);
    return new Uint8Array(this.#bytes.buffer, this.#bytes.byteOffset + start, this.#end(index) - start);
  }

  text(index: number): string {
    const start = this.#start(index);
    const end = this.#end(index);
    return this.#ascii === undefined ? this.#bytes.toString('utf8', start, end) : this.#ascii.substring(start, end);
  }

  #start(index: number): number {
    return index === 0 ? 0 : (this.#ends[index - 1] as number);
  }

  #end(index: number): number {
    return this.#ends[index] as number;
  }
}

export class GroupRun implements DeliveryRun {
  readonly spec: TaskSpec;
  readonly attempt: number;
  /** The worker has handed it over as such. */
  readonly suspect = false;
  readonly enqueuedAtMs: number;
  readonly length: number;
  /** The number of its first task. */
  readonly first: number;
  readonly #ids: GroupPart['ids'];
  #firstId: number | undefined;
  readonly #headers: GroupPart['headers'];
  readonly #payloads: Payloads;
  /** Of its first task in the group. */
  readonly #index: number;

  constructor(part: GroupPart, payloads: Payloads, index: number) {
    this.spec = part.spec;
    this.attempt = part.attempt;
    this.enqueuedAtMs = part.enqueuedAtMs;
    this.length = part.length;
    this.first = part.first;
    this.#ids = part.ids;
    this.#headers = part.headers;
    this.#payloads = payloads;
    this.#index = index;
  }

  id(index: number): string {
    if (typeof this.#ids !== 'string') return this.#ids[index] as string;
    if (index === 0) return this.#ids;
    this.#firstId ??= parseTaskId(this.#ids);
    return formatTaskId(this.#firstId + index);
  }

  bytes(index: number): Uint8Array {
    return this.#payloads.bytes(this.#index + index);
  }

  text(index: number): string {
    return this.#payloads.text(this.#index + index);
  }

  headers(index: number): TaskHeaders | undefined {
    return this.#headers?.get(index);
  }
}
