import { expect, test } from 'vitest';
import { SPEC } from '../../../test/support/frames.ts';
import { connected, type ScriptedConnection, ScriptedServer, watch } from '../../../test/support/scripted-server.ts';
import { writeConfirm } from '../../protocol/batch.ts';
import { FRAME } from '../../protocol/frames.ts';
import { RESULT_STATE } from '../../protocol/settlement.ts';
import type { Consumer } from '../contract.ts';
import { RemoteBroker } from './remote-broker.ts';

/**
 * An event loop that was busy, or a process that was stopped, for longer than an answer may take finds two things when it goes on:
 * the answer, and that its time is over. The answer counts.
 */
const CONSUMER: Consumer = { deliver: () => {}, revoke: () => {}, connection: () => {}, ended: () => {} };
const FIRST_ID = 2 ** 32;
const BUSY_MS = 60_000;

/** What waits, and how it is answered. */
interface Wait {
  ask(broker: RemoteBroker): Promise<unknown>;
  /** Writes the answer. */
  answer(connection: ScriptedConnection): Promise<void>;
}

const WAITS: Record<string, Wait> = {
  'a call': {
    ask: (broker) => broker.status(),
    answer: async (connection) => {
      const { requestId } = await connection.expect(FRAME.CALL);
      connection.json(FRAME.REPLY, requestId, { queues: [], workers: [] });
    },
  },
  'an enqueue': {
    ask: (broker) => broker.enqueue(SPEC, '1', { kind: 'now' }),
    answer: async (connection) => {
      const { requestId } = await connection.expect(FRAME.ENQUEUE);
      writeConfirm(connection.writer, requestId, 1, FIRST_ID, 1);
    },
  },
  'a result': {
    ask: (broker) => broker.outcome('1-0', { timeoutMs: 1000 }),
    answer: async (connection) => {
      await connection.expect(FRAME.WAIT);
      connection.frame(FRAME.RESULT, 0, (writer) => {
        writer.u64(FIRST_ID);
        writer.u8(RESULT_STATE.COMPLETED_EMPTY);
        writer.u32(0);
      });
    },
  },
  'a stream of events': {
    ask: (broker) => broker.watch({ queue: undefined, task: undefined }, { event: () => {}, ended: () => {} }),
    answer: async (connection) => {
      const { requestId } = await connection.expect(FRAME.WATCH);
      connection.json(FRAME.REPLY, requestId, {});
    },
  },
};

test.each(Object.entries(WAITS))('%s is answered', async (_what, { ask, answer }) => {
  const { server, broker, connection } = await connected();
  const answered = watch(ask(broker));
  await answer(connection);
  server.clock.advance(BUSY_MS);
  expect(await answered()).toBe('resolved');
});

test('a greeting is answered, and a subscription', async () => {
  const server = new ScriptedServer();
  const connecting = RemoteBroker.connect(server.options());
  await server.welcome();
  server.clock.advance(BUSY_MS);
  const broker = await connecting;
  const consuming = watch(broker.consume({ workerName: 'w', queues: ['q'], concurrency: 1, prefetch: 1 }, CONSUMER));
  const connection = await server.welcome();
  const { requestId } = await connection.expectJson(FRAME.SUBSCRIBE);
  connection.json(FRAME.REPLY, requestId, { kept: [], lost: [] });
  server.clock.advance(BUSY_MS);
  expect(await consuming()).toBe('resolved');
  expect(server.dialCount).toBe(2);
});
