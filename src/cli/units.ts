/** Numbers as people read them. */

export function formatCount(count: number): string {
  return Math.round(count)
    .toString()
    .replaceAll(/\B(?=(\d{3})+$)/g, ',');
}

/** Digits that matter: 0.4, 12, 1,234, 56.1 k, 1.2 M. */
export function formatRate(perSecond: number): string {
  if (perSecond >= 999_500) return `${(perSecond / 1e6).toFixed(2)} M/s`;
  if (perSecond >= 9999.5) return `${(perSecond / 1000).toFixed(1)} k/s`;
  return `${perSecond > 0 && perSecond < 9.95 ? perSecond.toFixed(1) : formatCount(perSecond)}/s`;
}

const BYTE_UNITS = ['KiB', 'MiB', 'GiB', 'TiB'];

export function formatBytes(bytes: number): string {
  if (bytes < 1024) return `${bytes} B`;
  let value = bytes / 1024;
  let unit = 0;
  while (value >= 1023.95 && unit < BYTE_UNITS.length - 1) {
    value /= 1024;
    unit++;
  }
  return `${value < 99.95 ? value.toFixed(1) : Math.round(value)} ${BYTE_UNITS[unit]}`;
}

const SECOND = 1000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

/** Two units at most: 0.21 ms, 340 ms, 4.2 s, 3 min 20 s, 2 h 5 min, 14 d. */
export function formatDuration(ms: number): string {
  if (ms === 0) return '0 ms';
  if (ms < 9.995) return `${ms.toFixed(2)} ms`;
  if (ms < 99.95) return `${ms.toFixed(1)} ms`;
  if (ms < 999.5) return `${Math.round(ms)} ms`;
  if (ms < 59_950) return `${Number((ms / SECOND).toFixed(1))} s`;
  if (ms < HOUR) return twoUnits(ms, MINUTE, 'min', SECOND, 's');
  if (ms < DAY) return twoUnits(ms, HOUR, 'h', MINUTE, 'min');
  return twoUnits(ms, DAY, 'd', HOUR, 'h');
}

/** `p50 0.21, p95 1.2, p99 3.4 ms`: one unit, so that they compare. */
export function formatPercentiles({ p50, p95, p99 }: { p50: number; p95: number; p99: number }): string {
  const [divisor, unit] = p99 < SECOND ? [1, 'ms'] : [SECOND, 's'];
  const [first, second, third] = [p50, p95, p99].map((ms) => threeDigits(ms / divisor));
  return `p50 ${first}, p95 ${second}, p99 ${third} ${unit}`;
}

function threeDigits(value: number): string {
  return value >= 999.5 ? formatCount(value) : String(Number(value < 10 ? value.toFixed(2) : value.toPrecision(3)));
}

function twoUnits(ms: number, big: number, bigName: string, small: number, smallName: string): string {
  const smalls = Math.round(ms / small);
  const rest = smalls % (big / small);
  const bigs = `${formatCount((smalls - rest) / (big / small))} ${bigName}`;
  return rest === 0 ? bigs : `${bigs} ${rest} ${smallName}`;
}

/** 0.934 is 93 %. */
export function formatShare(share: number): string {
  return `${Math.round(share * 100)} %`;
}

/** Local time with its date: 2026-08-01 14:03:22. */
export function formatTime(ms: number): string {
  const date = new Date(ms);
  const day = [date.getFullYear(), pad(date.getMonth() + 1), pad(date.getDate())].join('-');
  return `${day} ${formatClock(date)}`;
}

export function formatClock(date: Date): string {
  return [date.getHours(), date.getMinutes(), date.getSeconds()].map(pad).join(':');
}

function pad(number: number): string {
  return String(number).padStart(2, '0');
}

export function formatBar(share: number, width: number): string {
  const filled = Math.round(Math.min(1, Math.max(0, share)) * width);
  return '█'.repeat(filled) + '░'.repeat(width - filled);
}

/** "1 task", "2 tasks". */
export function plural(count: number, singular: string, many = `${singular}s`): string {
  return `${formatCount(count)} ${count === 1 ? singular : many}`;
}
