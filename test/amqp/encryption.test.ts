import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { defineTask } from '../../src/index.ts';
import { failure } from '../conformance/events.ts';
import { sharedRabbit } from '../support/services.ts';
import { AmqpScene } from './scene.ts';

const SECRET = 'ada-lovelace-4711';
const AT_ONCE = { type: 'fixed', delayMs: 0, jitter: false } as const;

const rabbit = await sharedRabbit();

describe.skipIf(rabbit === undefined)('with a key ring', () => {
  let scene: AmqpScene;

  beforeEach(async () => {
    if (rabbit !== undefined) scene = await AmqpScene.open(rabbit);
  });

  afterEach(() => scene.close());

  test('a broker sees no payload, and a task runs through attempts to its result as without', async () => {
    const client = await scene.connect({ encryption: { keys: { k1: new Uint8Array(32).fill(7) } } });
    const { id } = await client.enqueue('seen', { secret: SECRET }, { queue: 'seen' });
    const { content } = await scene.get('millrace.seen');
    expect(JSON.parse(content.toString())).toMatchObject({ id, task: 'seen', payloadEncoding: 'base64' });
    expect(Buffer.from(JSON.parse(content.toString()).payload, 'base64').includes(SECRET)).toBe(false);

    const echo = defineTask<{ secret: string }, unknown>('echo', { maxAttempts: 3, backoff: AT_ONCE });
    await client.work([
      echo.handle((input, { attempt }) => {
        if (attempt < 3) throw new Error(SECRET);
        return { input, attempt };
      }),
    ]);
    expect(await (await client.enqueue(echo, { secret: SECRET })).result()).toEqual({
      input: { secret: SECRET },
      attempt: 3,
    });
    const dead = await client.enqueue(echo, { secret: SECRET }, { maxAttempts: 1 });
    const letter = await scene.get('millrace.default.dead');
    expect(JSON.stringify([letter.content.toString(), letter.properties])).not.toContain(SECRET);
    expect((await failure(dead.result())).cause).toMatchObject({ message: SECRET, code: 'HANDLER_FAILED' });
  });

  test('what another program sends without a key is refused', async () => {
    const client = await scene.connect({ encryption: { keys: { k1: new Uint8Array(32).fill(7) } } });
    await client.work({ any: () => 'ran' });
    scene.publish('millrace.default', '{"task": "any", "payload": 1}');
    const letter = await scene.get('millrace.default.dead');
    expect(JSON.stringify(letter.properties.headers)).toContain('NOT_ENCRYPTED');
  });
});
