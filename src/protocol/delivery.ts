import { isAscii } from 'node:buffer';
import type { DeliveryRun, TaskHeaders, TaskSpec } from '../broker/contract.ts';
import { formatTaskId } from '../ids.ts';
import { LIMITS } from '../limits.ts';
import { malformed, readF64, readU16, readU32, readU64, writeU32 } from './bytes.ts';
import { decodeSpec } from './spec.ts';
import { checkPacked, hasHeaders, taskBytes, unpackHeaders } from './task-headers.ts';
import type { FrameWriter } from './writer.ts';

/** DELIVER: what the server writes before a run's tasks, and the runs as the client reads them. */
const RUN_FIXED_BYTES = 36;
/** Beside the attempt, which is never so high. */
const SUSPECT = 0x8000;

/** What a run has in common; its tasks, `u32 length, bytes` each (see task-headers.ts) and `byteLength` bytes in all, follow it. */
export interface RunHeader {
  firstId: number;
  firstToken: number;
  count: number;
  attempt: number;
  suspect: boolean;
  enqueuedAtMs: number;
  byteLength: number;
}

/** Appends a run's header to a DELIVER frame. */
export function writeRunHeader(writer: FrameWriter, run: RunHeader, spec: Uint8Array): void {
  writer.u64(run.firstId);
  writer.u64(run.firstToken);
  writer.u32(run.count);
  writer.u16(run.suspect ? run.attempt | SUSPECT : run.attempt);
  writer.f64(run.enqueuedAtMs);
  writer.u16(spec.length);
  writer.bytes(spec);
  writer.u32(run.byteLength);
}

/** Reads DELIVER frames of one connection, as objects of the given class. */
export class DeliveryReader<Run extends WireRun> {
  readonly #runClass: RunClass<Run>;
  /** Specs by their bytes: a worker meets few, and equal ones become one object. */
  readonly #specs = new Map<string, TaskSpec>();

  constructor(runClass: RunClass<Run>) {
    this.#runClass = runClass;
  }

  /** The body is copied once; the runs stay valid when the frame's buffer is used again. Throws PROTOCOL. */
  read(buffer: Buffer, start: number, end: number): Run[] {
    const body = Buffer.allocUnsafeSlow(end - start);
    buffer.copy(body, 0, start, end);
    const runs: Run[] = [];
    let offset = 0;
    while (offset < body.length) {
      const run = this.#run(body, offset);
      runs.push(run);
      offset = run.endOffset;
    }
    return runs;
  }

  #run(body: Buffer, offset: number): Run {
    const end = body.length;
    if (end - offset < RUN_FIXED_BYTES - 4) throw malformed('DELIVER ends inside a run’s header');
    const specStart = offset + 32;
    const specEnd = specStart + readU16(body, offset + 30);
    if (specEnd + 4 > end) throw malformed('DELIVER ends inside a run’s header');
    const tasksStart = specEnd + 4;
    const tasksEnd = tasksStart + readU32(body, specEnd);
    if (tasksEnd > end) throw malformed('DELIVER ends inside a run’s tasks');
    return new this.#runClass(body, offset, this.#spec(body, specStart, specEnd), tasksStart, tasksEnd);
  }

  #spec(body: Buffer, start: number, end: number): TaskSpec {
    const key = body.toString('latin1', start, end);
    let spec = this.#specs.get(key);
    if (spec === undefined) {
      spec = decodeSpec(body, start, end);
      if (this.#specs.size >= SPECS_KEPT) this.#specs.clear();
      this.#specs.set(key, spec);
    }
    return spec;
  }
}

type RunClass<Run> = new (body: Buffer, start: number, spec: TaskSpec, tasksStart: number, tasksEnd: number) => Run;

const SPECS_KEPT = 10_000;

