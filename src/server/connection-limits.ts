import { openFilesMax } from '../io/open-files.ts';
import { LIMITS } from '../limits.ts';

/** As many connections as are wanted and the process may open: one without a file for it could not even be refused. */
export function connectionLimits(
  wanted: number,
  notice: (message: string) => void,
): { connectionsMax: number; refusedConnectionsMax: number } {
  const filesMax = openFilesMax();
  if (filesMax === undefined) return { connectionsMax: wanted, refusedConnectionsMax: LIMITS.refusedConnectionsMin };
  const possible = Math.max(1, filesMax - LIMITS.openFilesReserved);
  if (possible < wanted) {
    notice(
      `at most ${possible} connections, not ${wanted}: this process may have ${filesMax} files open and keeps ${LIMITS.openFilesReserved} for other things; raise the limit (ulimit -n, LimitNOFILE)`,
    );
  }
  const connectionsMax = Math.min(wanted, possible);
  const left = Math.max(possible - connectionsMax, LIMITS.refusedConnectionsMin);
  return { connectionsMax, refusedConnectionsMax: Math.min(left, LIMITS.refusedConnectionsMax) };
}
