import { RAISED } from './relations-schema.ts';

/**
 * Event streams: triggers that tell what becomes of tasks, by NOTIFY, so that whatever statement changes one is heard, in the
 * order of the commits and only when it is committed. They are off while nobody watches, and cost nothing then.
 */

/** How long the table of tasks may be waited for. */
const LOCK_MS = 1500;
/** Characters of one notification: it holds less than 8,000 bytes, and a character has up to 4. */
const PART_CHARS = 1900;
/** Events in one text, which nearly always fits into one notification. */
const GROUP_EVENTS = 10;

/** What is told of a task that was changed from `o` to `n`, in this order. */
const CHANGES = `(VALUES
  (0, 'started', coalesce(nullif(f.ended, 0), n.attempt), CASE WHEN f.ended > 0 THEN o.started IS DISTINCT FROM f.ended
     ELSE n.started = n.attempt AND o.started IS DISTINCT FROM n.started END),
  (1, 'progress', n.attempt, n.progress IS NOT NULL AND n.progress IS DISTINCT FROM o.progress),
  (2, 'completed', n.attempt, n.state = 2 AND o.state <> 2),
  (3, 'failed', o.attempt, f.failed AND n.state <> 4),
  (4, 'dead', o.attempt, n.state = 3 AND o.state <> 3),
  (5, 'cancelled', NULL, n.state = 4 AND o.state <> 4),
  (6, 'released', o.attempt, o.state = 1 AND n.state = 0 AND n.attempt = o.attempt AND o.started = o.attempt AND NOT f.failed)
) AS e(no, type, attempt, told)`;

const TOLD = (event: string, order: string, from: string): string => `
    FOR told IN
      SELECT json_agg(l.event ORDER BY l.n)::text FROM (
        SELECT ${event} AS event, row_number() OVER (ORDER BY ${order}) AS n
        ${from} JOIN queues q ON q.no = n.queue_no JOIN kinds k ON k.no = n.kind_no
        WHERE EXISTS (SELECT FROM watches w WHERE w.until > now()
          AND (w.queue IS NULL OR w.queue = q.name) AND (w.task IS NULL OR w.task = n.id))
      ) l GROUP BY (l.n - 1) / ${GROUP_EVENTS} ORDER BY (l.n - 1) / ${GROUP_EVENTS}
    LOOP
      number := number + 1;
      last := (length(told) - 1) / ${PART_CHARS};
      FOR part IN 0 .. last LOOP
        -- Of what is said twice in a transaction one is left out: each text has a number.
        PERFORM pg_notify(TG_TABLE_SCHEMA || '_events', concat_ws(' ', extract(epoch FROM at) || '.' || number, last - part,
          substr(told, part * ${PART_CHARS} + 1, ${PART_CHARS})));
      END LOOP;
    END LOOP;`;

/** `more`: names and values of what only some events have. */
const event = (type: string, more: string): string => `json_strip_nulls(json_build_object('type', ${type}, 'id', n.id,
          'queue', q.name, 'name', k.name, 'atMs', round(extract(epoch FROM at) * 1000)${more}))`;

// Its plan is made once, for a statement of one task or of thousands: the two tables of rows are joined by hash.
const TELL = `
CREATE FUNCTION tell_tasks() RETURNS trigger LANGUAGE plpgsql
SET enable_hashjoin = on SET enable_nestloop = off SET enable_seqscan = on AS $$
DECLARE
  at timestamptz := clock_timestamp();
  told text;
  number integer := 0;
  last integer;
BEGIN
  IF NOT EXISTS (SELECT FROM watches WHERE until > now()) THEN RETURN NULL; END IF;
  IF TG_OP = 'INSERT' THEN${TOLD(event("'enqueued'", ''), 'n.seq', 'FROM new_rows n')}
  ELSE${TOLD(
    event(
      'e.type',
      `, 'attempt', e.attempt,
          'progress', CASE WHEN e.type = 'progress' THEN n.progress END,
          'failure', CASE WHEN e.type IN ('failed', 'dead') THEN n.failures[cardinality(n.failures)] END`,
    ),
    'n.seq, e.no',
    `FROM new_rows n JOIN old_rows o ON o.id = n.id
        CROSS JOIN LATERAL (
          SELECT *, CASE WHEN n.state = 2 AND o.state <> 2 OR failed AND n.state <> 4 THEN o.attempt ELSE 0 END AS ended
          FROM (
            SELECT coalesce(n.failures[cardinality(n.failures)] IS DISTINCT FROM o.failures[cardinality(o.failures)],
              false) AS failed
          ) d
        ) f
        JOIN LATERAL ${CHANGES} ON e.told`,
  )}
  END IF;
  RETURN NULL;
END $$`;

