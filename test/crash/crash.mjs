import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { check } from './check.mjs';
import { now, readLedger } from './ledger.mjs';
import { Actor, ServerActor } from './processes.mjs';
import { millrace } from './product.mjs';
import { Random } from './random.mjs';

const CLIENTS = 3;
const WORKERS = 2;
const SETTLE_MS_MAX = 180_000;

/** Longer than the tasks' timeout and what the server adds to it. */
const FREEZE_MS = 4000;
/** Every so many kills those who are left get to work: with more behind them than this, starts would only read journals. */
const BREATH_KILLS = 10;
const BACKLOG_MAX = 5_000;
/** All that ended is there in the end, however long the run. */
const KEEP = {
  completedCountMax: 10_000_000,
  completedAgeMs: 30 * 86_400_000,
  deadCountMax: 10_000_000,
  deadAgeMs: 30 * 86_400_000,
};

/**
 * Clients enqueue and workers work while the server and the workers are killed, `kills` times each, and frozen, `freezes`
 * times each, and while the server's wall clock jumps; then everything is left to come to its end, and the ledgers are
 * checked against what the server says.
 *
 * @param {{ kills: number, freezes: number, seed: number, say: (line: string) => void }} options
 */
export async function crash({ kills, freezes, seed, say }) {
  const directory = await mkdtemp(join(tmpdir(), 'millrace-crash-'));
  const scene = new Scene(directory, new Random(seed));
  let report;
  try {
    await scene.begin();
    const counts = await scene.trouble({ kills, freezes }, say);
    const evidence = await scene.end(say);
    report = { seed, ...counts, ...check(evidence), directory };
  } finally {
    await scene.clear();
  }
  if (report.problems.length === 0) await rm(directory, { recursive: true });
  return report;
}

class Scene {
  #directory;
  #random;
  #server;
  /** @type {Actor[]} */
  #clients = [];
  /** @type {Actor[]} */
  #workers = [];
  #workerCount = 0;
  /** @type {Map<Actor, string>} */
  #names = new Map();
  /** When each was killed, by name. @type {Map<string, number>} */
  #killedWorkers = new Map();
  /** When workers went on after they were frozen, by name. @type {Map<string, number>} */
  #thawedWorkers = new Map();

  /**
   * @param {string} directory
   * @param {Random} random
   */
  constructor(directory, random) {
    this.#directory = directory;
    this.#random = random;
    this.#server = new ServerActor(directory);
  }

