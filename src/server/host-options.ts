import { checkFsyncPolicy } from '../journal/journal.ts';
import { checkInteger, LIMITS, parseRetention } from '../limits.ts';
import type { HostOptions } from './host.ts';

const CONNECTIONS_MAX = 65_536;

/** Throws INVALID_ARGUMENT for a value that is no setting of a server. Sizes of the journal are the journal's matter. */
export function checkHostOptions(options: HostOptions): void {
  const { fsync, fsyncIntervalMs, retention, timeoutGraceMs, lostGraceMs } = options;
  const { connectionsMax, connectionsPerAddressMax } = options;
  if (fsync !== undefined) checkFsyncPolicy(fsync);
  if (fsyncIntervalMs !== undefined) checkInteger('fsyncIntervalMs', fsyncIntervalMs, 1, LIMITS.fsyncIntervalMsMax);
  if (retention !== undefined) parseRetention(retention);
  if (timeoutGraceMs !== undefined) checkInteger('timeoutGraceMs', timeoutGraceMs, 0, LIMITS.timeoutMsMax);
  if (lostGraceMs !== undefined) checkInteger('lostGraceMs', lostGraceMs, 0, LIMITS.timeoutMsMax);
  if (connectionsMax !== undefined) checkInteger('connectionsMax', connectionsMax, 1, CONNECTIONS_MAX);
  if (connectionsPerAddressMax !== undefined) {
    checkInteger('connectionsPerAddressMax', connectionsPerAddressMax, 1, CONNECTIONS_MAX);
  }
}