/* Those who begin or end watching go one after the other. The number follows that of the upkeep's lock. */
const IN_TURN = `PERFORM pg_advisory_xact_lock(${0x6d_69_6c_6e}, hashtext(current_schema()));`;

// Triggers are the owner's to switch.
const AS_OWNER = 'SECURITY DEFINER SET search_path FROM CURRENT';

const IS_ON = `EXISTS (SELECT FROM pg_trigger WHERE tgrelid = 'tasks'::regclass AND tgname = 'tasks_changed' AND tgenabled <> 'D')`;

/* Says that somebody watches, for so long; returns whether that was known. ALTER TABLE waits for the statements that are
   under way, and holds up those that come after it: PostgreSQL ends a vacuum for it after a second. */
const WATCH = `
CREATE FUNCTION watch_tasks(of_name text, of_queue text, of_task text, for_ms float8) RETURNS boolean LANGUAGE plpgsql
${AS_OWNER} SET lock_timeout = '${LOCK_MS}ms' AS $$
DECLARE
  known boolean;
BEGIN
  ${IN_TURN}
  SELECT w.until > now() INTO known FROM watches w WHERE w.name = of_name;
  INSERT INTO watches AS w (name, queue, task, until)
  VALUES (of_name, of_queue, of_task, now() + for_ms * interval '1 millisecond')
  ON CONFLICT (name) DO UPDATE SET until = excluded.until;
  IF NOT ${IS_ON} THEN
    ALTER TABLE tasks ENABLE TRIGGER tasks_made, ENABLE TRIGGER tasks_changed;
    PERFORM pg_notify(current_schema(), 'watches');
  END IF;
  RETURN coalesce(known, false);
EXCEPTION WHEN lock_not_available THEN
  RAISE EXCEPTION 'the table of tasks is in use by a transaction that has not ended for ${LOCK_MS} ms: events cannot be watched while it runs'
  USING ERRCODE = '${RAISED.TIMEOUT}';
END $$`;

/* Forgets who has not been heard of; nothing is told any more when nobody is left. */
const FORGET_WATCHES = `
CREATE FUNCTION forget_watches() RETURNS void LANGUAGE plpgsql
${AS_OWNER} SET lock_timeout = '200ms' AS $$
BEGIN
  ${IN_TURN}
  DELETE FROM watches WHERE until <= now();
  IF ${IS_ON} AND NOT EXISTS (SELECT FROM watches) THEN
    ALTER TABLE tasks DISABLE TRIGGER tasks_made, DISABLE TRIGGER tasks_changed;
    PERFORM pg_notify(current_schema(), 'watches');
  END IF;
EXCEPTION WHEN lock_not_available THEN
  -- Another time.
END $$`;

export const EVENTS_STATEMENTS: readonly string[] = [
  'ALTER TABLE tasks ADD COLUMN started integer',
  `COMMENT ON COLUMN tasks.started IS 'the attempt of which was told that its handler began; only while somebody watches'`,
  `CREATE TABLE watches (
    name text COLLATE "C" PRIMARY KEY,
    queue text COLLATE "C",
    task text COLLATE "C",
    until timestamptz NOT NULL
  )`,
  TELL,
  `CREATE TRIGGER tasks_made AFTER INSERT ON tasks REFERENCING NEW TABLE AS new_rows
   FOR EACH STATEMENT EXECUTE FUNCTION tell_tasks()`,
  `CREATE TRIGGER tasks_changed AFTER UPDATE ON tasks REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
   FOR EACH STATEMENT EXECUTE FUNCTION tell_tasks()`,
  'ALTER TABLE tasks DISABLE TRIGGER tasks_made, DISABLE TRIGGER tasks_changed',
  // What a user makes for itself is not taken for the owner's.
  `SELECT set_config('search_path', current_schema() || ', pg_temp', true)`,
  WATCH,
  FORGET_WATCHES,
];
