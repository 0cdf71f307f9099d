import type { TaskEvent } from '../../src/broker/contract.ts';
import type { Engine } from '../../src/engine/engine.ts';
import { parseTaskId } from '../../src/ids.ts';
import { EnqueueReader, readConfirm, WHEN } from '../../src/protocol/batch.ts';
import { readU32 } from '../../src/protocol/bytes.ts';
import { DeliveryReader, WireRun } from '../../src/protocol/delivery.ts';
import { FRAME, FrameReader, readJson } from '../../src/protocol/frames.ts';
import {
  CompletionReader,
  FailureReader,
  RESULT_STATE,
  REVOKE_REASON,
  ReleaseReader,
  readIds,
  readResults,
  readRevocations,
} from '../../src/protocol/settlement.ts';
import { decodeSpec } from '../../src/protocol/spec.ts';
import { parseRelations, splitSubmission } from '../../src/protocol/submission.ts';
import type { Checkers } from './checkers.ts';
import type { LinkTap } from './link.ts';
import type { SessionFacts } from './model.ts';

/** What the keys of tasks begin with that a schedule enqueues: its name follows. */
export const FIRED = '@';

const WHEN_KINDS = { [WHEN.NOW]: 'now', [WHEN.DELAY]: 'delay', [WHEN.AT]: 'at' } as const;

/** The key that the workload put into a payload. */
export function keyOf(payload: string): string {
  return (JSON.parse(payload) as { k: string }).k;
}

