/**
 * The history of `--watch` in one SQLite file: minutes, hours and outages of each
 * target. A crash in any moment leaves a file that can be read, without the last
 * minute at most.
 *
 * @module
 */
import * as sqlite from "node:sqlite";
import { HOUR_MS, joined, KEPT, type Part } from "../show/history.ts";
import type { TargetOutage } from "../watch_state.ts";

/** The file; errors of the system are thrown. */
export class Store {
  readonly #db: sqlite.DatabaseSync;
  readonly #statements = new Map<string, sqlite.StatementSync>();
  /** The target that was compacted last. */
  #compacted = 0;
  /** What is not written yet, as a disk may be full for a while. */
  #waiting: Array<[table: "part" | "outage", name: string, values: object]> =
    [];
  /** The number of entries that wait. */
  get waiting(): number {
    return this.#waiting.length;
  }

  /** Entries that were dropped, since too many waited. */
  dropped = 0;

  /** Opens or creates the file, which keeps hours for some days. */
  constructor(path: string, readonly keepDays: number) {
    const db = this.#db = new sqlite.DatabaseSync(path, { timeout: BUSY_MS });
    const valueOf = (sql: string) => Object.values(db.prepare(sql).get()!)[0];
    // No other watch may write it.
    db.exec("PRAGMA locking_mode = EXCLUSIVE");
    const isNew = valueOf("SELECT count(*) FROM sqlite_master") === 0;
    if (!isNew && valueOf("PRAGMA application_id") !== APPLICATION) {
      throw new Error("it is a database of another program");
    }
    const version = valueOf("PRAGMA user_version");
    if (!isNew && version !== VERSION) {
      throw new Error(`it has version ${version}, this is for ${VERSION}`);
    }
    db.exec(SCHEMA);
  }

  /** Adds a part, which {@linkcode Store.write} writes. */
  addPart(name: string, part: Part): void {
    this.#add("part", name, part);
  }

  /** Adds an outage that has ended. */
  addOutage(name: string, { fromMs, toMs, datagrams }: TargetOutage): void {
    this.#add("outage", name, { at: fromMs, until: toMs, datagrams });
  }

  #add(table: "part" | "outage", name: string, values: object): void {
    this.#waiting.push([table, name, values]);
    if (this.#waiting.length <= MAX_WAITING) return;
    this.#waiting.shift();
    this.dropped++;
  }

  /** Writes what waits, all of it or nothing. */
  write(): void {
    if (this.#waiting.length === 0) return;
    this.#transact(() => {
      for (const [table, name, values] of this.#waiting) {
        this.#run(NAME_SQL, { name });
        const sql = table === "part" ? PART_SQL : OUTAGE_SQL;
        this.#run(sql, { name, ...values });
      }
    });
    this.#waiting = [];
  }

  /** The parts of a target since a time, and its outages. */
  read(name: string, from: number): { parts: Part[]; outages: TargetOutage[] } {
    const all = <Row>(sql: string) =>
      this.#db.prepare(sql).all({ name, from }) as Row[];
    return {
      parts: all<Part>(
        `SELECT at, rtts, ${KEPT} FROM part WHERE ${OF_NAME} AND at >= :from`,
      ),
      outages: all<TargetOutage>(
        `SELECT at AS fromMs, until AS toMs, datagrams FROM outage
        WHERE ${OF_NAME} AND until >= :from`,
      ),
    };
  }

  /**
   * Makes hours of the next target's old minutes, and deletes what is too old: one
   * target a call, so that none takes long.
   */
  compact(now: number): void {
    const [until, from] = [now - KEEP_MINUTES_MS, now - this.keepDays * DAY_MS];
    const next = this.#db.prepare(
      "SELECT id, name FROM target ORDER BY id <= :last, id LIMIT 1",
    ).get({ last: this.#compacted });
    if (next === undefined) return;
    const { id, name } = next as { id: number; name: string };
    this.#compacted = id;
    const minutes = this.#db.prepare(
      `SELECT at, rtts, ${KEPT} FROM part
      WHERE id = :id AND at < :until AND at % ${HOUR_MS} > 0`,
    ).all({ id, until }) as unknown as Part[];
    const hours = Map.groupBy(minutes, ({ at }) => at - at % HOUR_MS);
    this.#transact(() => {
      for (const [at, parts] of hours) {
        this.#run(PART_SQL, { name, ...joined(parts), at });
      }
      this.#run(
        `DELETE FROM part WHERE id = :id
        AND (at < :from OR at < :until AND at % ${HOUR_MS} > 0)`,
        { id, from, until },
      );
      this.#run("DELETE FROM outage WHERE id = :id AND until < :from", {
        ...{ id, from },
      });
    });
  }

  close(): void {
    this.#db.close();
  }

  #run(sql: string, values: object): void {
    let statement = this.#statements.get(sql);
    if (statement === undefined) {
      this.#statements.set(sql, statement = this.#db.prepare(sql));
    }
    statement.run(values as Record<string, sqlite.SQLInputValue>);
  }

  #transact(change: () => void): void {
    this.#db.exec("BEGIN");
    try {
      change();
      this.#db.exec("COMMIT");
    } catch (error) {
      // The system may have rolled it back already.
      if (this.#db.isTransaction) this.#db.exec("ROLLBACK");
      throw error;
    }
  }
}

/** "rtrp" in ASCII. */
const APPLICATION = 0x72747270;
const VERSION = 1;
const DAY_MS = 24 * HOUR_MS;
const KEEP_MINUTES_MS = 2 * DAY_MS;
const BUSY_MS = 100;
const MAX_WAITING = 60_000;
const OF_NAME = "id = (SELECT id FROM target WHERE name = :name)";
const SCHEMA = `
PRAGMA journal_mode = WAL;
PRAGMA synchronous = NORMAL;
PRAGMA application_id = ${APPLICATION};
PRAGMA user_version = ${VERSION};
CREATE TABLE IF NOT EXISTS target (id INTEGER PRIMARY KEY, name TEXT UNIQUE);
CREATE TABLE IF NOT EXISTS part (
  id INTEGER, at INTEGER, ${KEPT.map((name) => `${name} INTEGER`)}, rtts TEXT,
  PRIMARY KEY (id, at)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS outage (
  id INTEGER, at INTEGER, until INTEGER, datagrams INTEGER,
  PRIMARY KEY (id, at)
) WITHOUT ROWID;`;
const NAME_SQL = "INSERT OR IGNORE INTO target (name) VALUES (:name)";
/** Two parts of one minute, as after a restart, are added. */
const PART_SQL = `INSERT INTO part (id, at, rtts, ${KEPT})
SELECT id, :at, :rtts, ${KEPT.map((name) => `:${name}`)}
FROM target WHERE name = :name
ON CONFLICT DO UPDATE SET rtts = trim(rtts || ' ' || excluded.rtts),
${KEPT.map((name) => `${name} = ${name} + excluded.${name}`)}`;
const OUTAGE_SQL = `INSERT OR REPLACE INTO outage (id, at, until, datagrams)
SELECT id, :at, :until, :datagrams FROM target WHERE name = :name`;
