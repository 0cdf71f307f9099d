import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { SPEC } from '../../../test/support/frames.ts';
import { connected, ScriptedServer, settle, watch } from '../../../test/support/scripted-server.ts';
import { FRAME } from '../../protocol/frames.ts';
import type { Consumer, TaskEvent } from '../contract.ts';
import { RemoteBroker } from './remote-broker.ts';

/** What cannot even be turned into text. */
const ODD = { toString: 1, valueOf: 1 };

const consumer: Consumer = { deliver: () => {}, revoke: () => {}, connection: () => {}, ended: () => {} };

let escaped: unknown[] = [];
const onEscape = (error: unknown): void => {
  escaped.push(error);
};

beforeEach(() => {
  escaped = [];
  process.on('uncaughtException', onEscape).on('unhandledRejection', onEscape);
});

afterEach(() => {
  process.off('uncaughtException', onEscape).off('unhandledRejection', onEscape);
  expect(escaped).toEqual([]);
});

describe('a server that answers nonsense ends a connection, not the process', () => {
  test.each([
    ['no text for a version', { protocol: ODD }, 'PROTOCOL_VERSION'],
    ['no text for a lifeline', { protocol: 1, lifelineKey: ODD }, 'PROTOCOL'],
    ['a lifeline that fits into no HELLO', { protocol: 1, lifelineKey: 'k'.repeat(5000) }, 'PROTOCOL'],
  ])('in its greeting: %s', async (_what, welcome, code) => {
    const server = new ScriptedServer();
    const state = watch(RemoteBroker.connect(server.options({ lifelines: true })));
    const connection = await server.connection();
    connection.json(FRAME.WELCOME, 1, welcome);
    expect(await state()).toBe(code);
  });

  test.each([
    ['nothing', {}],
    ['no list', { firstId: '1-0', existing: 5 }],
    ['no pairs', { firstId: '1-0', existing: [5] }],
    ['no ids', { firstId: '1-0', existing: [[0, ODD]] }],
    ['no first id', { firstId: ODD, existing: [] }],
  ])('to a submission: %s', async (_what, reply) => {
    const { broker, connection } = await connected();
    const unique = { key: 'k', scope: 'unfinished' } as const;
    const state = watch(broker.submit([{ spec: SPEC, payload: '1', when: { kind: 'now' }, dependsOn: [], unique }]));
    const { requestId } = await connection.expect(FRAME.SUBMIT);
    connection.json(FRAME.REPLY, requestId, reply);
    expect(await state()).toBe('PROTOCOL');
  });

  test.each([
    ['nothing', {}],
    ['no list', { kept: 'x' }],
    ['no pairs', { kept: [1, null] }],
    ['a token that is no text', { kept: [['1-0', ODD]] }],
    ['an id that is none', { kept: [[ODD, '1']] }],
  ])('to a worker that has come back: %s', async (_what, reply) => {
    const { server, broker } = await connected();
    let ended = '';
    const options = { workerName: 'w', queues: ['q'], concurrency: 1, prefetch: 1 };
    const consuming = broker.consume(options, {
      ...consumer,
      ended: ({ code }) => {
        ended = code;
      },
    });
    const first = await server.welcome();
    first.json(FRAME.REPLY, (await first.expect(FRAME.SUBSCRIBE)).requestId, {});
    await consuming;
    first.drop();
    const second = await server.reconnect();
    second.json(FRAME.REPLY, (await second.expect(FRAME.SUBSCRIBE)).requestId, reply);
    await settle();
    expect(ended).toBe('PROTOCOL');
  });

  test.each([
    ['nothing', null],
    ['no type', {}],
    ['no id', { type: 'started' }],
    ['a share of a task', { type: 'enqueued', id: '1-0', count: 0.5 }],
    ['tasks without end', { type: 'enqueued', id: '1-0', count: 1e300 }],
    ['fewer than none', { type: 'enqueued', id: '1-0', count: -1 }],
    ['text for a number', { type: 'dropped', count: '2' }],
  ])('as an event: %s', async (_what, event) => {
    const { broker, connection } = await connected();
    const seen: TaskEvent[] = [];
    let ended = '';
    const watcher = {
      event: (each: TaskEvent) => void seen.push(each),
      ended: ({ code }: { code: string }) => {
        ended = code;
      },
    };
    const watching = broker.watch({}, watcher);
    const { requestId } = await connection.expect(FRAME.WATCH);
    connection.json(FRAME.REPLY, requestId, {});
    await watching;
    connection.json(FRAME.EVENTS, requestId, { events: [event] });
    await settle();
    expect({ seen, ended }).toEqual({ seen: [], ended: 'PROTOCOL' });
  });

  const calls: [string, (broker: RemoteBroker) => Promise<unknown>][] = [
    ['task.parents', (broker) => broker.parents('1-0', 0)],
    ['task.list', (broker) => broker.listTasks({})],
    ['task.retryMany', (broker) => broker.retryTasks({ state: 'dead' })],
    ['task.cancelMany', (broker) => broker.cancelTasks({ state: 'ready' })],
    ['task.deadGroups', (broker) => broker.deadGroups({})],
    ['task.cancel', (broker) => broker.cancelTask('1-0')],
    ['queue.purge', (broker) => broker.purgeQueue('q')],
    ['queue.redrive', (broker) => broker.redriveQueue('q')],
    ['status', (broker) => broker.status()],
    ['schedule.list', (broker) => broker.schedules.list()],
    ['schedule.run', (broker) => broker.schedules.runNow('s')],
  ];

  test.each(calls)('to %s, which rejects, and the next call works', async (_method, call) => {
    const { broker, connection } = await connected();
    const nonsense = {
      tasks: 5,
      parents: [null],
      count: 'x',
      groups: {},
      outcome: ODD,
      queues: [1],
      schedules: '',
      id: 7,
    };
    for (const reply of [{}, nonsense]) {
      const state = watch(call(broker));
      connection.json(FRAME.REPLY, (await connection.expect(FRAME.CALL)).requestId, reply);
      expect(await state()).toBe('PROTOCOL');
    }
  });
});
