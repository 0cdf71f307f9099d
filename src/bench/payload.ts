/** What every row sends: JSON of exactly this size, with a running number by which the ledger knows it. */
export const PAYLOAD_BYTES = 100;

/** Keeps the number of digits, and so the size, the same for every task. */
const NUMBER_BASE = 100_000_000;
export const NUMBER_COUNT = 900_000_000;

export interface BenchPayload {
  number: number;
  to: string;
  template: string;
  urgent: boolean;
}

export function buildPayload(index: number): BenchPayload {
  const number = NUMBER_BASE + index;
  return { number, to: 'customer.care@shops.example.org', template: 'order-packed', urgent: false };
}

export function indexOf(payload: { number: number }): number {
  return payload.number - NUMBER_BASE;
}

const DIGITS_START = '{"number":'.length;
const DIGITS_END = DIGITS_START + String(NUMBER_BASE).length;
const DIGIT_ZERO = 48;

/** The same from the payload as it came, without parsing the rest; NaN when no number stands there. */
export function indexIn(bytes: Uint8Array): number {
  let number = 0;
  for (let at = DIGITS_START; at < DIGITS_END; at++) {
    const digit = bytes[at] - DIGIT_ZERO;
    if (!(digit >= 0 && digit <= 9)) return Number.NaN;
    number = number * 10 + digit;
  }
  return number - NUMBER_BASE;
}

/** The same size, with the moment of the call in it (nanoseconds of the machine's monotonic clock). */
export interface TimedPayload {
  number: number;
  calledAtNs: number;
  template: string;
}

const TIMED_FIXED_BYTES = JSON.stringify({ number: NUMBER_BASE, calledAtNs: 0, template: '' }).length - 1;

export function buildTimedPayload(index: number, calledAtNs: number): TimedPayload {
  const padding = PAYLOAD_BYTES - TIMED_FIXED_BYTES - String(calledAtNs).length;
  return { number: NUMBER_BASE + index, calledAtNs, template: 'order-sent'.padEnd(padding, '.') };
}
