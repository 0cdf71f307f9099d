import type { Payload, TaskHeaders } from '../contract.ts';

/** Arrays as PostgreSQL's literals: one text each, in place of the driver's conversion of every element. */
const PLAIN = /^[A-Za-z0-9_.:~-]+$/;

export function textArray(values: readonly (string | null)[]): string {
  let literal = '{';
  for (let index = 0; index < values.length; index++) {
    if (index > 0) literal += ',';
    const value = values[index] as string | null;
    if (value === null) literal += 'NULL';
    else if (PLAIN.test(value) && value.toLowerCase() !== 'null') literal += value;
    else literal += `"${value.replace(/[\\"]/g, '\\$&')}"`;
  }
  return `${literal}}`;
}

export function numberArray(values: readonly (number | null)[]): string {
  let literal = '{';
  for (let index = 0; index < values.length; index++) {
    if (index > 0) literal += ',';
    literal += values[index] ?? 'NULL';
  }
  return `${literal}}`;
}

export function flagArray(values: readonly boolean[]): string {
  return `{${values.map((value) => (value ? 't' : 'f')).join()}}`;
}

/** Many byte strings as one parameter: where each begins (from 1, as SQL counts) and how long it is; null for none. */
export interface Packed {
  readonly bytes: Buffer;
  readonly starts: string;
  readonly lengths: string;
}

export function pack(values: readonly (Payload | undefined)[]): Packed {
  const parts: Uint8Array[] = [];
  const starts: number[] = [];
  const lengths: (number | null)[] = [];
  let length = 0;
  for (const value of values) {
    starts.push(length + 1);
    if (value === undefined) {
      lengths.push(null);
      continue;
    }
    const bytes = typeof value === 'string' ? Buffer.from(value) : value;
    parts.push(bytes);
    lengths.push(bytes.length);
    length += bytes.length;
  }
  return { bytes: Buffer.concat(parts, length), starts: numberArray(starts), lengths: numberArray(lengths) };
}

/** Headers as they are kept: JSON, null for none. */
export function headersText(headers: TaskHeaders | undefined): string | null {
  return headers === undefined ? null : JSON.stringify(headers);
}

/** As a parameter beside others in an `unnest`, which fills up a shorter one with nulls. */
export function headersArray(texts: readonly (string | null)[]): string {
  return texts.some((text) => text !== null) ? textArray(texts) : '{}';
}

export function headersOf(text: unknown): Record<string, string> | undefined {
  return text === null ? undefined : (JSON.parse(text as string) as Record<string, string>);
}

export function bytesOf(payload: Payload): number {
  return typeof payload === 'string' ? Buffer.byteLength(payload) : payload.length;
}

/** The value of a time column as milliseconds since 1970; `column` may be an expression. */
export function msOf(column: string): string {
  return `(extract(epoch FROM ${column}) * 1000)::float8`;
}

/** A parameter or column of milliseconds since 1970 as a time. */
export function timeOf(expression: string): string {
  return `to_timestamp(${expression} / 1000.0)`;
}
