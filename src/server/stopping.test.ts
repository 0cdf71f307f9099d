import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { closeInMemory, openOnDisk } from '../../test/support/embedded.ts';
import { settle, watch } from '../../test/support/scripted-server.ts';
import { ManualClock } from '../../test/twins/manual-clock.ts';
import { MemoryDisk, memoryDirectory } from '../../test/twins/memory-disk.ts';
import { LIMITS } from '../limits.ts';
import { Host } from './host.ts';

const segmentBytes = LIMITS.segmentBytesMin;

describe('stop and close end, and say what was not written,', () => {
  let warnings: Error[];
  const hear = (warning: Error): void => {
    warnings.push(warning);
  };

  beforeEach(() => {
    warnings = [];
    process.on('warning', hear);
  });

  afterEach(() => {
    process.off('warning', hear);
  });

  test('when a write hangs: the directory is free once that is over, not before', async () => {
    const clock = new ManualClock();
    const disk = new MemoryDisk();
    const { client } = await openOnDisk(disk, {}, clock);
    const safe = await client.enqueue('report');
    disk.hold('write');
    const unconfirmed = watch(client.enqueue('report'));
    await disk.held('write');
    await closeInMemory(client, clock);
    await settle();
    expect(await unconfirmed()).toBe('CLOSED');
    expect(warnings).toMatchObject([{ name: 'MillraceWarning', code: 'STORAGE_FAILED' }]);
    expect(warnings[0].message).toContain('are not written');
    await expect(openOnDisk(disk)).rejects.toMatchObject({ code: 'DIRECTORY_LOCKED' });

    disk.release();
    await settle();
    const again = await openOnDisk(disk);
    expect(await again.client.tasks.get(safe.id)).toMatchObject({ state: 'ready' });
    await again.client.close();
    expect(warnings).toHaveLength(1);
  });

  test('when the disk is full', async () => {
    const clock = new ManualClock();
    const disk = new MemoryDisk();
    const { client } = await openOnDisk(disk, { segmentBytes }, clock);
    disk.capacityBytes = 0;
    const payload = 'x'.repeat(100_000);
    const enqueues = Array.from({ length: 30 }, () => watch(client.enqueue('report', payload)));
    await settle();
    await closeInMemory(client, clock);
    await settle();
    for (const state of enqueues) expect(['CLOSED', 'DISK_FULL', 'resolved']).toContain(await state());
    expect(warnings).toMatchObject([{ code: 'DISK_FULL' }]);
  });

  test('when the disk has failed, which all were told: without another word', async () => {
    const disk = new MemoryDisk();
    const { client } = await openOnDisk(disk);
    disk.fail('write', 'EIO', { times: Number.POSITIVE_INFINITY });
    await expect(client.enqueue('report')).rejects.toMatchObject({ code: 'STORAGE_FAILED' });
    await client.close();
    await settle();
    expect(warnings).toEqual([]);
  });

  test('also a server that is asked for the reason', async () => {
    const clock = new ManualClock();
    const disk = new MemoryDisk();
    const host = await Host.start({ directory: memoryDirectory(), clock, disk });
    disk.hold('write');
    host.engine.commands.pauseQueue('any');
    let reason: unknown;
    const stopped = host.stop({ timeoutMs: 0 }).then((unwritten) => {
      reason = unwritten;
    });
    while (reason === undefined) {
      await settle();
      clock.advance(1000);
    }
    await stopped;
    expect(reason).toMatchObject({ code: 'STORAGE_FAILED' });
    expect(clock.timerCount).toBe(0);
  });
});
