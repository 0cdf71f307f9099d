import { LIMITS } from '../../limits.ts';

/**
 * What tasks have to do with each other. A task that has nothing of it has a null in `tasks.children`, and nothing more.
 *
 *   blocked (5) ──the last parent ended──▶ waiting (0), published through the outbox
 *       └── a parent ended so that it must not run ──▶ cancelled (4)
 *
 * What follows from an end is done by the statement that records it, in `settle`: a function, because its statements see what
 * was committed while the row of the ended task was locked. The statement itself does not: it would miss a child that was
 * submitted in that moment. Whoever submits a child locks its parents first, so one of the two sees the other. Rows are
 * locked in the order of their ids, `dependents` before `tasks`, children after parents; where that cannot be held (a purge
 * goes by `seq`) PostgreSQL breaks the circle, and the statement is run again.
 *
 * Exactly once is a child let go by whoever brings `dependents.open` to 0, under that row's lock.
 *
 * Ended tasks that others need are not forgotten: retention puts those that have relatives into `held`, and `forget_held`
 * looks at them when one of their children has ended.
 *
 * The statements of the functions read one table each, by an array of keys, or go from row to row with LATERAL and OFFSET 0:
 * a join with an array would be planned by the size that a table had once, and may then read it whole for each element.
 *
 * A function that was released is never changed: a later step replaces it.
 */
export const ON_FAILURE = { cancel: 0, run: 1, wait: 2 } as const;
/** Of an edge: 0 while it is open. */
export const EDGE_ENDS = ['open', 'completed', 'dead', 'cancelled'] as const;
export const UNIQUE_SCOPE = { waiting: 0, unfinished: 1, time: 2 } as const;

/** What `submit` raises. */
export const RAISED = { NOT_FOUND: 'MR404', QUEUE_FULL: 'MR429', TIMEOUT: 'MR408' } as const;

export function relationsStatements(vacuumOften: string, vacuumSmall: string): string[] {
  return [
    'ALTER TABLE tasks ADD COLUMN children integer, ADD COLUMN unique_key text',
    `COMMENT ON COLUMN tasks.children IS 'null: it depends on nothing, nothing depends on it, and it is not unique; else how many were made to depend on it'`,
    `COMMENT ON COLUMN tasks.state IS '0 waiting (scheduled while run_at is to come), 1 active, 2 completed, 3 dead, 4 cancelled, 5 blocked'`,
    'ALTER TABLE deltas ADD COLUMN blocked bigint NOT NULL DEFAULT 0',
    'ALTER TABLE totals ADD COLUMN blocked bigint NOT NULL DEFAULT 0',
    `CREATE TABLE edges (
      ordinal integer NOT NULL,
      on_failure smallint NOT NULL,
      ended smallint NOT NULL DEFAULT 0,
      child text COLLATE "C" NOT NULL,
      parent text COLLATE "C" NOT NULL,
      PRIMARY KEY (child, ordinal)
    ) WITH (fillfactor = 50, ${vacuumOften})`,
    `COMMENT ON COLUMN edges.ended IS 'how the parent ended for this child: 0 it has not, 1 completed, 2 dead, 3 cancelled'`,
    `COMMENT ON COLUMN edges.on_failure IS '0 cancel, 1 run, 2 wait'`,
    'CREATE UNIQUE INDEX edges_parent ON edges (parent, child)',
    `CREATE TABLE dependents (
      child text COLLATE "C" PRIMARY KEY,
      total integer NOT NULL,
      open integer NOT NULL
    ) WITH (fillfactor = 50, ${vacuumSmall})`,
    `CREATE TABLE unique_keys (
      queue_no integer NOT NULL,
      key text COLLATE "C" NOT NULL,
      id text COLLATE "C" NOT NULL,
      scope smallint NOT NULL,
      until timestamptz,
      PRIMARY KEY (queue_no, key)
    )`,
    `COMMENT ON COLUMN unique_keys.scope IS '0 while the task waits, 1 until it has ended, 2 for a time'`,
    `CREATE TABLE held (
      id text COLLATE "C" PRIMARY KEY,
      queue_no integer NOT NULL,
      dead boolean NOT NULL,
      at timestamptz NOT NULL,
      due boolean NOT NULL DEFAULT true,
      looked_at timestamptz
    ) WITH (${vacuumSmall})`,
    `COMMENT ON TABLE held IS 'ended tasks that are to be forgotten when no other needs them any more'`,
    'CREATE INDEX held_of_queue ON held (queue_no, dead, due)',
    SETTLE,
    submit(AS_IT_WAS),
    forgetHeld('CREATE FUNCTION', CANCELLED_EARLY),
  ];
}

