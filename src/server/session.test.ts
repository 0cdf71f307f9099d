import { expect, test } from 'vitest';
import { frame, ScriptedLink } from '../../test/support/scripted-link.ts';
import { PRODUCER } from '../../test/support/scripted-server.ts';
import { ManualClock } from '../../test/twins/manual-clock.ts';
import { LIMITS } from '../limits.ts';
import { FRAME } from '../protocol/frames.ts';
import { Host } from './host.ts';

const HELLO = frame(FRAME.HELLO, 1, (writer) => {
  writer.text(JSON.stringify({ protocol: 1, client: 'test', host: 'here', pid: 1, producer: PRODUCER }));
});
const CALL = frame(FRAME.CALL, 2, (writer) => {
  writer.text('{"method":"status"}');
});

test('the time for a frame does not run while the server itself does not read', async () => {
  const clock = new ManualClock();
  const host = await Host.start({ directory: null, clock });
  const link = new ScriptedLink();
  host.accept(link);
  link.say(HELLO);
  link.bufferedBytes = LIMITS.sendBufferBytesMax + 1;
  link.say(CALL.subarray(0, 12));
  expect(link.paused).toBe(true);
  clock.advance(2 * LIMITS.frameTimeoutMs);
  expect(link.ended).toBe(false);
  link.bufferedBytes = 0;
  link.handler.drain();
  expect(link.paused).toBe(false);
  clock.advance(LIMITS.frameTimeoutMs);
  expect(link.ended).toBe(false);
  clock.advance(2000);
  expect(link.ended).toBe(true);
  expect(link.lastCode).toBe('PROTOCOL');
  await host.stop({ timeoutMs: 0 });
});
