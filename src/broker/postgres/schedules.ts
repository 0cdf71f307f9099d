import { MillraceError } from '../../errors.ts';
import { LIMITS } from '../../limits.ts';
import { encodeBytes } from '../../protocol/encoded-bytes.ts';
import { checkSchedulePayload, type Plan, parseMisfire, planFiring } from '../../schedule/plan.ts';
import { type Misfire, nextDueMs, parseTiming, sameTiming, type Timing } from '../../schedule/timing.ts';
import type { ScheduleInfo, ScheduleSettings } from '../contract.ts';
import type { FiredSchedules, Republish, StoredSchedules } from '../store.ts';
import type { Database } from './database.ts';
import { bytesOf, headersOf, headersText, numberArray, textArray } from './encode.ts';
import { type Kinds, SPEC_COLUMNS, specOf } from './kinds.ts';
import type { Parameter, Row } from './lane.ts';
import type { Outbox } from './outbox.ts';

/** Schedules, tasks and bytes of payload that one statement fires. */
const SCHEDULES_MAX = 50;
const TASKS_MAX = 100;
const BYTES_MAX = 4 * 1024 * 1024;

/** When nothing could be fired: another process is about to. */
const IDLE_MS = 50;
const NOTHING: Republish = { entries: [], tasks: [] };

interface Due {
  readonly name: string;
  readonly rev: number;
  readonly firstMs: number;
  readonly plan: Plan;
}

/**
 * A row for each schedule. A firing moves its row on from the time that it was due, and makes its tasks and their entry of
 * the outbox, in one statement: of several processes only one finds the row as it was. A change goes by `rev` in the same
 * way. So each call may be made again after an unknown outcome. The time is the database's.
 */
export class Schedules implements StoredSchedules {
  readonly #database: Database;
  readonly #kinds: Kinds;
  readonly #outbox: Outbox;
  readonly #newEntry: () => string;

  constructor(database: Database, kinds: Kinds, outbox: Outbox, newEntry: () => string) {
    this.#database = database;
    this.#kinds = kinds;
    this.#outbox = outbox;
    this.#newEntry = newEntry;
  }