/** Portions of `changed` that can be published at once, under names that no other entry has: a task is let go once. */
const ENTRIES = `
  INSERT INTO outbox (entry, ids, bytes)
  SELECT 'u-' || min(p.id), array_agg(p.id ORDER BY p.seq), sum(p.bytes) FROM (
    SELECT c.id, c.seq, c.bytes, (row_number() OVER w - 1) / ${LIMITS.storePortionTasks} AS by_count,
           sum(c.bytes) OVER w / ${LIMITS.storePortionBytes} AS by_bytes
    FROM changed c WHERE c.state = 0 WINDOW w AS (ORDER BY c.seq)
  ) p GROUP BY p.by_count, p.by_bytes
  RETURNING entry`;

/*
 * `ended_ids`: tasks with relatives that this transaction has ended, or found ended under their locks. Returns the queues in
 * which something is to be trimmed, the entries of the outbox, and how many were cancelled in which queue.
 */
const SETTLE = `
CREATE FUNCTION settle(ended_ids text[]) RETURNS json LANGUAGE plpgsql AS $$
DECLARE
  round text[] := ended_ids;
  needless text[];
  ends jsonb;
  told jsonb;
  doomed text[];
  free text[];
  more_queues integer[];
  more_counts json;
  queues integer[] := '{}';
  entries text[];
  cancelled json[] := '{}';
BEGIN
  LOOP
    -- What it depended on is perhaps needed no more.
    IF EXISTS (SELECT FROM held) THEN
      SELECT array_agg(DISTINCT e.parent) INTO needless FROM edges e WHERE e.child = ANY (round);
      PERFORM FROM held h WHERE h.id = ANY (needless) ORDER BY h.id FOR UPDATE;
      WITH marked AS (
        UPDATE held h SET due = true WHERE h.id = ANY (needless) AND NOT h.due RETURNING h.queue_no
      )
      SELECT array_agg(DISTINCT m.queue_no) INTO more_queues FROM marked m;
      queues := queues || coalesce(more_queues, '{}');
    END IF;

    SELECT jsonb_object_agg(p.id, p.state - 1) INTO ends FROM tasks p WHERE p.id = ANY (round) AND p.state IN (2, 3, 4);
    WITH heard AS (
      UPDATE edges e SET ended = (ends ->> e.parent)::smallint
      WHERE e.parent = ANY (round) AND e.ended = 0 AND ends ? e.parent AND NOT (e.on_failure = 2 AND ends ->> e.parent = '2')
      RETURNING e.child, e.ended > 1 AND e.on_failure <> 1 AS dooms
    ), children AS MATERIALIZED (
      SELECT h.child, count(*) AS count, bool_or(h.dooms) AS dooms FROM heard h GROUP BY h.child
    )
    SELECT jsonb_object_agg(c.child, c.count), coalesce(array_agg(c.child) FILTER (WHERE c.dooms), '{}'), array_agg(c.child)
    INTO told, doomed, free FROM children c;
    EXIT WHEN told IS NULL;

    PERFORM FROM dependents d WHERE d.child = ANY (free) ORDER BY d.child FOR UPDATE;
    WITH counted AS (
      UPDATE dependents d SET open = d.open - (told ->> d.child)::integer WHERE d.child = ANY (free)
      RETURNING d.child, d.open
    )
    SELECT coalesce(array_agg(c.child), '{}') INTO free FROM counted c WHERE c.open = 0;

    -- All that falls with them at once, however long the chain: what a cancelled parent does not let run.
    IF cardinality(doomed) > 0 THEN
      WITH RECURSIVE fallen (id) AS (
        SELECT d.id COLLATE "C" FROM unnest(doomed) AS d(id)
        UNION
        SELECT e.child FROM fallen f
        CROSS JOIN LATERAL (SELECT t.state FROM tasks t WHERE t.id = f.id OFFSET 0) t
        CROSS JOIN LATERAL (SELECT e.child, e.ended, e.on_failure FROM edges e WHERE e.parent = f.id OFFSET 0) e
        WHERE t.state = 5 AND e.ended = 0 AND e.on_failure <> 1
      )
      SELECT array_agg(f.id) INTO doomed FROM fallen f;
    END IF;

    PERFORM FROM tasks t WHERE t.id = ANY (free || doomed) AND t.state = 5 ORDER BY t.id FOR UPDATE;
    WITH changed AS (
      UPDATE tasks t SET prior = 5, state = 4, finished_at = now() WHERE t.id = ANY (doomed) AND t.state = 5
      RETURNING t.id, t.seq, t.queue_no
    ), counted AS (
      INSERT INTO deltas (queue_no, blocked, cancelled, cancelled_total)
      SELECT c.queue_no, -count(*), count(*), count(*) FROM changed c GROUP BY c.queue_no
    ), over AS (
      INSERT INTO ended AS e (queue_no, dead, seqs) SELECT c.queue_no, false, array_agg(c.seq) FROM changed c
      GROUP BY c.queue_no RETURNING e.queue_no, cardinality(e.seqs) AS count
    )
    SELECT (SELECT array_agg(c.id) FROM changed c), array_agg(o.queue_no), json_agg(json_build_array(o.queue_no, o.count))
    INTO round, more_queues, more_counts FROM over o;
    IF round IS NOT NULL THEN
      queues := queues || more_queues;
      cancelled := cancelled || more_counts;
    END IF;
    WITH changed AS (
      UPDATE tasks t SET prior = 5, state = 0 WHERE t.id = ANY (free) AND t.state = 5
      RETURNING t.id, t.seq, t.queue_no, t.state, octet_length(t.payload) AS bytes
    ), counted AS (
      INSERT INTO deltas (queue_no, waiting, blocked)
      SELECT c.queue_no, count(*), -count(*) FROM changed c GROUP BY c.queue_no
    ), unpublished AS (${ENTRIES}
    )
    SELECT coalesce(entries, '{}') || coalesce(array_agg(u.entry ORDER BY u.entry), '{}') INTO entries FROM unpublished u;
    EXIT WHEN round IS NULL;
  END LOOP;
  RETURN json_build_object('queues', queues, 'entries', coalesce(entries, '{}'), 'cancelled', cancelled);
END $$`;

