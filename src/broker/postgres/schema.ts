import { EVENTS_STATEMENTS } from './events-schema.ts';
import { cancelsStatements, headersStatements, relationsStatements } from './relations-schema.ts';
import { SUPERVISORS_STATEMENTS } from './supervisors.ts';

/**
 * The tables, as numbered steps. A step that was released is never changed, also not by a constant that it contains: what
 * comes later is a new one at the end. The test beside this file holds that.
 *
 * How a task's row is laid out is what the speed rests on:
 * - No index on a column that begin and end change, and room for three versions of each row in its page (`fillfactor`), so
 *   that both are updates in place (HOT) which touch no index. `run_at` has one, partial: it is null for tasks without time.
 * - What changes stands before `id` and `payload`, so that the log takes only the difference.
 * - `prior` is the state before the last change: what an UPDATE returns are new values only, and the counts need both.
 * - `lease` is the worker's number * 2^32 + the number of its call of `begin`: so a call that is repeated knows its own.
 *
 * Nothing per task that can be per batch: `outbox`, `ended` (what retention and redrive go by, in the order of ending) and
 * `deltas` (counts, added up now and then into `totals`) get a row per statement.
 */
export interface Migration {
  readonly name: string;
  /** `serverVersion` as in server_version_num, for example 150004. */
  readonly statements: (serverVersion: number) => readonly string[];
}

/** Task states as stored. Scheduled is WAITING with a `run_at` to come. */
export const STATE = { WAITING: 0, ACTIVE: 1, COMPLETED: 2, DEAD: 3, CANCELLED: 4, BLOCKED: 5 } as const;

const VACUUM_OFTEN =
  'autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_cost_delay = 0, ' +
  'autovacuum_analyze_scale_factor = 0.05';
/** Small tables whose rows come and go all the time. */
const VACUUM_SMALL =
  'autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0';

const COUNTS = [
  ...['waiting', 'active', 'completed', 'dead', 'cancelled'],
  ...['enqueued_total', 'completed_total', 'failed_total', 'dead_total', 'cancelled_total'],
].map((name) => `${name} bigint NOT NULL DEFAULT 0`);

