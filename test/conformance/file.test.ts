import { rm } from 'node:fs/promises';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { connect } from '../../src/index.ts';
import { file, temporaryDirectory } from './backends.ts';
import { conformance } from './conformance.ts';
import { failure } from './events.ts';
import { Program } from './program.ts';

conformance(file);

describe('the directory of file:', () => {
  let directory: string;

  beforeEach(async () => {
    directory = await temporaryDirectory();
  });

  afterEach(async () => {
    await rm(directory, { recursive: true });
  });

  test('is shared by the clients of one process, however its path is written', async () => {
    const clients = [await connect(`file:${directory}`), await connect(`file:${directory}/../${baseOf(directory)}`)];
    const task = await clients[0].enqueue('shared', { by: 'both' });
    await clients[1].work({ shared: (input) => input });
    expect(await task.result()).toEqual({ by: 'both' });
    await clients[0].close();
    expect(await clients[1].tasks.get(task.id)).toMatchObject({ state: 'completed' });
    await clients[1].close();
  });

  test('is refused to another process while this one has it, and free afterwards', async () => {
    const client = await connect(`file:${directory}`);
    const refused = Program.start('open-directory', [directory]);
    const [line] = await refused.lines.count(1);
    expect(line).toMatch(/^DIRECTORY_LOCKED: /);
    expect(line).toContain(directory);
    expect(line).toContain(String(process.pid));
    await refused.ended;
    await client.close();
    const allowed = Program.start('open-directory', [directory]);
    expect(await allowed.lines.count(1)).toEqual(['open']);
    await allowed.ended;
  });

  test('can be opened again in the turn in which it was closed', async () => {
    for (let round = 0; round < 5; round++) {
      const client = await connect(`file:${directory}`);
      await client.enqueue('any', round);
      void client.close();
    }
    const last = await connect(`file:${directory}`);
    expect(await last.queue('default').status()).toMatchObject({ ready: 5 });
    await last.close();
  });

  test('is opened with one set of options at a time', async () => {
    const client = await connect(`file:${directory}`, { embedded: { fsync: 'never' } });
    const other = await failure(() => connect(`file:${directory}`, { embedded: { fsync: 'always' } }));
    expect(other.code).toBe('INVALID_ARGUMENT');
    expect(other.message).toContain('fsync');
    await client.close();
  });
});

function baseOf(path: string): string {
  return path.slice(path.lastIndexOf('/') + 1);
}