/** What the later step adds to the text of the function; without it the text is that of the earlier one, to the letter. */
type SubmitMore = Record<'parameter' | 'column' | 'value' | 'array' | 'alias', string>;

const AS_IT_WAS: SubmitMore = { parameter: '', column: '', value: '', array: '', alias: '' };

/** What a process of before calls has no `headers`, and finds the function all the same. */
const WITH_HEADERS: SubmitMore = {
  parameter: ', headers text[] DEFAULT NULL',
  column: ', headers',
  value: ', a.headers',
  array: ', submit.headers',
  alias: ', headers',
};

export function headersStatements(): string[] {
  return [
    'ALTER TABLE tasks ADD COLUMN headers text',
    `COMMENT ON COLUMN tasks.headers IS 'a JSON object of texts; null for none'`,
    'ALTER TABLE schedules ADD COLUMN headers text',
    'DROP FUNCTION submit',
    submit(WITH_HEADERS),
  ];
}

export function cancelsStatements(): string[] {
  return [
    `COMMENT ON TABLE tombstones IS 'cancelled and forgotten: a message that comes later is a copy, or was late, and is dropped'`,
    forgetHeld('CREATE OR REPLACE FUNCTION', CANCELLED),
  ];
}

/*
 * All or nothing. Tasks, dependencies and unique keys as parallel arrays; a dependency names its parent by id, also one that
 * comes with it. `outers`: the parents that do not. Run again after an unknown outcome it finds its tasks there, and tells.
 */
