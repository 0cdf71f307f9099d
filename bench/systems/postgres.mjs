// @ts-check
import { postgresDirectory } from '../../scripts/services/binaries.mjs';
import { startPostgres } from '../../scripts/services/postgres.mjs';
import { versionOf } from '../../scripts/services/single.mjs';

/** What is advised for a server that is not tiny; `fsync` and `synchronous_commit` stay on. */
const SETTINGS = { shared_buffers: '1GB', max_wal_size: '4GB' };

export const POSTGRES_SETTINGS = Object.entries(SETTINGS)
  .map(([name, value]) => `\`${name}=${value}\``)
  .concat('`vacuum analyze` between rows')
  .join(', ');

export const POSTGRES_DURABILITY = 'PostgreSQL, `fsync` and `synchronous_commit` on: each commit is synced';

/** Autovacuum comes once a minute: until then each row would wade through what the one before has deleted. @param {string} url */
async function vacuum(url) {
  const { default: pg } = await import('pg');
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  await client.query('vacuum analyze');
  await client.end();
}

/** @returns {Promise<import('../lib/system.mjs').Instance>} */
export async function startInstance() {
  const version = await versionOf(`${postgresDirectory()}/postgres`);
  const postgres = await startPostgres({ sync: true, settings: SETTINGS });
  return {
    url: postgres.url,
    version,
    directory: postgres.directory,
    get pids() {
      return postgres.pids;
    },
    rest: () => vacuum(postgres.url),
    kill: () => postgres.kill(),
    start: () => postgres.start(),
    stop: () => postgres.stop(),
  };
}
