/** Numbers, lengths of time, sizes and times as people read them, in their own language's digits and separators. */
const WHOLE = new Intl.NumberFormat(undefined, { maximumFractionDigits: 0 });
const TENTHS = new Intl.NumberFormat(undefined, { minimumFractionDigits: 1, maximumFractionDigits: 1 });
const AT_MOST_TENTHS = new Intl.NumberFormat(undefined, { maximumFractionDigits: 1 });
const AT_MOST_HUNDREDTHS = new Intl.NumberFormat(undefined, { maximumFractionDigits: 2 });
const COMPACT = new Intl.NumberFormat('en', { notation: 'compact', maximumFractionDigits: 1 });
const SHARE = new Intl.NumberFormat(undefined, { style: 'percent', maximumFractionDigits: 0 });

export const count = (value: number): string => WHOLE.format(value);
/** For axes and places with little room: 12K. */
export const compact = (value: number): string => COMPACT.format(value);
export const share = (value: number): string => SHARE.format(value);

/** Per second. */
export function rate(value: number): string {
  return value === 0 || value >= 10 ? WHOLE.format(value) : TENTHS.format(value);
}

export function plural(value: number, one: string, many = `${one}s`): string {
  return `${count(value)} ${value === 1 ? one : many}`;
}

const SECOND = 1000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

/** The two largest units that matter: 0.17 ms, 4.2 s, 3 min 20 s, 2 d 4 h. */
export function duration(ms: number): string {
  const length = Math.max(0, ms);
  if (length === 0) return '0 ms';
  if (length < 10) return `${AT_MOST_HUNDREDTHS.format(length)} ms`;
  if (length < SECOND) return `${WHOLE.format(length)} ms`;
  if (length < 10 * SECOND) return `${AT_MOST_TENTHS.format(length / SECOND)} s`;
  const seconds = Math.floor(length / SECOND);
  if (length < MINUTE) return `${seconds} s`;
  if (length < HOUR) return both(Math.floor(seconds / 60), 'min', seconds % 60, 's');
  const minutes = Math.floor(seconds / 60);
  if (length < DAY) return both(Math.floor(minutes / 60), 'h', minutes % 60, 'min');
  const hours = Math.floor(minutes / 60);
  return both(Math.floor(hours / 24), 'd', hours % 24, 'h');
}

function both(large: number, unit: string, small: number, smallUnit: string): string {
  return small === 0 ? `${count(large)} ${unit}` : `${count(large)} ${unit} ${small} ${smallUnit}`;
}

const BYTE_UNITS = ['KiB', 'MiB', 'GiB', 'TiB'];

export function bytes(value: number): string {
  if (value < 1024) return plural(value, 'byte');
  let size = value / 1024;
  let unit = 0;
  while (size >= 1024 && unit < BYTE_UNITS.length - 1) {
    size /= 1024;
    unit += 1;
  }
  return `${size < 10 ? TENTHS.format(size) : WHOLE.format(size)} ${BYTE_UNITS[unit]}`;
}

const CLOCK = new Intl.DateTimeFormat(undefined, {
  hour: '2-digit',
  minute: '2-digit',
  second: '2-digit',
  hourCycle: 'h23',
});
const DATE_CLOCK = new Intl.DateTimeFormat(undefined, {
  year: 'numeric',
  month: 'short',
  day: 'numeric',
  hour: '2-digit',
  minute: '2-digit',
  second: '2-digit',
  hourCycle: 'h23',
});

/** In the viewer's zone; today only the clock. */
export function time(atMs: number, nowMs = Date.now()): string {
  const isToday = new Date(atMs).toDateString() === new Date(nowMs).toDateString();
  return (isToday ? CLOCK : DATE_CLOCK).format(atMs);
}

/** For the hover: 2026-11-28 20:51:41.123 UTC. */
export function utc(atMs: number): string {
  return `${new Date(atMs).toISOString().replace('T', ' ').replace('Z', '')} UTC`;
}

export function ago(atMs: number, nowMs = Date.now()): string {
  const ms = nowMs - atMs;
  if (Math.abs(ms) < SECOND) return 'now';
  const whole = Math.floor(Math.abs(ms) / SECOND) * SECOND;
  return ms < 0 ? `in ${duration(whole)}` : `${duration(whole)} ago`;
}
