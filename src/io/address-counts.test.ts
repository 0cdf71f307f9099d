import { expect, test } from 'vitest';
import { AddressCounts, ownerOf } from './address-counts.ts';

test.each([
  ['127.0.0.1', '127.0.0.1'],
  ['::ffff:203.0.113.7', '203.0.113.7'],
  ['::FFFF:203.0.113.7', '203.0.113.7'],
  ['::1', '::1'],
  ['2001:db8::1', '2001:db8:0:0::/64'],
  ['2001:0DB8:0:0:ffff:1:2:3', '2001:db8:0:0::/64'],
  ['2001:db8:0:1::1', '2001:db8:0:1::/64'],
  ['2001:db8:1:2:3:4:5:6', '2001:db8:1:2::/64'],
  ['1:2:3:4:5::', '1:2:3:4::/64'],
  ['fe80::1%eth0', 'fe80:0:0:0::/64'],
  ['64:ff9b::192.0.2.33', '64:ff9b:0:0::/64'],
  ['in-process', 'in-process'],
])('%s is counted for %s', (address, owner) => {
  expect(ownerOf(address)).toBe(owner);
});

test('an address has no more than it may, and may have another when one has left', () => {
  const counts = new AddressCounts(2);
  const leave = counts.enter('192.0.2.1');
  counts.enter('::ffff:192.0.2.1');
  counts.enter('192.0.2.2');
  expect(() => counts.enter('192.0.2.1')).toThrow(
    expect.objectContaining({
      code: 'CONNECTION_LIMIT',
      message: expect.stringMatching(/^192\.0\.2\.1 has 2 connections .*--connections-per-address-max/),
      details: { address: '192.0.2.1', connections: 2, bound: 2 },
    }),
  );
  leave();
  counts.enter('192.0.2.1');
  expect(() => counts.enter('192.0.2.1')).toThrow('has 2 connections');
});

test('a host with an IPv6 network is one, whichever of its addresses it takes', () => {
  const counts = new AddressCounts(3);
  for (let host = 1; host <= 3; host++) counts.enter(`2001:db8:7:7::${host.toString(16)}`);
  expect(() => counts.enter('2001:db8:7:7:ffff:ffff:ffff:ffff')).toThrow('2001:db8:7:7::/64 has 3 connections');
  counts.enter('2001:db8:7:8::1');
});
