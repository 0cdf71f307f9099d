import { MillraceError } from '../../errors.ts';
import type { Database } from './database.ts';
import type { Session } from './lane.ts';
import { MIGRATIONS } from './schema.ts';

/** Of the advisory lock under which tables are made; the second number is the schema's. Spells "mill". */
const LOCK = 0x6d_69_6c_6c;

/** Texts of tasks are any that JavaScript has. */
async function checkEncoding(database: Database): Promise<void> {
  const [row] = await database.query('calm', `SELECT current_setting('server_encoding') AS encoding`);
  const encoding = String(row?.encoding);
  if (encoding === 'UTF8') return;
  const { place } = database.settings;
  const message = `the database at ${place} has the encoding ${encoding}, which cannot hold all texts: make one with CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0`;
  throw new MillraceError('UNSUPPORTED', message, { details: { place, encoding } });
}

/**
 * Brings the tables up to this version, each step in a transaction of its own. Safe with any number of processes at once:
 * they go one after the other, and find it done. Where nothing is to be done it needs no right to make tables.
 * Rejects STORE_VERSION when a newer version was here, and UNSUPPORTED in a database that is not in UTF-8.
 */
export async function migrate(database: Database): Promise<void> {
  const { schema } = database.settings;
  await checkEncoding(database);
  while ((await database.run('calm', (session) => versionOf(session, schema))) < MIGRATIONS.length) {
    await database.transaction(async (session) => {
      await session.query('SELECT pg_advisory_xact_lock($1, hashtext($2))', [LOCK, schema]);
      await session.query(`CREATE SCHEMA IF NOT EXISTS ${schema}`, []);
      await session.query(
        `CREATE TABLE IF NOT EXISTS ${schema}.migrations (
          version integer PRIMARY KEY,
          name text NOT NULL,
          applied_at timestamptz NOT NULL DEFAULT now()
        )`,
        [],
      );
      const version = await versionOf(session, schema);
      const migration = MIGRATIONS[version];
      if (migration === undefined) return;
      const [{ number }] = (await session.query(
        `SELECT current_setting('server_version_num')::integer AS number`,
        [],
      )) as [{ number: number }];
      for (const statement of migration.statements(number)) await session.query(statement, []);
      await session.query('INSERT INTO migrations (version, name) VALUES ($1, $2)', [version + 1, migration.name]);
    });
  }
}

/** How many steps were done: 0 when there is nothing yet. */
async function versionOf(session: Session, schema: string): Promise<number> {
  const [{ there }] = (await session.query('SELECT to_regclass($1) IS NOT NULL AS there', [
    `${schema}.migrations`,
  ])) as [{ there: boolean }];
  if (!there) return 0;
  const [{ version }] = (await session.query('SELECT coalesce(max(version), 0) AS version FROM migrations', [])) as [
    { version: number },
  ];
  if (version <= MIGRATIONS.length) return version;
  throw new MillraceError(
    'STORE_VERSION',
    `the tables in the schema ${schema} are of version ${version}, and this program knows ${MIGRATIONS.length}: use a newer Millrace, or another schema`,
    { details: { version, known: MIGRATIONS.length } },
  );
}
