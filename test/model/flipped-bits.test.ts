import { expect, test } from 'vitest';
import { Engine, type EngineOptions } from '../../src/engine/engine.ts';
import { MillraceError } from '../../src/errors.ts';
import { ManualClock } from '../twins/manual-clock.ts';
import { MemoryDisk, memoryDirectory } from '../twins/memory-disk.ts';
import { ENGINE_OPTIONS, EngineBench, observe, SPEC } from './engine-bench.ts';

/** `MILLRACE_EVERY_BIT=1` flips each bit, otherwise one of every byte. */
const BITS_OF_A_BYTE = process.env.MILLRACE_EVERY_BIT === '1' ? [0, 1, 2, 3, 4, 5, 6, 7] : undefined;
const SEGMENT = `${memoryDirectory()}/0000000001.segment`;
const REFUSALS = ['JOURNAL_DAMAGED', 'JOURNAL_VERSION'];

/** Tasks in every state, with results and errors, in one small segment. */
async function written(): Promise<EngineBench> {
  const bench = await EngineBench.open();
  const [done, failing, cancelled] = bench.enqueue(['{"n":1}', '{"n":2}', '{"n":3}', '{"n":4}']);
  bench.enqueue(['later'], { ...SPEC, queue: 'other', maxAttempts: 1 }, { kind: 'delay', ms: 50_000 });
  const worker = await bench.addWorker(['q'], 2);
  bench.complete(worker, [{ delivery: worker.take(done), result: '"well"' }]);
  bench.fail(worker, [worker.take(failing)], { final: true, retryDelayMs: undefined });
  bench.engine.commands.cancel(cancelled);
  bench.engine.commands.pauseQueue('other');
  await bench.flush();
  bench.removeWorker(worker, false);
  await bench.flush();
  return bench;
}

/** What a start makes of these bytes: its refusal, or everything that it knows then, with what it had to report. */
async function startedWith(bytes: Buffer, options: Partial<EngineOptions>) {
  const disk = new MemoryDisk();
  disk.put(SEGMENT, bytes);
  try {
    const { engine, report } = await Engine.open({
      ...ENGINE_OPTIONS,
      onFailure: (error) => {
        throw error;
      },
      onNotice: () => {},
      clock: new ManualClock(),
      ...options,
      disk,
    });
    const observed = observe(engine);
    await engine.close();
    return { observed, report };
  } catch (error) {
    if (error instanceof MillraceError) return { refusal: error };
    throw error;
  }
}

test.each([
  ['closed', true],
  ['killed', false],
])(
  'every flipped bit of a server’s journal that was %s is named, or changes nothing',
  async (_how, closed) => {
    const bench = await written();
    if (closed) await bench.engine.close();
    else bench.disk.kill();
    const bytes = Buffer.from(bench.disk.bytes(SEGMENT));
    const usedBytes = bytes.findLastIndex((byte) => byte !== 0) + 1;
    const options = { clock: bench.clock };
    const sound = await startedWith(bytes, options);
    expect(sound.observed?.tasks.size).toBe(5);
    expect(sound.report?.tornBytes).toBe(0);
    const counts = { refused: 0, torn: 0, harmless: 0 };
    for (let at = 0; at < usedBytes + 64; at++) {
      for (const bit of BITS_OF_A_BYTE ?? [at % 8]) {
        const flipped = Buffer.from(bytes);
        flipped[at] ^= 1 << bit;
        const found = await startedWith(flipped, options);
        if (found.refusal !== undefined) {
          expect(REFUSALS).toContain(found.refusal.code);
          expect(found.refusal.message).toContain('0000000001.segment');
          counts.refused++;
        } else if (found.report.tornBytes > 0) counts.torn++;
        else {
          expect(found.observed, `bit ${bit} of byte ${at}`).toEqual(sound.observed);
          counts.harmless++;
        }
      }
    }
    expect(counts.refused).toBeGreaterThan(usedBytes / 2);
  },
  60_000,
);