/** A run as it came over the wire. Owns its part of the body. */
export class WireRun implements DeliveryRun {
  readonly spec: TaskSpec;
  readonly attempt: number;
  readonly suspect: boolean;
  readonly enqueuedAtMs: number;
  readonly length: number;
  readonly firstId: number;
  readonly firstToken: number;
  readonly endOffset: number;
  readonly #body: Buffer;
  readonly #tasksStart: number;
  /** Where each task ends; a run of one needs no list. */
  #ends: Uint32Array | undefined;
  /** Where payloads behind headers begin; 0 for one without. Undefined when no task has headers. */
  #payloads: Uint32Array | undefined;
  /** All tasks as one text, when they are ASCII: a part of it costs a quarter of decoding that part. */
  #ascii: string | undefined;
  #asciiTried = false;

  constructor(body: Buffer, start: number, spec: TaskSpec, tasksStart: number, tasksEnd: number) {
    this.spec = spec;
    this.firstId = readU64(body, start);
    this.firstToken = readU64(body, start + 8);
    this.length = readU32(body, start + 16);
    const attempt = readU16(body, start + 20);
    this.attempt = attempt & ~SUSPECT;
    this.suspect = (attempt & SUSPECT) !== 0;
    this.enqueuedAtMs = readF64(body, start + 22);
    this.endOffset = tasksEnd;
    this.#body = body;
    this.#tasksStart = tasksStart;
    this.#index(tasksEnd);
  }

  id(index: number): string {
    return formatTaskId(this.firstId + index);
  }

  headers(index: number): TaskHeaders | undefined {
    const hasHeaders = this.#payloads !== undefined && this.#payloads[index] > 0;
    return hasHeaders ? unpackHeaders(this.#body, this.#start(index)) : undefined;
  }

  bytes(index: number): Uint8Array {
    const start = this.#payloadStart(index);
    return new Uint8Array(this.#body.buffer, this.#body.byteOffset + start, this.#end(index) - start);
  }

  text(index: number): string {
    const start = this.#payloadStart(index);
    const end = this.#end(index);
    if (!this.#asciiTried) this.#tryAscii();
    if (this.#ascii === undefined) return this.#body.toString('utf8', start, end);
    return this.#ascii.substring(start - this.#tasksStart, end - this.#tasksStart);
  }

  #payloadStart(index: number): number {
    return this.#payloads?.[index] || this.#start(index);
  }

  /** Behind the length. */
  #start(index: number): number {
    return (index === 0 ? this.#tasksStart : (this.#ends as Uint32Array)[index - 1]) + 4;
  }

  #end(index: number): number {
    return this.#ends === undefined ? this.endOffset : this.#ends[index];
  }

  /** Throws PROTOCOL. */
  #index(end: number): void {
    const count = this.length;
    if (count === 0 || count > LIMITS.batchTasksMax) {
      throw malformed(`a run of ${count} tasks; allowed are 1 to ${LIMITS.batchTasksMax}`);
    }
    const body = this.#body;
    const ends = count === 1 ? undefined : new Uint32Array(count);
    let offset = this.#tasksStart;
    for (let index = 0; index < count; index++) {
      if (end - offset < 4) throw malformed(`task ${index} of a run of ${count} is not there`);
      const taskEnd = offset + 4 + taskBytes(body, offset);
      if (hasHeaders(body, offset)) {
        this.#payloads ??= new Uint32Array(count);
        this.#payloads[index] = checkPacked(body, offset + 4, Math.min(taskEnd, end), index);
      }
      offset = taskEnd;
      if (ends !== undefined) ends[index] = offset;
    }
    const bytes = offset - this.#tasksStart;
    if (offset !== end) {
      throw malformed(`${count} tasks take ${bytes} bytes, their run says ${end - this.#tasksStart}`);
    }
    this.#ends = ends;
  }

  #tryAscii(): void {
    this.#asciiTried = true;
    if (this.#ends === undefined) return;
    // The lengths were read; as bytes above 0x7F they would hide that the rest is ASCII.
    for (let index = 0; index < this.length; index++) writeU32(this.#body, this.#start(index) - 4, 0);
    if (!isAscii(this.#body.subarray(this.#tasksStart, this.endOffset))) return;
    this.#ascii = this.#body.toString('latin1', this.#tasksStart, this.endOffset);
  }
}