  async begin() {
    await this.#server.start();
    const client = await millrace.connect(this.#server.url);
    await client.queue('default').retention(KEEP);
    await client.close();
    for (let i = 0; i < CLIENTS; i++) this.#clients.push(this.#actor('client', `client${i}`));
    for (let i = 0; i < WORKERS; i++) this.#startWorker();
  }

  /**
   * @param {{ kills: number, freezes: number }} wanted
   * @param {(line: string) => void} say
   */
  async trouble({ kills, freezes }, say) {
    const counts = { serverKills: 0, startKills: 0, workerKills: 0, serverStops: 0, freezes: 0, jumps: 0 };
    const random = this.#random;
    const freezesLeft = (/** @type {number} */ done) => Math.ceil((freezes * (kills - done)) / kills);
    let said = 0;
    while (counts.serverKills < kills || counts.workerKills < kills) {
      await sleep(random.integer(20, 400));
      this.#checkClients();
      if (random.chance(0.2)) {
        counts.jumps++;
        this.#server.jump();
      }
      if (counts.serverKills >= kills || (counts.workerKills < kills && random.chance(0.5))) {
        counts.workerKills++;
        await this.#killWorker();
      } else if (random.chance(0.1)) {
        counts.serverStops++;
        await this.#server.end('SIGTERM');
        await this.#server.start();
      } else {
        counts.serverKills++;
        await this.#killServer(counts);
      }
      const done = Math.min(counts.serverKills, counts.workerKills);
      while (counts.freezes < freezes - freezesLeft(done)) {
        counts.freezes++;
        await this.#freeze();
      }
      if (done >= said + BREATH_KILLS) {
        said = done;
        say(`${done} kills each`);
        await this.#breathe();
      }
    }
    return counts;
  }

  /** Until what is enqueued is worked off again, nearly: how much that is depends on what else the machine does. */
  async #breathe() {
    for (const { child } of this.#clients) child.stdin?.write('pause');
    const client = await millrace.connect(this.#server.url, { connectTimeoutMs: SETTLE_MS_MAX });
    const deadlineMs = performance.now() + SETTLE_MS_MAX;
    for (;;) {
      const { ready, active } = await client.queue('default').status();
      if (ready + active < BACKLOG_MAX) break;
      if (performance.now() > deadlineMs) throw new Error(`${ready} tasks are ready and ${active} active for too long`);
      await sleep(100);
    }
    await client.close();
    for (const { child } of this.#clients) child.stdin?.write('go');
  }

  /** @param {{ startKills: number }} counts */
  async #killServer(counts) {
    const random = this.#random;
    await this.#server.end('SIGKILL');
    if (random.chance(0.5)) await sleep(random.integer(0, 150));
    const started = this.#server.start();
    if (!random.chance(0.15)) {
      await started;
      return;
    }
    counts.startKills++;
    await Promise.race([sleep(random.integer(0, 300)), started]);
    await this.#server.end('SIGKILL');
    await started;
    await this.#server.start();
  }

  /** A worker and the server, one after the other. */
  async #freeze() {
    const [worker] = this.#workers;
    await worker.freeze(FREEZE_MS);
    this.#thawedWorkers.set(this.#names.get(worker) ?? '', now());
    await this.#server.freeze(FREEZE_MS);
  }

  /** @param {(line: string) => void} say */
  async end(say) {
    say('letting everything come to its end');
    for (const { child } of this.#clients) child.stdin?.end();
    const client = await millrace.connect(this.#server.url);
    await idle(client);
    for (const actor of this.#clients) await expectEnd(actor, 'client', ['0']);
    // What was enqueued and never confirmed was perhaps confirmed only now.
    await idle(client);
    for (const actor of this.#workers) {
      actor.child.kill('SIGTERM');
      // One that was only just started ends by the signal itself.
      await expectEnd(actor, 'worker', ['0', 'SIGTERM']);
    }
    const finals = await readAll(client);
    await client.close();
    await this.#server.end('SIGTERM');
    const files = await readdir(this.#directory);
    /** @param {string} role */
    const entries = (role) =>
      files.filter((name) => name.startsWith(role)).flatMap((name) => readLedger(join(this.#directory, name)));
    const clients = entries('client');
    const workers = entries('worker');
    const [killedWorkers, thawedWorkers] = [this.#killedWorkers, this.#thawedWorkers];
    return { clients, workers, finals, starts: this.#server.starts, killedWorkers, thawedWorkers };
  }

  /** Leaves no process behind. */
  async clear() {
    for (const actor of [...this.#clients, ...this.#workers])
      if (actor.child.exitCode === null) actor.child.kill('SIGKILL');
    await this.#server.end('SIGKILL').catch(() => {});
  }

  #startWorker() {
    const name = `worker${++this.#workerCount}`;
    const worker = this.#actor('worker', name);
    this.#names.set(worker, name);
    this.#workers.push(worker);
  }

  async #killWorker() {
    const [worker] = this.#workers.splice(this.#random.integer(0, this.#workers.length - 1), 1);
    this.#killedWorkers.set(this.#names.get(worker) ?? '', now());
    const how = await worker.end('SIGKILL');
    if (how !== 'SIGKILL') throw new Error(`a worker ended by itself (${how}): ${worker.stderr}`);
    this.#startWorker();
  }

  #checkClients() {
    for (const { child, stderr } of this.#clients) {
      if (child.exitCode !== null) throw new Error(`a client ended by itself (${child.exitCode}): ${stderr}`);
    }
  }

  /**
   * @param {string} role
   * @param {string} name
   */
  #actor(role, name) {
    const program = new URL(`./${role}.mjs`, import.meta.url).pathname;
    const ledger = join(this.#directory, `${name}.ndjson`);
    return new Actor([program, this.#server.url, name, ledger, String(this.#random.integer(1, 2 ** 31))]);
  }
}

/**
 * @param {Actor} actor
 * @param {string} role
 * @param {readonly string[]} allowed
 */
async function expectEnd(actor, role, allowed) {
  const how = await Promise.race([actor.ended, sleep(SETTLE_MS_MAX, 'nothing for too long', { ref: false })]);
  if (!allowed.includes(how)) throw new Error(`a ${role} ended with ${how}: ${actor.stderr}`);
}

/**
 * Resolves when nothing waits and nothing runs.
 *
 * @param {import('../../src/index.ts').Client} client
 */
async function idle(client) {
  const deadlineMs = performance.now() + SETTLE_MS_MAX;
  for (;;) {
    const { ready, active, scheduled } = await client.queue('default').status();
    if (ready + active + scheduled === 0) return;
    if (performance.now() > deadlineMs) {
      throw new Error(`${ready} ready, ${active} active and ${scheduled} scheduled after ${SETTLE_MS_MAX} ms`);
    }
    await sleep(50);
  }
}

/**
 * Every task that the server has.
 *
 * @param {import('../../src/index.ts').Client} client
 * @returns {Promise<import('./check.mjs').Final[]>}
 */
async function readAll(client) {
  const finals = [];
  let after;
  do {
    const page = await client.tasks.list({ after, limit: 500 });
    const infos = await Promise.all(page.tasks.map(({ id }) => client.tasks.get(id)));
    for (const { id, state, attempt, maxAttempts, payload, result, failures } of infos) {
      finals.push({
        ...{ id, state, attempt, maxAttempts, failures: failures.length },
        payload: JSON.parse(payload?.data ?? 'null'),
        result: result === undefined ? undefined : JSON.parse(result.data),
      });
    }
    after = page.next;
  } while (after !== undefined);
  return finals;
}
