import { expect, test } from 'vitest';
import { openOnDisk } from '../../../test/support/embedded.ts';
import { MemoryDisk } from '../../../test/twins/memory-disk.ts';

test('when the disk fails, everything that waits, everything later and the workers end with STORAGE_FAILED', async () => {
  const disk = new MemoryDisk();
  const { client } = await openOnDisk(disk);
  const worker = await client.work({ other: () => 1 }, { queues: ['other'] });
  const known = await client.enqueue('report');
  disk.fail('write', 'EIO', { times: Number.POSITIVE_INFINITY });
  const pending = [client.enqueue('report'), known.result({ timeoutMs: 600_000 }), known.cancel()];
  const codes = await Promise.allSettled(pending);
  expect(codes.map((settled) => (settled as PromiseRejectedResult).reason.code)).toEqual([
    'STORAGE_FAILED',
    'STORAGE_FAILED',
    'STORAGE_FAILED',
  ]);
  expect(await worker.ended).toMatchObject({ code: 'STORAGE_FAILED' });
  const failed = { code: 'STORAGE_FAILED' };
  await expect(client.enqueue('report')).rejects.toMatchObject(failed);
  await expect(known.result()).rejects.toMatchObject(failed);
  await expect(client.status()).rejects.toMatchObject(failed);
  await expect(client.work({ report: () => 1 })).rejects.toMatchObject(failed);
  await client.close();
});

test('a directory whose disk failed can be opened again while clients of the failed one are still there', async () => {
  const disk = new MemoryDisk();
  const first = await openOnDisk(disk);
  const kept = await first.client.enqueue('report');
  disk.fail('write', 'EIO', { times: Number.POSITIVE_INFINITY });
  await expect(first.client.enqueue('report')).rejects.toMatchObject({ code: 'STORAGE_FAILED' });
  disk.heal();
  const second = await openOnDisk(disk);
  expect(await second.client.tasks.get(kept.id)).toMatchObject({ state: 'ready' });
  await first.client.close();
  expect(await second.client.tasks.get(kept.id)).toMatchObject({ state: 'ready' });
  await second.client.close();
});
