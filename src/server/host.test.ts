import { describe, expect, test } from 'vitest';
import { connectHost, Gate } from '../../test/support/embedded.ts';
import { frame, ScriptedLink } from '../../test/support/scripted-link.ts';
import { PRODUCER } from '../../test/support/scripted-server.ts';
import { ManualClock } from '../../test/twins/manual-clock.ts';
import { MemoryDisk, memoryDirectory } from '../../test/twins/memory-disk.ts';
import { MillraceError } from '../errors.ts';
import { LIMITS } from '../limits.ts';
import { FRAME } from '../protocol/frames.ts';
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

describe('a host with many connections', () => {
  const HELLO = frame(FRAME.HELLO, 1, (writer) => {
    writer.text(JSON.stringify({ protocol: 1, client: 'test', host: 'here', pid: 1, producer: PRODUCER }));
  });

  async function open(
    count: number,
  ): Promise<{ clock: ManualClock; host: Host; links: ScriptedLink[]; said: string[] }> {
    const clock = new ManualClock();
    const said: string[] = [];
    const host = await Host.start({ directory: null, clock, onNotice: (_level, message) => said.push(message) });
    const links = Array.from({ length: count }, () => {
      const link = new ScriptedLink();
      host.accept(link);
      return link;
    });
    return { clock, host, links, said };
  }

  test('cuts off who leaves the most unread when all together leave too much', async () => {
    const { clock, host, links } = await open(12);
    const share = Math.ceil(LIMITS.unsentBytesMax / links.length);
    for (const [index, link] of links.entries()) {
      link.say(HELLO);
      link.bufferedBytes = share - 10_000 + index;
    }
    clock.advance(1000);
    expect(links.some((link) => link.ended)).toBe(false);
    links[7].bufferedBytes = LIMITS.sendBufferBytesEvict;
    clock.advance(1000);
    expect(links.filter((link) => link.ended)).toEqual([links[7]]);
    expect(links[7].lastCode).toBe('TOO_SLOW');
    await host.stop({ timeoutMs: 0 });
  });

  test('cuts off who has begun the largest frame when all together are too much', async () => {
    const MiB = 1024 * 1024;
    const { clock, host, links } = await open(LIMITS.unfinishedFrameBytesMax / (15 * MiB) + 1);
    const begun = Buffer.alloc(15 * MiB);
    begun.writeUInt32LE(LIMITS.frameBytesMax, 0);
    begun[4] = FRAME.ENQUEUE;
    for (const [index, link] of links.entries()) {
      link.say(HELLO);
      link.say(index === 3 ? Buffer.concat([begun, Buffer.alloc(9)]) : begun);
    }
    clock.advance(1000);
    expect(links.filter((link) => link.ended)).toEqual([links[3]]);
    expect(links[3].lastCode).toBe('TOO_SLOW');
    await host.stop({ timeoutMs: 0 });
  });

  test('says once a second for each reason whom it refused', async () => {
    const { clock, host, links, said } = await open(1000);
    for (const link of links.slice(0, 999)) link.say(Buffer.from('SSH-2.0-Go\r\n'));
    links[999].say(Buffer.from('SSH-2.0-OpenSSH_9.6\r\n'));
    expect(said).toEqual([]);
    clock.advance(1000);
    expect(said).toHaveLength(1);
    expect(said[0]).toMatch(/^1000 connections refused \(PROTOCOL\): the last, from scripted: .*SSH/);
    clock.advance(5000);
    expect(said).toHaveLength(1);
    await host.stop({ timeoutMs: 0 });
  });
});

describe('a host with a bound for the connections of each address', () => {
  test('refuses who has as many, lets others in, and has room again when one is gone', async () => {
    const clock = new ManualClock();
    const host = await Host.start({ directory: null, clock, connectionsPerAddressMax: 2 });
    const come = (address: string): ScriptedLink => {
      const link = new ScriptedLink(address);
      host.accept(link);
      return link;
    };
    const links = [come('192.0.2.1'), come('::ffff:192.0.2.1')];
    for (let round = 0; round < 1000; round++) expect(come('192.0.2.1').lastCode).toBe('CONNECTION_LIMIT');
    expect(host.sessionCount).toBe(2);
    links.push(come('192.0.2.2'), come('2001:db8::1'), come('2001:db8::2'));
    expect(come('2001:db8::3').lastError).toMatchObject({
      message: expect.stringMatching(/^2001:db8:0:0::\/64 has 2 .*--connections-per-address-max/),
      details: { address: '2001:db8:0:0::/64', connections: 2, bound: 2 },
    });
    expect(links.some((link) => link.ended)).toBe(false);
    links[0].handler.close(undefined);
    expect(come('192.0.2.1').ended).toBe(false);
    expect(come('192.0.2.1').ended).toBe(true);
    // Those who say nothing lose their place.
    clock.advance(LIMITS.handshakeTimeoutMs + 2000);
    expect(host.sessionCount).toBe(0);
    expect(come('192.0.2.1').ended).toBe(false);
    await host.stop({ timeoutMs: 0 });
  });

  test('counts nobody who is in its own process', async () => {
    const host = await Host.start({ directory: null, connectionsPerAddressMax: 1 });
    const inside = Array.from({ length: 3 }, () => new ScriptedLink('in-process'));
    for (const link of inside) host.acceptInside(link);
    expect(inside.some((link) => link.ended)).toBe(false);
    await host.stop({ timeoutMs: 0 });
  });
});

test.each([
  [{ fsync: 'Always' }, /fsync is "Always"/],
  [{ fsyncIntervalMs: 0 }, /fsyncIntervalMs is 0/],
  [{ timeoutGraceMs: -1e9 }, /timeoutGraceMs is -1000000000/],
  [{ connectionsMax: '5' }, /connectionsMax is "5"/],
  [{ connectionsPerAddressMax: 0 }, /connectionsPerAddressMax is 0/],
  [{ retention: { deadAgeMs: -1 } }, /retention.deadAgeMs is -1/],
])('a host does not start with %j', async (options, message) => {
  await expect(Host.start({ directory: null, ...(options as object) })).rejects.toMatchObject({
    code: 'INVALID_ARGUMENT',
    message: expect.stringMatching(message),
  });
});
