import { describe, expect, test } from 'vitest';
import { connectHost, Gate } from '../../test/support/embedded.ts';
import { MemoryDisk, memoryDirectory } from '../../test/twins/memory-disk.ts';
import { MillraceError } from '../errors.ts';
import { Host } from './host.ts';

const FAILED = { code: 'STORAGE_FAILED' };

describe.each([
  { where: 'on disk', directory: memoryDirectory() },
  { where: 'in memory', directory: null },
])('a host $where that fails', ({ directory }) => {
  test('ends its connections, whatever they hold and wait for, and throws nothing', async () => {
    const disk = new MemoryDisk();
    const told: MillraceError[] = [];
    const host = await Host.start({ directory, disk, onFailure: (error) => told.push(error) });
    const client = await connectHost(host);
    const [running, scheduled] = [
      await client.enqueue('report'),
      await client.enqueue('report', null, { delayMs: 60_000 }),
    ];
    const begun = new Gate();
    const worker = await client.work({
      report: () => {
        begun.open();
        return new Promise(() => {});
      },
    });
    await begun.opened;
    expect(await running.cancel()).toBe('requested');
    const results = [running.result({ timeoutMs: 600_000 }), scheduled.result({ timeoutMs: 600_000 })];
    disk.fail('write', 'EIO', { times: Number.POSITIVE_INFINITY });
    results.push(scheduled.cancel());
    // In memory nothing is written; what else may fail reports itself in the same way.
    if (directory === null) host.engine.fail(new MillraceError('STORAGE_FAILED', 'a test said so'));
    const ended = await Promise.allSettled(results);
    for (const one of ended.slice(0, 2)) expect(one).toMatchObject({ status: 'rejected', reason: FAILED });
    expect(await worker.ended).toMatchObject(FAILED);
    expect(told).toMatchObject([FAILED]);
    expect(host.sessionCount).toBe(0);
    await expect(connectHost(host)).rejects.toMatchObject(FAILED);
    await host.stop({ timeoutMs: 0 });
    await client.close();
  });
});
