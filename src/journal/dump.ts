import type { Disk } from '../io/disk.ts';
import { whileLocked } from './offline.ts';
import type { ScannedRecord } from './scan.ts';
import { type Damage, type Walk, walk } from './walk.ts';

export interface DumpVisitor {
  /** Every record with its header, the journal's own too. Valid during the callback only. */
  record(record: ScannedRecord): void;
  damage(damage: Damage): void;
  /** Awaited every few MiB, so that a slow reader of the dump is not overrun. */
  pause?(): Promise<void>;
}

/** Shows all that lies in a journal. Throws DIRECTORY_LOCKED while a server runs: dump a backup instead. */
export async function dump(directory: string, disk: Disk, visitor: DumpVisitor): Promise<Walk> {
  return await whileLocked(disk, directory, () =>
    walk(disk, directory, {
      describe: () => '',
      segment: () => {},
      record: (record) => visitor.record(record),
      damage: (damage) => visitor.damage(damage),
      pause: async () => {
        await visitor.pause?.();
      },
    }),
  );
}
