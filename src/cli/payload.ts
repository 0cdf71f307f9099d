import type { TaskInfo } from '../broker/contract.ts';
import { UsageError } from './failure.ts';
import { cut } from './table.ts';
import { formatCount } from './units.ts';

const TEXT_SHOWN_MAX = 2000;

/** Throws UsageError for an argument that is not JSON. */
export function checkJson(payload: string): void {
  try {
    JSON.parse(payload);
  } catch (error) {
    throw new UsageError(`the payload is not JSON: ${(error as Error).message} (text goes in quotes: '"text"')`);
  }
}

/** A payload or a result, as far as it fits a screen. */
export function describeBytes({ encoding, data }: NonNullable<TaskInfo['payload']>): string {
  const rest = data.length - TEXT_SHOWN_MAX;
  const more = rest > 0 ? ` (${formatCount(rest)} more characters: see --json)` : '';
  return `${cut(data, TEXT_SHOWN_MAX)}${more}${encoding === 'base64' ? ' (base64: it is no text)' : ''}`;
}
