import { LIMITS } from '../../limits.ts';
import type { ScalingReport, SupervisorStatus } from '../contract.ts';
import type { Database } from './database.ts';
import { msOf } from './encode.ts';

/** Step of the schema. */
export const SUPERVISORS_STATEMENTS = [
  `CREATE TABLE supervisors (
    id text COLLATE "C" PRIMARY KEY,
    report text NOT NULL,
    heard_at timestamptz NOT NULL
  ) WITH (fillfactor = 50)`,
  `COMMENT ON TABLE supervisors IS 'what supervisors of worker processes said last, as JSON'`,
];

/** Those that nobody hears of any more go with what the next one says. */
export async function writeReport(database: Database, report: ScalingReport): Promise<void> {
  await database.query('lazy', REPORT, [report.id, JSON.stringify(report), LIMITS.scalingForgottenMs]);
}

export async function readSupervisors(database: Database): Promise<SupervisorStatus[]> {
  const rows = await database.query('calm', SUPERVISORS, [LIMITS.scalingForgottenMs, LIMITS.supervisorsMax]);
  return rows.map(({ report, silent_ms }) => ({
    ...(JSON.parse(report as string) as ScalingReport),
    lastSeenMs: Math.max(0, Math.round(silent_ms as number)),
  }));
}

const REPORT = `
WITH forgotten AS (
  DELETE FROM supervisors WHERE id <> $1::text AND heard_at < now() - $3::float8 * interval '1 millisecond'
)
INSERT INTO supervisors (id, report, heard_at) VALUES ($1::text, $2::text, now())
ON CONFLICT (id) DO UPDATE SET report = excluded.report, heard_at = excluded.heard_at`;

const SUPERVISORS = `
SELECT report, ${msOf('now()')} - ${msOf('heard_at')} AS silent_ms FROM supervisors
WHERE heard_at > now() - $1::float8 * interval '1 millisecond' ORDER BY heard_at DESC LIMIT $2::integer`;
