import { USER_TYPE_MIN } from './format.ts';
import type { PageCache } from './page-cache.ts';
import type { JournalRecord } from './record.ts';
import { eachRecord } from './scan.ts';
import type { Segment } from './segment.ts';

/** Visits the user's records up to where the segment ends now. Pages that are not in memory do not enter the cache. */
export async function readSegment(
  segment: Segment,
  cache: PageCache,
  visit: (record: JournalRecord) => void,
  pause: () => Promise<void>,
): Promise<void> {
  const end = segment.end;
  const visitUser = (record: JournalRecord) => {
    if (record.type >= USER_TYPE_MIN) visit(record);
  };
  for (let page = 0; page * segment.pageBytes < end; ) {
    const { first, count } = segment.span(page);
    const base = first * segment.pageBytes;
    const bytes = Math.min(count * segment.pageBytes, end - base);
    const position = { segment: segment.number, base };
    const cached = segment.pages[first];
    if (cached !== undefined) {
      eachRecord(cached.bytes.subarray(0, bytes), position, visitUser);
    } else {
      const fetched = await cache.fetch(segment, first, count);
      eachRecord(fetched.bytes.subarray(0, bytes), position, visitUser);
      cache.retire(fetched);
    }
    page = first + count;
    if (page * segment.pageBytes < end) await pause();
  }
}
