import type { Disk } from '../io/disk.ts';
import { USER_TYPE_MIN } from './format.ts';
import { whileLocked } from './offline.ts';
import type { Describe } from './record.ts';
import { type Damage, type Walk, walk } from './walk.ts';

export interface VerifyReport extends Walk {
  /** Intact records of the journal's user. */
  recordCount: number;
  damage: Damage[];
}

/** Reads everything and names all damage. Throws DIRECTORY_LOCKED while a server runs: verify a backup instead. */
export async function verify(directory: string, disk: Disk, describe: Describe = () => ''): Promise<VerifyReport> {
  return await whileLocked(disk, directory, () => survey(directory, disk, describe));
}

/** The same without the lock. */
export async function survey(directory: string, disk: Disk, describe: Describe): Promise<VerifyReport> {
  const damage: Damage[] = [];
  let recordCount = 0;
  const found = await walk(disk, directory, {
    describe,
    segment: () => {},
    record: (record) => {
      if (record.type >= USER_TYPE_MIN) recordCount++;
    },
    damage: (one) => damage.push(one),
  });
  return { ...found, recordCount, damage };
}