export const MIGRATIONS: readonly Migration[] = [
  {
    name: 'tasks, queues, workers, outbox',
    statements: (serverVersion) => [
      `CREATE TABLE queues (
        no integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        name text COLLATE "C" NOT NULL UNIQUE,
        paused boolean NOT NULL DEFAULT false,
        completed_count_max integer,
        completed_age_ms bigint,
        dead_count_max integer,
        dead_age_ms bigint,
        low_seq bigint NOT NULL DEFAULT 0
      )`,
      `COMMENT ON COLUMN queues.low_seq IS 'no task of this queue that is not over has a smaller seq'`,
      `CREATE TABLE kinds (
        no integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        queue_no integer NOT NULL REFERENCES queues,
        name text COLLATE "C" NOT NULL,
        priority smallint NOT NULL,
        max_attempts integer NOT NULL,
        timeout_ms bigint NOT NULL,
        backoff_type text NOT NULL,
        backoff_delay_ms bigint NOT NULL,
        backoff_max_delay_ms bigint NOT NULL,
        backoff_jitter boolean NOT NULL,
        UNIQUE (queue_no, name, priority, max_attempts, timeout_ms,
                backoff_type, backoff_delay_ms, backoff_max_delay_ms, backoff_jitter)
      )`,
      `COMMENT ON TABLE kinds IS 'queue, name and options, once for all tasks that share them'`,
      `CREATE TABLE tasks (
        seq bigint GENERATED ALWAYS AS IDENTITY,
        enqueued_at timestamptz NOT NULL,
        queue_no integer NOT NULL,
        kind_no integer NOT NULL,
        finished_at timestamptz,
        run_at timestamptz,
        lease bigint,
        attempt integer NOT NULL DEFAULT 1,
        state smallint NOT NULL DEFAULT 0,
        prior smallint NOT NULL DEFAULT 0,
        cancel_requested boolean NOT NULL DEFAULT false,
        progress text,
        failures text[],
        result bytea,
        id text COLLATE "C" NOT NULL,
        payload bytea NOT NULL
      ) WITH (fillfactor = 33, ${VACUUM_OFTEN})`,
      `COMMENT ON COLUMN tasks.state IS '0 waiting (scheduled while run_at is to come), 1 active, 2 completed, 3 dead, 4 cancelled'`,
      // Tried on every large value and nearly always in vain: payloads that want it are compressed by those who make them.
      `ALTER TABLE tasks ALTER payload SET STORAGE EXTERNAL, ALTER result SET STORAGE EXTERNAL`,
      ...(serverVersion >= 130_000 ? ['ALTER TABLE tasks SET (autovacuum_vacuum_insert_scale_factor = 0.1)'] : []),
      'CREATE UNIQUE INDEX tasks_id ON tasks (id)',
      'CREATE INDEX tasks_in_order ON tasks (queue_no, seq)',
      'CREATE INDEX tasks_scheduled ON tasks (run_at, queue_no) WHERE run_at IS NOT NULL',
      `CREATE TABLE ended (
        queue_no integer NOT NULL,
        dead boolean NOT NULL,
        no bigint GENERATED ALWAYS AS IDENTITY,
        at timestamptz NOT NULL DEFAULT now(),
        seqs bigint[] NOT NULL,
        PRIMARY KEY (queue_no, dead, no)
      ) WITH (${VACUUM_SMALL})`,
      `COMMENT ON TABLE ended IS 'tasks that ended together, oldest first: a task is meant while its finished_at is "at"'`,
      `CREATE TABLE outbox (
        entry text COLLATE "C" PRIMARY KEY,
        created_at timestamptz NOT NULL DEFAULT now(),
        claimed_until timestamptz,
        bytes bigint NOT NULL,
        ids text[] NOT NULL
      ) WITH (${VACUUM_SMALL})`,
      'CREATE INDEX outbox_oldest ON outbox (created_at)',
      `CREATE TABLE deltas (
        at timestamptz NOT NULL DEFAULT now(),
        queue_no integer NOT NULL,
        ${COUNTS.join(', ')}
      ) WITH (${VACUUM_SMALL})`,
      `CREATE TABLE totals (
        queue_no integer PRIMARY KEY,
        ${COUNTS.join(', ')}
      ) WITH (fillfactor = 50, ${VACUUM_SMALL})`,
      `CREATE TABLE workers (
        no integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        id text COLLATE "C" NOT NULL UNIQUE,
        beat_at timestamptz NOT NULL DEFAULT now(),
        left_at timestamptz,
        beat text
      ) WITH (fillfactor = 50, ${VACUUM_SMALL})`,
      `CREATE TABLE cancels (id text COLLATE "C" PRIMARY KEY, at timestamptz NOT NULL DEFAULT now())`,
      `COMMENT ON TABLE cancels IS 'asked for while the task was active'`,
      `CREATE TABLE tombstones (id text COLLATE "C" PRIMARY KEY, until timestamptz NOT NULL)`,
      `COMMENT ON TABLE tombstones IS 'cancelled before their messages came, and forgotten: such a message is dropped'`,
      'CREATE INDEX tombstones_until ON tombstones (until)',
    ],
  },
  {
    name: 'schedules',
    statements: () => [
      `CREATE TABLE schedules (
        name text COLLATE "C" PRIMARY KEY,
        rev integer NOT NULL DEFAULT 1,
        cron text,
        time_zone text,
        every_ms bigint,
        anchor_ms bigint,
        misfire text NOT NULL,
        kind_no integer NOT NULL REFERENCES kinds,
        paused boolean NOT NULL DEFAULT false,
        next_ms bigint,
        last_ms bigint,
        last_id text,
        fired bigint NOT NULL DEFAULT 0,
        made_up integer NOT NULL DEFAULT 0,
        payload bytea NOT NULL
      ) WITH (fillfactor = 50)`,
      `COMMENT ON COLUMN schedules.rev IS 'grows whenever somebody changes what it is; a firing leaves it'`,
      `COMMENT ON COLUMN schedules.made_up IS 'how many of its missed times were fired in a row'`,
      'CREATE INDEX schedules_due ON schedules (next_ms, name) WHERE next_ms IS NOT NULL',
    ],
  },
  {
    name: 'logs of tasks',
    statements: () => ['ALTER TABLE tasks ADD COLUMN log text'],
  },
  {
    name: 'dependencies, unique keys',
    statements: () => relationsStatements(VACUUM_OFTEN, VACUUM_SMALL),
  },
  {
    name: 'event streams',
    statements: () => EVENTS_STATEMENTS,
  },
  {
    name: 'headers of tasks',
    statements: headersStatements,
  },
  {
    name: 'supervisors of workers',
    statements: () => SUPERVISORS_STATEMENTS,
  },
  {
    name: 'every cancelled task is remembered',
    statements: cancelsStatements,
  },
];