  /** Rejects INVALID_ARGUMENT, PAYLOAD_TOO_LARGE, QUEUE_FULL. */
  async set(name: string, settings: ScheduleSettings): Promise<ScheduleInfo> {
    const misfire = parseMisfire(settings.misfire);
    const payload = Buffer.from(settings.payload as string);
    const headers = headersText(settings.headers);
    checkSchedulePayload(bytesOf(settings.payload));
    // Judged before anything is made for it.
    parseTiming(settings, this.#database.clock.wallMs());
    const kind = (await this.#kinds.of([settings.spec]))[0] as { no: number };
    for (;;) {
      const [row] = await this.#database.query('durable', FIND, [name]);
      const found = row as Row & { count: number };
      const nowMs = Number(found.now_ms);
      const timing = parseTiming(settings, nowMs);
      const known = found.name === null ? undefined : found;
      if (known === undefined && found.count >= LIMITS.schedulesMax) throw tooMany(found.count);
      const goesOn = known !== undefined && sameTiming(timingOf(known), timing);
      if (goesOn && isSame(known, misfire, kind.no, payload, headers)) return infoOf(known);
      const values = [name, ...columnsOf(goesOn ? timingOf(known) : timing), misfire, kind.no, payload, headers];
      const changed =
        known === undefined
          ? await this.#database.query('durable', INSERT, [...values, nextDueMs(timing, nowMs)])
          : goesOn
            ? await this.#database.query('durable', CHANGE, [...values, known.rev as number])
            : await this.#database.query('durable', RETIME, [...values, known.rev as number, nextDueMs(timing, nowMs)]);
      // Somebody else, or this call when its outcome was unknown, has changed it: look again.
      if (changed.length > 0) return infoOf(await this.#find(name));
    }
  }

  async get(name: string): Promise<ScheduleInfo> {
    const row = await this.#find(name);
    const headers = headersOf(row.headers);
    return {
      ...infoOf(row),
      payload: encodeBytes(row.payload as Buffer),
      ...(headers === undefined ? {} : { headers }),
    };
  }

  async list(): Promise<ScheduleInfo[]> {
    return (await this.#database.query('calm', LIST)).map(infoOf);
  }

  async pause(name: string): Promise<void> {
    await this.#find(name);
    await this.#database.query('durable', PAUSE, [name]);
  }

  async resume(name: string): Promise<void> {
    for (;;) {
      const row = await this.#find(name);
      if (row.paused !== true) return;
      const nowMs = Number(row.now_ms);
      const nextMs = nextDueMs(knownTimingOf(row, nowMs), nowMs);
      await this.#database.query('durable', RESUME, [name, row.rev as number, nextMs]);
    }
  }

  /** After an unknown outcome the answer may be that it was gone already. */
  async remove(name: string): Promise<boolean> {
    return (await this.#database.query('durable', REMOVE, [name])).length > 0;
  }

  async runNow(name: string, id: string): Promise<Republish> {
    const entry = this.#newEntry();
    const [row] = await this.#database.query('durable', RUN, [name, id, entry]);
    if ((row as Row).done !== true) throw noSchedule(name);
    return { entries: [entry], tasks: await this.#outbox.read([id]) };
  }

  async fire(newId: () => string): Promise<FiredSchedules> {
    const due: Due[] = [];
    let waitMs = Number.POSITIVE_INFINITY;
    let tasks = 0;
    let bytes = 0;
    for await (const row of this.#first()) {
      const nowMs = Number(row.now_ms);
      const firstMs = Number(row.next_ms);
      if (firstMs > nowMs || due.length >= SCHEDULES_MAX || tasks >= TASKS_MAX || bytes >= BYTES_MAX) {
        waitMs = Math.min(waitMs, Math.max(0, firstMs - nowMs));
        break;
      }
      const plan = planOf(row, nowMs, TASKS_MAX - tasks);
      if (plan === undefined) continue;
      tasks += plan.count;
      bytes += plan.count * (row.payload_bytes as number);
      waitMs = Math.min(waitMs, Math.max(0, (plan.nextMs ?? Number.POSITIVE_INFINITY) - nowMs));
      due.push({ name: row.name as string, rev: row.rev as number, firstMs, plan });
    }
    if (due.length === 0) return { due: NOTHING, pauseMs: Math.max(waitMs, IDLE_MS) };
    const fired = await this.#fire(due, newId);
    return { due: fired, pauseMs: fired.tasks.length > 0 ? waitMs : Math.max(waitMs, IDLE_MS) };
  }

  /** Those with a next time, soonest first: as many pages as are asked for. */
  async *#first(): AsyncGenerator<Row> {
    let [afterMs, afterName] = [-1, ''];
    for (;;) {
      const rows = await this.#database.query('lazy', DUE, [SCHEDULES_MAX + 1, afterMs, afterName]);
      yield* rows;
      const last = rows.at(-1);
      if (last === undefined || rows.length <= SCHEDULES_MAX) return;
      [afterMs, afterName] = [Number(last.next_ms), last.name as string];
    }
  }

  /** Those that another process has fired meanwhile, or is firing, are left to it. */
  async #fire(due: readonly Due[], newId: () => string): Promise<Republish> {
    const entry = this.#newEntry();
    const ids: string[] = [];
    const owners: number[] = [];
    const lastIds = due.map(({ plan }, index) => {
      for (let i = 0; i < plan.count; i++) {
        ids.push(newId());
        owners.push(index + 1);
      }
      return plan.count === 0 ? null : (ids.at(-1) as string);
    });
    const [row] = await this.#database.query('durable', FIRE, [
      textArray(due.map(({ name }) => name)),
      numberArray(due.map(({ rev }) => rev)),
      numberArray(due.map(({ firstMs }) => firstMs)),
      numberArray(due.map(({ plan }) => plan.nextMs)),
      numberArray(due.map(({ plan }) => plan.dueMs)),
      numberArray(due.map(({ plan }) => plan.count)),
      textArray(lastIds),
      textArray(ids),
      numberArray(owners),
      entry,
      numberArray(due.map(({ plan }) => plan.madeUp)),
    ]);
    if (row === undefined) return NOTHING;
    return { entries: [entry], tasks: await this.#outbox.read(row.ids as string[]) };
  }

  /** Rejects NOT_FOUND. */
  async #find(name: string): Promise<Row> {
    const [row] = await this.#database.query('durable', FIND, [name]);
    if (row !== undefined && row.name !== null) return row;
    throw noSchedule(name);
  }
}

/** Undefined for a schedule of a time zone that only newer processes know. */
function planOf(row: Row, nowMs: number, left: number): Plan | undefined {
  const fitting = Math.max(1, Math.floor(BYTES_MAX / ((row.payload_bytes as number) + 1)));
  const bounds = { countMax: Math.min(left, fitting), madeUp: row.made_up as number };
  return ours(() => {
    const schedule = { timing: knownTimingOf(row, nowMs), misfire: row.misfire as Misfire };
    return planFiring(schedule, Number(row.next_ms), nowMs, bounds);
  });
}

function ours<T>(plan: () => T): T | undefined {
  try {
    return plan();
  } catch (error) {
    if (error instanceof MillraceError) return undefined;
    throw error;
  }
}

function noSchedule(name: string): MillraceError {
  const message = `there is no schedule ${JSON.stringify(name)}: client.schedules.list() has them`;
  return new MillraceError('NOT_FOUND', message);
}

function tooMany(count: number): MillraceError {
  const message = `there are ${count} schedules; at most ${LIMITS.schedulesMax} are allowed: remove some, or let one task enqueue others`;
  return new MillraceError('QUEUE_FULL', message, { details: { bound: LIMITS.schedulesMax } });
}

function timingOf(row: Row): Timing {
  if (row.cron !== null) return { cron: row.cron as string, timeZone: row.time_zone as string };
  return { everyMs: Number(row.every_ms), anchorMs: Number(row.anchor_ms) };
}

/** Throws INVALID_ARGUMENT for a time zone that this process does not know: another has set it. */
function knownTimingOf(row: Row, nowMs: number): Timing {
  const timing = timingOf(row);
  if ('cron' in timing) parseTiming(timing, nowMs);
  return timing;
}

function columnsOf(timing: Timing): Parameter[] {
  if ('cron' in timing) return [timing.cron, timing.timeZone, null, null];
  return [null, null, timing.everyMs, timing.anchorMs];
}

function isSame(row: Row, misfire: Misfire, kindNo: number, payload: Buffer, headers: string | null): boolean {
  const isSameKind = row.misfire === misfire && row.kind_no === kindNo && row.headers === headers;
  return isSameKind && payload.equals(row.payload as Buffer);
}

function infoOf(row: Row): ScheduleInfo {
  const { name: task, ...options } = specOf({ ...row, name: row.task });
  const timing = timingOf(row);
  return {
    name: row.name as string,
    ...('cron' in timing ? timing : { everyMs: timing.everyMs }),
    misfire: row.misfire as Misfire,
    paused: row.paused as boolean,
    task,
    ...options,
    ...(row.next_ms === null ? {} : { nextAtMs: Number(row.next_ms) }),
    ...(row.last_ms === null ? {} : { lastAtMs: Number(row.last_ms) }),
    ...(row.last_id === null ? {} : { lastTaskId: row.last_id as string }),
    firedCount: Number(row.fired),
    payloadBytes: row.payload_bytes as number,
  };
}

const NOW_MS = 'floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint';

const COLUMNS = `s.name, s.rev, s.cron, s.time_zone, s.every_ms, s.anchor_ms, s.misfire, s.kind_no, s.paused,
  s.next_ms, s.last_ms, s.last_id, s.fired, octet_length(s.payload) AS payload_bytes,
  ${SPEC_COLUMNS.replace('k.name,', 'k.name AS task,')}`;
const JOINED = 'schedules s JOIN kinds k ON k.no = s.kind_no JOIN queues q ON q.no = k.queue_no';

// One row, whose name is null where there is none.
const FIND = `
SELECT ${NOW_MS} AS now_ms, (SELECT count(*) FROM schedules)::integer AS count, found.*
FROM (SELECT) one LEFT JOIN (SELECT ${COLUMNS}, s.payload, s.headers FROM ${JOINED} WHERE s.name = $1) found ON true`;

const LIST = `SELECT ${COLUMNS} FROM ${JOINED} ORDER BY s.name LIMIT ${LIMITS.schedulesMax}`;

const INSERT = `
INSERT INTO schedules (name, cron, time_zone, every_ms, anchor_ms, misfire, kind_no, payload, headers, next_ms)
VALUES ($1, $2, $3, $4::bigint, $5::bigint, $6, $7::integer, $8::bytea, $9::text, $10::bigint)
ON CONFLICT (name) DO NOTHING RETURNING rev`;

const VALUES = `cron = $2, time_zone = $3, every_ms = $4::bigint, anchor_ms = $5::bigint,
  misfire = $6, kind_no = $7::integer, payload = $8::bytea, headers = $9::text, rev = rev + 1`;

const CHANGE = `UPDATE schedules SET ${VALUES} WHERE name = $1 AND rev = $10::integer RETURNING rev`;

const RETIME = `
UPDATE schedules SET ${VALUES}, made_up = 0, next_ms = CASE WHEN paused THEN NULL ELSE $11::bigint END
WHERE name = $1 AND rev = $10::integer RETURNING rev`;

const PAUSE = 'UPDATE schedules SET paused = true, next_ms = NULL, rev = rev + 1 WHERE name = $1 AND NOT paused';

const RESUME = `
UPDATE schedules SET paused = false, made_up = 0, next_ms = $3::bigint, rev = rev + 1
WHERE name = $1 AND rev = $2::integer AND paused`;

const REMOVE = 'DELETE FROM schedules WHERE name = $1 RETURNING name';

/** Due or not. */
const DUE = `
SELECT ${NOW_MS} AS now_ms, name, rev, cron, time_zone, every_ms, anchor_ms, misfire, next_ms, made_up,
       octet_length(payload) AS payload_bytes
FROM schedules WHERE next_ms IS NOT NULL AND (next_ms, name) > ($2::bigint, $3)
ORDER BY next_ms, name LIMIT $1::integer`;

/** From `moved (n, kind_no, payload, headers)` and `ids (id, n)`. */
const MADE = `made AS (
  INSERT INTO tasks (id, queue_no, kind_no, enqueued_at, payload, headers)
  SELECT i.id, k.queue_no, m.kind_no, now(), m.payload, m.headers
  FROM moved m JOIN ids i ON i.n = m.n JOIN kinds k ON k.no = m.kind_no
  ORDER BY i.no
  ON CONFLICT (id) DO NOTHING
  RETURNING id, queue_no, octet_length(payload) AS bytes
), counted AS (
  INSERT INTO deltas (queue_no, waiting, enqueued_total)
  SELECT queue_no, count(*), count(*) FROM made GROUP BY queue_no
)`;

// Made once: where its task is there already, an earlier try has done all of it.
const RUN = `
WITH moved AS (
  UPDATE schedules SET last_ms = ${NOW_MS}, last_id = $2, fired = fired + 1
  WHERE name = $1 AND NOT EXISTS (SELECT FROM tasks WHERE id = $2)
  RETURNING 1 AS n, kind_no, payload, headers
), ids AS (SELECT $2::text AS id, 1 AS n, 1 AS no), ${MADE}, unpublished AS (
  INSERT INTO outbox (entry, ids, bytes) SELECT $3, array_agg(id), sum(bytes) FROM made HAVING count(*) > 0
  ON CONFLICT (entry) DO NOTHING
)
SELECT EXISTS (SELECT FROM moved) OR EXISTS (SELECT FROM tasks WHERE id = $2) AS done`;

const FIRE = `
WITH wanted AS MATERIALIZED (
  SELECT * FROM unnest($1::text[], $2::integer[], $3::bigint[], $4::bigint[], $5::bigint[], $6::integer[], $7::text[],
    $11::integer[]) WITH ORDINALITY AS a(name, rev, first_ms, next_ms, due_ms, count, last_id, made_up, n)
), ids AS MATERIALIZED (
  SELECT * FROM unnest($8::text[], $9::integer[]) WITH ORDINALITY AS a(id, n, no)
), locked AS MATERIALIZED (
  SELECT s.name FROM schedules s JOIN wanted w ON s.name = w.name
  WHERE s.next_ms = w.first_ms AND s.rev = w.rev FOR UPDATE OF s SKIP LOCKED
), moved AS (
  UPDATE schedules s SET next_ms = w.next_ms, fired = s.fired + w.count, made_up = w.made_up,
    last_ms = CASE WHEN w.count > 0 THEN w.due_ms ELSE s.last_ms END, last_id = coalesce(w.last_id, s.last_id)
  FROM wanted w JOIN locked l ON l.name = w.name
  WHERE s.name = w.name AND s.next_ms = w.first_ms AND s.rev = w.rev
  RETURNING w.n, s.kind_no, s.payload, s.headers
), ${MADE}
INSERT INTO outbox (entry, ids, bytes) SELECT $10, array_agg(id), sum(bytes) FROM made HAVING count(*) > 0
ON CONFLICT (entry) DO NOTHING RETURNING array_to_json(ids) AS ids`;