/** Reads along at the server's end of one link and tells the checkers what was said. */
export class ServerTap implements LinkTap {
  readonly #checkers: Checkers;
  readonly #engine: Engine;
  readonly #session: SessionFacts;
  readonly #in = new FrameReader((type, requestId, buffer, start, end) =>
    this.#received(type, requestId, buffer, start, end),
  );
  readonly #out = new FrameReader((type, requestId, buffer, start, end) =>
    this.#sent(type, requestId, buffer, start, end),
  );
  readonly #deliveries = new DeliveryReader(WireRun);
  #subscribeId = 0;

  constructor(checkers: Checkers, engine: Engine, name: string) {
    this.#checkers = checkers;
    this.#engine = engine;
    this.#session = checkers.model.openSession(name);
  }

  received(bytes: Buffer): void {
    this.#in.push(bytes);
  }

  sent(bytes: Uint8Array): void {
    // A copy: the reader keeps what it has not understood yet, and the buffer is used again.
    this.#out.push(Buffer.from(bytes));
  }

  closed(): void {
    this.#checkers.sessionClosed(this.#session);
  }

  #received(type: number, requestId: number, buffer: Buffer, start: number, end: number): void {
    const checkers = this.#checkers;
    const session = this.#session;
    switch (type) {
      case FRAME.ENQUEUE:
        this.#enqueue(requestId, buffer, start, end);
        break;
      case FRAME.SUBMIT: {
        const { enqueueEnd, relations } = splitSubmission(buffer, start, end);
        this.#enqueue(requestId, buffer, start, enqueueEnd);
        const keys = this.#session.batches.get(requestId) ?? [];
        for (const { index, dependsOn } of parseRelations(relations, keys.length)) {
          const parents = dependsOn.map(({ index: at, id, onFailure }) =>
            at >= 0 ? { key: keys[at], id: undefined, onFailure } : { key: undefined, id, onFailure },
          );
          checkers.related(keys[index] as string, parents);
        }
        break;
      }
      case FRAME.COMPLETE: {
        const reader = new CompletionReader();
        reader.open(buffer, start, end);
        const entries = runs(reader);
        checkers.settleReceived(session, requestId, 'complete', entries);
        break;
      }
      case FRAME.RELEASE: {
        const reader = new ReleaseReader();
        reader.open(buffer, start, end);
        checkers.settleReceived(session, requestId, 'release', runs(reader));
        break;
      }
      case FRAME.FAIL: {
        const reader = new FailureReader();
        reader.open(buffer, start, end);
        const entries: Settled[] = [];
        while (reader.next()) {
          const { id, token, final, retryDelayMs } = reader;
          entries.push({ id, token, final, retryDelayMs });
        }
        checkers.settleReceived(session, requestId, 'fail', entries);
        break;
      }
      case FRAME.SUBSCRIBE:
        this.#subscribeId = requestId;
        break;
      case FRAME.WAIT:
        readIds(buffer, start, end, (id) => checkers.waitReceived(session, id, this.#engine));
        break;
      case FRAME.UNWAIT:
        readIds(buffer, start, end, (id) => checkers.waitEnded(session, id));
        break;
      case FRAME.CALL: {
        const { method, params } = readJson(buffer, start, end);
        checkers.callReceived(session, requestId, String(method), (params ?? {}) as Record<string, unknown>);
        break;
      }
      default:
    }
  }

  #enqueue(requestId: number, buffer: Buffer, start: number, end: number): void {
    const reader = new EnqueueReader();
    reader.open(buffer, start, end);
    const keys: string[] = [];
    const steadyMs = this.#engine.clock.steadyMs();
    while (reader.next()) {
      const spec = decodeSpec(buffer, reader.specStart, reader.specEnd);
      const when = { kind: WHEN_KINDS[reader.whenKind as 0 | 1 | 2], ms: reader.whenMs };
      for (let i = 0, at = reader.tasksStart; i < reader.count; i++) {
        const length = readU32(buffer, at);
        const key = keyOf(buffer.toString('utf8', at + 4, at + 4 + length));
        this.#checkers.submitted(key, spec, when, steadyMs);
        keys.push(key);
        at += 4 + length;
      }
    }
    this.#session.batches.set(requestId, keys);
  }

  #sent(type: number, requestId: number, buffer: Buffer, start: number, end: number): void {
    const checkers = this.#checkers;
    const session = this.#session;
    switch (type) {
      case FRAME.CONFIRM: {
        const { firstId, count } = readConfirm(buffer, start, end);
        checkers.confirmed(session, requestId, firstId, count);
        break;
      }
      case FRAME.DELIVER:
        for (const run of this.#deliveries.read(buffer, start, end)) {
          for (let i = 0; i < run.length; i++) {
            const { firstId, firstToken, attempt } = run;
            const key = keyOf(Buffer.from(run.bytes(i)).toString('utf8'));
            const delivery = { id: firstId + i, token: firstToken + i, attempt, key };
            if (key.startsWith(FIRED)) checkers.fired(session, this.#engine, delivery, run.spec);
            else checkers.delivered(session, this.#engine, delivery);
          }
        }
        break;
      case FRAME.SETTLED: {
        const refused = new Map<number, number>();
        readIds(buffer, start, end, (id) => refused.set(id, (refused.get(id) ?? 0) + 1));
        checkers.settled(session, requestId, refused);
        break;
      }
      case FRAME.REVOKE:
        readRevocations(buffer, start, end, (id, token, reason) => {
          if (reason === REVOKE_REASON.LEASE_LOST) checkers.expired(session, id, token);
        });
        break;
      case FRAME.RESULT:
        readResults(buffer, start, end, (id, state) => {
          checkers.resultSent(session, id, state === RESULT_STATE.NOT_FOUND);
        });
        break;
      case FRAME.REPLY: {
        const reply = readJson(buffer, start, end);
        if (requestId === this.#subscribeId && Array.isArray(reply.kept)) {
          for (const [id, token] of reply.kept as [string, string][]) {
            checkers.kept(session, parseTaskId(id), Number(token));
          }
        } else if (typeof reply.firstId === 'string') {
          checkers.confirmed(session, requestId, parseTaskId(reply.firstId), Number(reply.count));
        } else checkers.replied(session, requestId, reply);
        break;
      }
      case FRAME.EVENTS:
        for (const event of readJson(buffer, start, end).events as TaskEvent[]) checkers.events.told(event);
        break;
      case FRAME.ERROR:
        checkers.refused(session, requestId, readJson(buffer, start, end));
        break;
      default:
    }
  }
}

export interface Settled {
  readonly id: number;
  readonly token: number;
  readonly final: boolean;
  readonly retryDelayMs: number | undefined;
}

function runs(reader: { next(): boolean; firstId: number; firstToken: number; count: number }): Settled[] {
  const entries: Settled[] = [];
  while (reader.next()) {
    for (let i = 0; i < reader.count; i++) {
      entries.push({ id: reader.firstId + i, token: reader.firstToken + i, final: false, retryDelayMs: undefined });
    }
  }
  return entries;
}