const submit = ({ parameter, column, value, array, alias }: SubmitMore): string => `
CREATE FUNCTION submit(
  ids text[], queue_nos integer[], kind_nos integer[], enqueued_ms float8, run_ms float8[], blocked boolean[],
  relatives integer[], keys text[], bytes bytea, starts integer[], lengths integer[],
  edge_children text[], edge_parents text[], edge_modes integer[], outers text[],
  key_queues integer[], key_names text[], key_ids text[], key_scopes integer[], key_ms float8[]${parameter}
) RETURNS json LANGUAGE plpgsql AS $$
DECLARE
  -- By the id that a task was to have: who has its key.
  existing jsonb := '{}';
  earlier jsonb;
  locked integer;
  parents text[] := outers;
  found_parents text[];
  over_parents text[];
  culprit text;
  known_edges float8;
  known_keys float8;
  entries text[];
  settled json;
BEGIN
  -- As of when the tables were last analyzed: a bound against growing for ever needs no exact count.
  SELECT reltuples INTO known_edges FROM pg_class WHERE oid = 'edges'::regclass;
  SELECT reltuples INTO known_keys FROM pg_class WHERE oid = 'unique_keys'::regclass;
  IF cardinality(edge_children) > 0 AND known_edges + cardinality(edge_children) > ${LIMITS.relationsMax} THEN
    RAISE EXCEPTION 'the store holds about % dependencies already; at most ${LIMITS.relationsMax} are allowed: let tasks end, or lower the retention of their queues', known_edges
    USING ERRCODE = '${RAISED.QUEUE_FULL}';
  END IF;
  IF cardinality(key_ids) > 0 AND known_keys + cardinality(key_ids) > ${LIMITS.uniqueKeysMax} THEN
    RAISE EXCEPTION 'the store holds about % unique keys already; at most ${LIMITS.uniqueKeysMax} are allowed: let tasks end, or lower the retention of their queues', known_keys
    USING ERRCODE = '${RAISED.QUEUE_FULL}';
  END IF;

  IF EXISTS (SELECT FROM tasks t WHERE t.id = ANY (ids)) THEN
    SELECT coalesce(jsonb_object_agg(a.id, u.id), '{}') INTO existing
    FROM unnest(key_queues, key_names, key_ids) AS a(queue_no, key, id)
    CROSS JOIN LATERAL (SELECT k.id FROM unique_keys k WHERE k.queue_no = a.queue_no AND k.key = a.key OFFSET 0) u
    WHERE u.id <> a.id;
    SELECT existing - coalesce(array_agg(t.id), '{}') INTO existing FROM tasks t WHERE t.id = ANY (key_ids);
    RETURN json_build_object('existing', existing, 'entries', '{}'::text[]);
  END IF;

  IF cardinality(key_ids) > 0 THEN
    LOOP
      INSERT INTO unique_keys (queue_no, key, id, scope, until)
      SELECT a.queue_no, a.key, a.id, a.scope, clock_timestamp() + a.ms * interval '1 millisecond'
      FROM unnest(key_queues, key_names, key_ids, key_scopes, key_ms) AS a(queue_no, key, id, scope, ms)
      ORDER BY a.queue_no, a.key COLLATE "C" ON CONFLICT DO NOTHING;
      SELECT count(*) INTO locked FROM (
        SELECT a.queue_no, a.key FROM unnest(key_queues, key_names) AS a(queue_no, key) ORDER BY 1, a.key COLLATE "C"
      ) a CROSS JOIN LATERAL (
        SELECT FROM unique_keys k WHERE k.queue_no = a.queue_no AND k.key = a.key FOR UPDATE
      ) l;
      -- Else one was there, and was forgotten before it could be locked.
      EXIT WHEN locked = cardinality(key_ids);
    END LOOP;
    SELECT coalesce(jsonb_object_agg(a.id, u.id), '{}') INTO existing
    FROM unnest(key_queues, key_names, key_ids) AS a(queue_no, key, id)
    CROSS JOIN LATERAL (SELECT k.* FROM unique_keys k WHERE k.queue_no = a.queue_no AND k.key = a.key OFFSET 0) u
    LEFT JOIN LATERAL (SELECT t.state FROM tasks t WHERE t.id = u.id OFFSET 0) t ON true
    WHERE u.id <> a.id AND CASE u.scope WHEN ${UNIQUE_SCOPE.time} THEN u.until > clock_timestamp()
      ELSE t.state IN (0, 5) OR (t.state = 1 AND u.scope = ${UNIQUE_SCOPE.unfinished}) END;
    INSERT INTO unique_keys AS u (queue_no, key, id, scope, until)
    SELECT a.queue_no, a.key, a.id, a.scope, clock_timestamp() + a.ms * interval '1 millisecond'
    FROM unnest(key_queues, key_names, key_ids, key_scopes, key_ms) AS a(queue_no, key, id, scope, ms)
    WHERE NOT existing ? a.id
    ON CONFLICT (queue_no, key) DO UPDATE SET id = excluded.id, scope = excluded.scope, until = excluded.until
    WHERE u.id <> excluded.id;
    SELECT parents || coalesce(array_agg(DISTINCT existing ->> e.parent), '{}') INTO parents
    FROM unnest(edge_children, edge_parents) AS e(child, parent) WHERE existing ? e.parent AND NOT existing ? e.child;
  END IF;

  IF cardinality(parents) > 0 THEN
    SELECT array_agg(l.id), array_agg(l.id) FILTER (WHERE l.state IN (2, 3, 4)),
           min(l.id) FILTER (WHERE l.children >= ${LIMITS.dependenciesMax})
    INTO found_parents, over_parents, culprit FROM (
      SELECT t.id, t.state, t.children FROM tasks t WHERE t.id = ANY (parents) ORDER BY t.id FOR NO KEY UPDATE
    ) l;
    IF culprit IS NOT NULL THEN
      RAISE EXCEPTION '${LIMITS.dependenciesMax} tasks were made to depend on task % already, which is the limit', culprit
      USING ERRCODE = '${RAISED.QUEUE_FULL}';
    END IF;
    SELECT min(p.id) INTO culprit FROM (
      SELECT unnest(parents) AS id EXCEPT SELECT unnest(found_parents)
    ) p;
    IF culprit IS NOT NULL AND culprit <> ALL (outers) THEN
      -- It had a key of these when that was looked at: look again.
      RAISE EXCEPTION 'task % was forgotten meanwhile', culprit USING ERRCODE = '40001';
    ELSIF culprit IS NOT NULL THEN
      RAISE EXCEPTION 'task % is to be depended on, and does not exist, or has ended and is no longer retained: enqueue what depends on a task while that is there, or raise the retention of its queue', culprit
      USING ERRCODE = '${RAISED.NOT_FOUND}';
    END IF;
    -- One that was on its way to be forgotten as if nobody needed it comes by again.
    INSERT INTO ended (queue_no, dead, at, seqs)
    SELECT t.queue_no, t.state = 3, t.finished_at, ARRAY[t.seq] FROM tasks t
    WHERE t.id = ANY (over_parents) AND t.children IS NULL;
  END IF;

  WITH changed AS (
    INSERT INTO tasks AS t (id, queue_no, kind_no, enqueued_at, run_at, payload, state, prior, children, unique_key${column})
    SELECT a.id, a.queue_no, a.kind_no, to_timestamp(enqueued_ms / 1000.0), to_timestamp(a.run_at / 1000.0),
           substring(bytes FROM a.start FOR a.length), CASE WHEN a.blocked THEN 5 ELSE 0 END,
           CASE WHEN a.blocked THEN 5 ELSE 0 END, a.relatives, a.key${value}
    FROM unnest(ids, queue_nos, kind_nos, run_ms, submit.blocked, submit.relatives, keys, starts, lengths${array})
           AS a(id, queue_no, kind_no, run_at, blocked, relatives, key, start, length${alias})
    WHERE NOT existing ? a.id
    RETURNING t.id, t.seq, t.queue_no, t.state, octet_length(t.payload) AS bytes
  ), counted AS (
    INSERT INTO deltas (queue_no, waiting, blocked, enqueued_total)
    SELECT c.queue_no, count(*) FILTER (WHERE c.state = 0), count(*) FILTER (WHERE c.state = 5), count(*)
    FROM changed c GROUP BY c.queue_no
  ), unpublished AS (${ENTRIES}
  )
  SELECT array_agg(u.entry) INTO entries FROM unpublished u;

  IF cardinality(edge_children) > 0 THEN
    WITH linked AS (
      INSERT INTO edges AS e (child, ordinal, parent, on_failure)
      SELECT d.child, row_number() OVER (PARTITION BY d.child ORDER BY d.n) - 1, d.parent, d.mode FROM (
        -- Two of them may turn out to be the same unique task.
        SELECT DISTINCT ON (g.child, g.parent) g.child, g.parent, g.mode, g.n FROM (
          SELECT a.child, coalesce(existing ->> a.parent, a.parent) AS parent, a.mode, a.n
          FROM unnest(edge_children, edge_parents, edge_modes) WITH ORDINALITY AS a(child, parent, mode, n)
          WHERE NOT existing ? a.child
        ) g ORDER BY g.child, g.parent, g.n
      ) d
      RETURNING e.child, e.parent
    ), counted AS (
      INSERT INTO dependents (child, total, open) SELECT l.child, count(*), count(*) FROM linked l GROUP BY l.child
    )
    SELECT jsonb_object_agg(p.id, p.count) INTO earlier
    FROM (SELECT l.parent AS id, count(*) AS count FROM linked l GROUP BY l.parent) p;
    -- Those that came with it were counted by who submits them.
    UPDATE tasks t SET children = coalesce(t.children, 0) + (earlier ->> t.id)::integer
    WHERE t.id = ANY (parents) AND earlier ? t.id;
    IF over_parents IS NOT NULL THEN settled := settle(over_parents); END IF;
  END IF;
  RETURN json_build_object('existing', existing, 'entries', coalesce(entries, '{}'), 'settled', settled);
END $$`;

