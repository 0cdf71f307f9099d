import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import amqp from 'amqplib';
import postgres from 'postgres';
import { describe, expect, test } from 'vitest';
import {
  postgresPrograms,
  rabbitPrograms,
  sharedPostgres,
  sharedRabbit,
  startPostgres,
  startRabbit,
} from '../support/services.ts';

const rabbit = await sharedRabbit();
const database = await sharedPostgres();
const ownRabbit = await rabbitPrograms();
const ownPostgres = await postgresPrograms();

describe.skipIf(rabbit === undefined)('the shared RabbitMQ', () => {
  test('gives each who asks a virtual host of their own, and takes it back with its connections', async () => {
    const [one, other] = await Promise.all([rabbit!.vhost(), rabbit!.vhost()]);
    const connection = await amqp.connect(one.url);
    connection.on('error', () => {});
    const closed = new Promise((resolve) => connection.once('close', resolve));
    await (await connection.createChannel()).assertQueue('mine', { durable: true });
    const elsewhere = await amqp.connect(other.url);
    const channel = await elsewhere.createChannel();
    channel.on('error', () => {});
    await expect(channel.checkQueue('mine')).rejects.toThrow('NOT_FOUND');
    await elsewhere.close();
    await one.drop();
    await closed;
    await other.drop();
    await expect(amqp.connect(one.url)).rejects.toThrow();
  });
});

describe.skipIf(database === undefined)('the shared PostgreSQL', () => {
  test('gives each who asks a database of their own, and takes it back with its connections', async () => {
    const [one, other] = await Promise.all([database!.database(), database!.database()]);
    const sql = postgres(one.url, { max: 1 });
    await sql`create table mine (id int)`;
    const elsewhere = postgres(other.url, { max: 1 });
    await expect(elsewhere`select * from mine`).rejects.toThrow('does not exist');
    await elsewhere.end();
    await one.drop();
    await expect(sql`select * from mine`).rejects.toThrow();
    await sql.end({ timeout: 1 });
    await other.drop();
  });
});

describe.skipIf(!ownRabbit)('a private RabbitMQ', () => {
  test('can be killed with clients connected, and has its confirmed messages when it is started again', async () => {
    const own = await startRabbit();
    try {
      const connection = await amqp.connect(own.url);
      connection.on('error', () => {});
      const lost = new Promise((resolve) => connection.once('close', resolve));
      const channel = await connection.createConfirmChannel();
      channel.on('error', () => {});
      // Not a quorum queue: 3.10 forgets one that was declared a moment before the kill.
      await channel.assertQueue('kept', { durable: true });
      channel.sendToQueue('kept', Buffer.from('a message'), { persistent: true });
      await channel.waitForConfirms();
      await own.kill();
      await lost;
      await own.start();
      const again = await amqp.connect(own.url);
      const got = await (await again.createChannel()).get('kept', { noAck: true });
      expect((got as amqp.GetMessage).content.toString()).toBe('a message');
      await again.close();
    } finally {
      await own.stop();
    }
  }, 120_000);
});

describe.skipIf(!ownPostgres)('a private PostgreSQL', () => {
  test('can be killed with clients connected, and has what was committed when it is started again', async () => {
    const own = await startPostgres();
    try {
      const sql = postgres(own.url, { max: 1, onnotice: () => {} });
      await sql`create table kept (id int)`;
      await sql`insert into kept values (7)`;
      await own.kill();
      await own.start();
      const after = postgres(own.url, { max: 1 });
      expect(await after`select id from kept`).toEqual([{ id: 7 }]);
      await after.end();
      await own.halt();
      await own.start();
      await sql.end({ timeout: 1 });
    } finally {
      await own.stop();
    }
  }, 120_000);

  test('is gone, with its data, soon after its owner is killed', async () => {
    const services = new URL('../../scripts/services/postgres.mjs', import.meta.url).href;
    const program = `
      const { startPostgres } = await import(${JSON.stringify(services)});
      const postgres = await startPostgres();
      console.log(JSON.stringify({ url: postgres.url, directory: postgres.directory }));
      setInterval(() => {}, 1000);`;
    const owner = spawn(process.execPath, ['--input-type=module', '-e', program], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const [line] = await once(createInterface({ input: owner.stdout }), 'line');
    const { url, directory } = JSON.parse(line);
    expect(existsSync(directory)).toBe(true);
    owner.kill('SIGKILL');
    const deadline = performance.now() + 15_000;
    while (existsSync(directory) && performance.now() < deadline) await sleep(20);
    expect(existsSync(directory)).toBe(false);
    const sql = postgres(url, { max: 1, connect_timeout: 2 });
    await expect(sql`select 1`).rejects.toThrow(/ECONNREFUSED|CONNECT_TIMEOUT/);
    await sql.end({ timeout: 1 });
  }, 60_000);
});

test('a browser that was named and does not run is refused, and no other is taken', () => {
  const services = new URL('../../scripts/services/chromium.mjs', import.meta.url).href;
  const program = `
    const { findChromium } = await import(${JSON.stringify(services)});
    await findChromium({ tell: console.error }).catch((error) => console.log(error.message));`;
  const env = { ...process.env, CHROMIUM_PATH: '/no/such/chromium' };
  const { stdout, stderr } = spawnSync(process.execPath, ['--input-type=module', '-e', program], {
    encoding: 'utf8',
    env,
  });
  expect({ stdout, stderr }).toEqual({
    stdout: expect.stringMatching(/^no Chromium here \(\/no\/such\/chromium does not run: .*CHROMIUM_PATH/),
    stderr: '',
  });
});

test.each([
  [['--help'], { status: 0, stderr: '', stdout: expect.stringMatching(/^Usage: npm run services\n/) }],
  [['--port', '1'], { status: 2, stdout: '', stderr: expect.stringMatching(/was given: --port 1\n$/) }],
])('npm run services -- %j starts nothing', (args, outcome) => {
  const main = fileURLToPath(new URL('../../scripts/services/main.mjs', import.meta.url));
  expect(spawnSync(process.execPath, [main, ...args], { encoding: 'utf8' })).toMatchObject(outcome);
});
