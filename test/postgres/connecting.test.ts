import { createServer } from 'node:net';
import postgres from 'postgres';
import { describe, expect, test } from 'vitest';
import { Database } from '../../src/broker/postgres/database.ts';
import { OWN_CONSTRAINTS } from '../../src/broker/postgres/failures.ts';
import { resolveSettings } from '../../src/broker/postgres/settings.ts';
import { SystemClock } from '../../src/io/clock.ts';
import { SystemRandom } from '../../src/io/random.ts';
import { Arrivals, failure } from '../conformance/events.ts';
import { openStore, shared, tasks, within } from './scene.ts';

/** What a first start finds. */
const EMPTY = { empty: true };

/** Refused, and never taken: what a port does that nobody listens at, and one that nobody answers at. */
async function silentPort(): Promise<{ port: number; close(): void }> {
  const server = createServer((socket) => socket.on('error', () => {}));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as { port: number };
  return { port, close: () => server.close() };
}

describe.skipIf(shared === undefined)('connecting', () => {
  test(
    'many processes that come at once find the tables made once',
    within(async (scene) => {
      const stores = await Promise.all(Array.from({ length: 8 }, () => scene.store()));
      await Promise.all(stores.map((store) => store.insert([tasks(scene.ids(1))])));
      expect((await stores[0]?.status())?.queues[0]).toMatchObject({ ready: 8 });
      expect((await scene.sql`SELECT version FROM migrations`).length).toBeGreaterThan(0);
    }, EMPTY),
  );

  test(
    'tables of a newer version are refused, and left as they are',
    within(async (scene) => {
      await scene.store();
      await scene.sql`INSERT INTO migrations (version, name) VALUES (4711, 'from the future')`;
      const error = await failure(scene.store());
      expect(error.code).toBe('STORE_VERSION');
      expect(error.message).toContain('4711');
      expect(error.message).toContain('millrace');
    }),
  );

  test(
    'each schema is a store of its own, named in the URL or by the option',
    within(async (scene) => {
      const [one, other] = [
        await scene.store({ url: `${scene.url}?schema=one` }),
        await scene.store({ schema: 'other' }),
      ];
      const [id] = scene.ids(1) as [string];
      await one.insert([tasks([id])]);
      expect(await one.getTask(id)).toMatchObject({ state: 'ready' });
      expect((await failure(other.getTask(id))).code).toBe('NOT_FOUND');
      for (const schema of ['', 'Upper', '1x', 'a-b', 'pg_x', 'x'.repeat(49), 'a"; DROP']) {
        expect((await failure(scene.store({ schema }))).code).toBe('INVALID_ARGUMENT');
      }
    }),
  );

  test(
    'a database that is not there, and a password that is wrong, are told at once and without the password',
    within(async (scene) => {
      const url = new URL(scene.url);
      url.password = 'hush-hush';
      url.pathname = '/nowhere';
      const missing = await failure(openStore({ url: url.href, connectTimeoutMs: 60_000 }));
      expect(missing.code).toBe('DISCONNECTED');
      expect(missing.message).toContain('"nowhere"');
      url.pathname = new URL(scene.url).pathname;
      url.username = 'nobody';
      const unknown = await failure(openStore({ url: url.href, connectTimeoutMs: 60_000 }));
      expect(unknown.code).toBe('DISCONNECTED');
      expect(unknown.message).toContain('"nobody"');
      expect(unknown.message).toContain('pg_hba.conf');
      for (const error of [missing, unknown]) {
        expect(JSON.stringify([error, error.message, error.stack, String(error.cause)])).not.toContain('hush-hush');
      }
    }),
  );

  test(
    'a database that cannot hold all texts is refused, and says how to make one that can',
    within(async (scene) => {
      const url = new URL(scene.url);
      const name = `${url.pathname.slice(1)}_latin`;
      await scene.sql`CREATE DATABASE ${scene.sql(name)} ENCODING 'LATIN1' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'`;
      url.pathname = name;
      const error = await failure(openStore({ url: url.href }));
      expect(error).toMatchObject({ code: 'UNSUPPORTED', message: /LATIN1.*ENCODING 'UTF8'/ });
      await scene.sql`DROP DATABASE ${scene.sql(name)}`;
    }),
  );

  test(
    'who may not make tables is told what he needs, and needs nothing where they are made',
    within(async (scene) => {
      await scene.sql`DO $$ BEGIN CREATE ROLE modest LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$`;
      const url = new URL(scene.url);
      url.username = 'modest';
      url.password = '';
      const error = await failure(openStore({ url: url.href }));
      expect(error.code).toBe('STORAGE_FAILED');
      expect(error.message).toContain('CREATE');
      await scene.store();
      await scene.sql`GRANT USAGE ON SCHEMA millrace TO modest`;
      await scene.sql`GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA millrace TO modest`;
      const modest = await scene.store({ url: url.href });
      const [id] = scene.ids(1) as [string];
      const seen = new Arrivals<string>();
      await modest.events({}, { event: ({ type }) => seen.add(type), ended: () => {} });
      await modest.insert([tasks([id])]);
      expect(await modest.cancelTask(id)).toBe('cancelled');
      expect(await seen.count(2)).toEqual(['enqueued', 'cancelled']);
      await scene.sql`REVOKE ALL ON ALL TABLES IN SCHEMA millrace FROM modest`;
      await scene.sql`REVOKE ALL ON SCHEMA millrace FROM modest`;
    }, EMPTY),
  );

  test('nobody who listens, and nobody who answers, is DISCONNECTED after the connect timeout', async () => {
    const silent = await silentPort();
    const deaf = await silentPort();
    deaf.close();
    for (const [port, reason] of [
      [silent.port, 'CONNECT_TIMEOUT'],
      [deaf.port, 'ECONNREFUSED'],
    ] as const) {
      const startMs = performance.now();
      const error = await failure(openStore({ url: `postgres://u:hush@127.0.0.1:${port}/d`, connectTimeoutMs: 300 }));
      expect(error.code).toBe('DISCONNECTED');
      expect(error.message).toContain(`127.0.0.1:${port}/d`);
      expect(error.message).toContain(reason);
      expect(error.message).not.toContain('hush');
      expect(performance.now() - startMs).toBeLessThan(3000);
    }
    silent.close();
  });

  test('hosts that hang up at once are dialled with pauses, and DISCONNECTED after the connect timeout', async () => {
    let dials = 0;
    const server = createServer((socket) => {
      dials++;
      socket.resetAndDestroy();
    });
    const polite = createServer((socket) => {
      dials++;
      socket.on('error', () => {});
      socket.end();
    });
    const ports: number[] = [];
    for (const each of [server, polite]) {
      await new Promise<void>((resolve) => each.listen(0, '127.0.0.1', resolve));
      ports.push((each.address() as { port: number }).port);
    }
    for (const hosts of [...ports, ports.join(',127.0.0.1:')]) {
      dials = 0;
      const startMs = performance.now();
      const error = await failure(openStore({ url: `postgres://u:hush@127.0.0.1:${hosts}/d`, connectTimeoutMs: 1000 }));
      expect(error.code).toBe('DISCONNECTED');
      expect(performance.now() - startMs).toBeLessThan(2000);
      expect(dials).toBeGreaterThan(1);
      expect(dials).toBeLessThan(50);
    }
    server.close();
    polite.close();
  });

  test('two hosts that do not listen are DISCONNECTED after the connect timeout', async () => {
    const [one, other] = [await silentPort(), await silentPort()];
    one.close();
    other.close();
    const hosts = `127.0.0.1:${one.port},127.0.0.1:${other.port}`;
    const startMs = performance.now();
    const error = await failure(openStore({ url: `postgres://u:hush@${hosts}/d`, connectTimeoutMs: 1000 }));
    expect(error.code).toBe('DISCONNECTED');
    expect(error.message).toContain('ECONNREFUSED');
    expect(performance.now() - startMs).toBeLessThan(2000);
  });

  test(
    'of two hosts the one that answers is found, also when the other one comes first',
    within(async (scene) => {
      const deaf = await silentPort();
      deaf.close();
      const { hostname, port, username, pathname } = new URL(scene.url);
      const store = await scene.store({
        url: `postgres://${username}@127.0.0.1:${deaf.port},${hostname}:${port || 5432}${pathname}`,
      });
      const [id] = scene.ids(1) as [string];
      await store.insert([tasks([id])]);
      expect(await store.getTask(id)).toMatchObject({ state: 'ready' });
    }),
  );

  test('what is no URL of PostgreSQL is refused', async () => {
    for (const url of ['', 'mysql://u:hush@h/d', 'postgres', 'postgres://u:hush@h:99999/d', 5 as never]) {
      const error = await failure(openStore({ url }));
      expect(error.code).toBe('INVALID_ARGUMENT');
      expect(error.message).not.toContain('hush');
    }
  });

  test(
    'what a constraint or trigger refuses that somebody has added is a value, and what one of ours refuses is not',
    within(async (scene) => {
      const store = await scene.store();
      const ours = await scene.sql`
        SELECT c.relname AS name FROM pg_index x JOIN pg_class c ON c.oid = x.indexrelid
        WHERE x.indisunique AND c.relnamespace = 'millrace'::regnamespace
        UNION SELECT conname FROM pg_constraint WHERE connamespace = 'millrace'::regnamespace AND contype <> 'n'`;
      expect(ours.map(({ name }) => name).toSorted()).toEqual([...OWN_CONSTRAINTS].toSorted());
      const codes: string[] = [];
      const insert = async (payload: string): Promise<void> => {
        const error = await failure(store.insert([tasks(scene.ids(1), { payloads: [payload] })]));
        codes.push(`${error.code} ${error.details?.sqlState}`);
      };
      await scene.sql`ALTER TABLE tasks ADD CONSTRAINT short CHECK (octet_length(payload) < 10)`;
      await insert('"too long for that"');
      await scene.sql`CREATE UNIQUE INDEX each_once ON tasks (payload)`;
      await store.insert([tasks(scene.ids(1), { payloads: ['"once"'] })]);
      await insert('"once"');
      await scene.sql`
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'not today'; END $$`;
      await scene.sql`
        CREATE TRIGGER refuse BEFORE INSERT ON tasks FOR EACH ROW WHEN (NEW.payload = '2') EXECUTE FUNCTION refuse()`;
      await insert('2');
      // As after a restore in which the sequences are those of another day.
      const [first, second] = scene.ids(2) as [string, string];
      await store.insert([tasks([first, second], { payloads: ['0', '1'] })]);
      await store.cancelTask(first);
      await scene.sql`ALTER TABLE ended ALTER no RESTART WITH 1`;
      const error = await failure(store.cancelTask(second));
      codes.push(`${error.code} ${error.details?.sqlState}`);
      expect(codes).toEqual([
        'INVALID_ARGUMENT 23514',
        'INVALID_ARGUMENT 23505',
        'INVALID_ARGUMENT P0001',
        'STORAGE_FAILED 23505',
      ]);
    }),
  );

  test(
    'the server notices within a minute that a host has vanished',
    within(async (scene) => {
      const settings = { url: scene.url, clock: new SystemClock(), random: new SystemRandom(), connectTimeoutMs: 5000 };
      const database = new Database({ ...settings, driver: postgres, settings: await resolveSettings(settings) });
      const [row] = await database.query('calm', KEEP_ALIVE);
      expect(row).toEqual({ seconds: 60 });
      await database.close(1000);
    }),
  );

  test(
    'after close every call rejects with CLOSED, and close resolves again',
    within(async (scene) => {
      const store = await scene.store({ upkeep: true });
      await store.watch({ cancelRequested: () => {}, paused: () => {}, released: () => {}, watched: () => {} });
      await store.close(1000);
      await store.close(1000);
      for (const call of [store.status(), store.insert([tasks(scene.ids(1))]), store.getTask('t'), store.sweep(0)]) {
        expect((await failure(call)).code).toBe('CLOSED');
      }
    }),
  );

  test(
    'close writes what was gathered',
    within(async (scene) => {
      const store = await scene.store();
      store.published(await store.insert([tasks(scene.ids(3))]));
      await store.close(5000);
      expect(await scene.sql`SELECT entry FROM outbox`).toEqual([]);
    }),
  );
});

const KEEP_ALIVE = `
SELECT current_setting('tcp_keepalives_idle')::integer
  + current_setting('tcp_keepalives_interval')::integer * current_setting('tcp_keepalives_count')::integer AS seconds`;