/** Of whom it is remembered that they were cancelled when they are forgotten: those whose messages had not come. */
const CANCELLED_EARLY = 'f.state = 4 AND f.prior = 0';
/** All for whom there ever was a message: of any there may be a copy, which comes late. */
const CANCELLED = 'f.state = 4 AND f.prior <> 5';

/* Some of a queue's held tasks; returns how many were looked at. */
const forgetHeld = (create: string, buried: string): string => `
${create} forget_held(of_queue integer) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
  candidates text[];
  -- Tasks that ended then, and not again since.
  meant text[];
  needed text[];
  keys text[];
BEGIN
  SELECT array_agg(l.id) INTO candidates FROM (
    SELECT h.id FROM held h WHERE h.queue_no = of_queue AND h.due
    AND (h.looked_at IS NULL OR h.looked_at < now() - interval '1 second')
    ORDER BY h.id LIMIT ${LIMITS.storeTrimTasks} FOR UPDATE SKIP LOCKED
  ) l;
  IF candidates IS NULL THEN RETURN 0; END IF;
  PERFORM FROM tasks t WHERE t.id = ANY (candidates) ORDER BY t.id FOR UPDATE;
  SELECT array_agg(t.id) INTO meant FROM tasks t WHERE t.id = ANY (candidates) AND t.state IN (2, 3, 4)
    AND t.finished_at = (SELECT h.at FROM held h WHERE h.id = t.id);
  SELECT array_agg(m.id) INTO needed FROM unnest(meant) AS m(id)
  LEFT JOIN LATERAL (
    SELECT true AS yes FROM edges e
    CROSS JOIN LATERAL (SELECT t.state FROM tasks t WHERE t.id = e.child OFFSET 0) t
    WHERE e.parent = m.id AND t.state IN (0, 1, 5) LIMIT 1
  ) c ON true
  LEFT JOIN LATERAL (
    SELECT true AS yes FROM (SELECT t.queue_no, t.unique_key FROM tasks t WHERE t.id = m.id OFFSET 0) t
    CROSS JOIN LATERAL (SELECT k.* FROM unique_keys k WHERE k.queue_no = t.queue_no AND k.key = t.unique_key OFFSET 0) u
    WHERE u.id = m.id AND u.scope = ${UNIQUE_SCOPE.time} AND u.until > now()
  ) k ON true
  WHERE c.yes OR k.yes;
  UPDATE held h SET due = false, looked_at = now() WHERE h.id = ANY (needed);
  DELETE FROM held h WHERE h.id = ANY (candidates) AND h.due;
  SELECT array_agg(m.id) INTO meant FROM (SELECT unnest(meant) AS id EXCEPT SELECT unnest(needed)) m;
  WITH forgotten AS (
    DELETE FROM tasks t WHERE t.id = ANY (meant) RETURNING t.id, t.state, t.prior, t.run_at, t.queue_no, t.unique_key
  ), buried AS (
    INSERT INTO tombstones (id, until)
    SELECT f.id, greatest(now(), f.run_at) + ${LIMITS.storeTombstoneMs} * interval '1 millisecond' FROM forgotten f
    WHERE ${buried} ON CONFLICT (id) DO NOTHING
  ), counted AS (
    INSERT INTO deltas (queue_no, completed, dead, cancelled)
    SELECT of_queue, -count(*) FILTER (WHERE f.state = 2), -count(*) FILTER (WHERE f.state = 3),
           -count(*) FILTER (WHERE f.state = 4)
    FROM forgotten f HAVING count(*) > 0
  )
  SELECT array_agg(f.unique_key) FILTER (WHERE f.unique_key IS NOT NULL) INTO keys FROM forgotten f;
  DELETE FROM unique_keys u WHERE u.queue_no = of_queue AND u.key = ANY (keys) AND u.id = ANY (meant);
  DELETE FROM edges e WHERE e.child = ANY (meant);
  DELETE FROM dependents d WHERE d.child = ANY (meant);
  RETURN cardinality(candidates);
END $$`;
