import { LIMITS } from '../../limits.ts';
import type { NewTasks, Unpublished } from '../store.ts';
import type { Database } from './database.ts';
import { bytesOf, headersArray, headersText, numberArray, pack, textArray } from './encode.ts';
import type { Kinds } from './kinds.ts';
import type { Parameter } from './lane.ts';

interface Chunk {
  readonly ids: string[];
  readonly parameters: Parameter[];
  readonly entries: string[];
}

/**
 * New tasks: one statement for everything that a turn gathered, or, where that is very much, several in one transaction.
 * May be repeated after an unknown outcome: what is there already, tasks and entries of the outbox, is left alone.
 */
export class Insertion {
  readonly #database: Database;
  readonly #kinds: Kinds;
  readonly #newEntry: () => string;

  constructor(database: Database, kinds: Kinds, newEntry: () => string) {
    this.#database = database;
    this.#kinds = kinds;
    this.#newEntry = newEntry;
  }

  async insert(batches: readonly NewTasks[]): Promise<Unpublished> {
    const kinds = await this.#kinds.of(batches.map((batch) => batch.spec));
    const collector = new Collector(this.#newEntry);
    for (const [index, batch] of batches.entries()) {
      const { no, queueNo } = kinds[index] as { no: number; queueNo: number };
      const headers = headersText(batch.headers);
      for (let task = 0; task < batch.ids.length; task++) collector.add(batch, task, headers, no, queueNo);
    }
    const chunks = collector.end();
    if (chunks.length === 1) await this.#database.query('durable', INSERT, (chunks[0] as Chunk).parameters);
    else if (chunks.length > 1) {
      await this.#database.transaction(async (session) => {
        for (const { parameters } of chunks) await session.query(INSERT, parameters);
      });
    }
    return { entries: chunks.flatMap((chunk) => chunk.entries) };
  }
}

/** Cuts what comes into statements, and each statement's tasks into entries of the outbox that can be published at once. */
class Collector {
  readonly #newEntry: () => string;
  readonly #chunks: Chunk[] = [];
  #ids: string[] = [];
  #queues: number[] = [];
  #kinds: number[] = [];
  #enqueuedAtMs: number[] = [];
  #runAtMs: (number | null)[] = [];
  #payloads: NewTasks['payloads'][number][] = [];
  #headers: (string | null)[] = [];
  #bytes = 0;
  #entries: { name: string; first: number; bytes: number; last: number }[] = [];

  constructor(newEntry: () => string) {
    this.#newEntry = newEntry;
  }

  add(batch: NewTasks, index: number, headers: string | null, kindNo: number, queueNo: number): void {
    const payload = batch.payloads[index] as NewTasks['payloads'][number];
    const bytes = bytesOf(payload) + (headers === null ? 0 : headers.length);
    const full = this.#ids.length === LIMITS.storeStatementTasksMax;
    if (full || (this.#bytes + bytes > LIMITS.storeStatementBytesMax && this.#ids.length > 0)) this.#cut();
    this.#ids.push(batch.ids[index] as string);
    this.#queues.push(queueNo);
    this.#kinds.push(kindNo);
    this.#enqueuedAtMs.push(batch.enqueuedAtMs);
    this.#runAtMs.push(batch.runAtMs ?? null);
    this.#payloads.push(payload);
    this.#headers.push(headers);
    this.#bytes += bytes;
    const position = this.#ids.length;
    const entry = this.#entries.at(-1);
    const open =
      entry !== undefined &&
      position - entry.first < LIMITS.storePortionTasks &&
      entry.bytes + bytes <= LIMITS.storePortionBytes;
    if (open) {
      entry.last = position;
      entry.bytes += bytes;
    } else this.#entries.push({ name: this.#newEntry(), first: position, last: position, bytes });
  }

  end(): Chunk[] {
    this.#cut();
    return this.#chunks;
  }

  #cut(): void {
    if (this.#ids.length === 0) return;
    const packed = pack(this.#payloads);
    const entries = this.#entries;
    this.#chunks.push({
      ids: this.#ids,
      entries: entries.map((entry) => entry.name),
      parameters: [
        textArray(this.#ids),
        numberArray(this.#queues),
        numberArray(this.#kinds),
        numberArray(this.#enqueuedAtMs),
        numberArray(this.#runAtMs),
        packed.bytes,
        packed.starts,
        packed.lengths,
        textArray(entries.map((entry) => entry.name)),
        numberArray(entries.map((entry) => entry.first)),
        numberArray(entries.map((entry) => entry.last)),
        numberArray(entries.map((entry) => entry.bytes)),
        headersArray(this.#headers),
      ],
    });
    this.#ids = [];
    this.#queues = [];
    this.#kinds = [];
    this.#enqueuedAtMs = [];
    this.#runAtMs = [];
    this.#payloads = [];
    this.#headers = [];
    this.#entries = [];
    this.#bytes = 0;
  }
}

// The times are the producer's clock; whether `run_at` has come is asked of the database's.
const INSERT = `
WITH made AS (
  INSERT INTO tasks (id, queue_no, kind_no, enqueued_at, run_at, payload, headers)
  SELECT a.id, a.queue_no, a.kind_no, to_timestamp(a.enqueued_at / 1000.0), to_timestamp(a.run_at / 1000.0),
         substring($6::bytea FROM a.start FOR a.length), a.headers
  FROM unnest($1::text[], $2::integer[], $3::integer[], $4::float8[], $5::float8[], $7::integer[], $8::integer[], $13::text[])
         AS a(id, queue_no, kind_no, enqueued_at, run_at, start, length, headers)
  ON CONFLICT (id) DO NOTHING
  RETURNING queue_no
), counted AS (
  INSERT INTO deltas (queue_no, waiting, enqueued_total)
  SELECT queue_no, count(*), count(*) FROM made GROUP BY queue_no
)
INSERT INTO outbox (entry, ids, bytes)
SELECT e.entry, ($1::text[])[e.first:e.last], e.bytes
FROM unnest($9::text[], $10::integer[], $11::integer[], $12::bigint[]) AS e(entry, first, last, bytes)
ON CONFLICT (entry) DO NOTHING`;
