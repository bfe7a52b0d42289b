/**
 * Options of the library's functions. Each is one entry of a table: kind, range,
 * unit and default. Checks, help and tests are made from the tables.
 *
 * @module
 */
import { isHost } from "../address.ts";

/** The facts of an option, for help and tests. */
export interface Facts {
  /** The type or class of its values, such as `integer`. */
  readonly kind: string;
  /** The bounds of a number or of a number of bytes, themselves included. */
  readonly min?: number;
  readonly max?: number;
  readonly unit?: string;
}

/**
 * One option.
 *
 * @typeParam Value The values that it takes.
 * @typeParam Unset Its value where the caller gives none.
 * @typeParam Default Its documented default.
 */
export interface Option<Value, Unset = Value, Default = Unset> extends Facts {
  /** The correct values, for messages: `'port' must be` and these words. */
  readonly words: string;
  readonly unset: Unset;
  readonly default: Default;
  /** The class of the error for a wrong value; undefined for a correct one. */
  readonly judge: (value: unknown) => ErrorConstructor | undefined;
  /**
   * Gives the value if it is correct, or throws an error that names the option.
   *
   * @throws {TypeError} If it is of a wrong type.
   * @throws {RangeError} If it is out of range.
   */
  readonly read: (value: unknown, name: string) => Value;
}

/** A table with an entry for each option of an interface. */
export type Table<Options> = {
  readonly [Name in keyof Options]-?: Option<
    Exclude<Options[Name], undefined>,
    Options[Name]
  >;
};

/** Any table. */
export type AnyTable = Readonly<Record<string, Option<unknown>>>;

/** The checked options of a table, with their defaults. */
export type Values<Table> = {
  [Name in keyof Table]: Table[Name] extends
    Option<infer Value, infer Unset, unknown> ? Value | Unset : never;
};

/**
 * Checks a caller's options by their table, and fills in defaults. Each is read once;
 * undefined is the default. Errors name the function that takes them, and `name`, the
 * object itself.
 *
 * @throws {TypeError} If they are no object, one is unknown or of a wrong type.
 * @throws {RangeError} If a number is out of range.
 */
export function readAll<Table extends AnyTable>(
  owner: string,
  table: Table,
  options: unknown,
  name = "options",
): Values<Table> {
  const given = ANY_OBJECT.read(options, name);
  for (const key in given) {
    if (Object.hasOwn(table, key)) continue;
    // A program may have added a property to all objects: it is no option.
    if (Object.keys(Object.prototype).includes(key)) continue;
    throw unknownOption(key, owner, table);
  }
  const values: Record<string, unknown> = {};
  for (const key in table) {
    if (!Object.hasOwn(table, key)) continue;
    const { read, unset } = table[key]!;
    const value = given[key];
    values[key] = value === undefined ? unset : read(value, key);
  }
  return values as Values<Table>;
}

/** The documented defaults of a table. */
export function defaultsOf<Table extends AnyTable>(
  table: Table,
): { [Name in keyof Table]: Table[Name]["default"] } {
  const values: Record<string, unknown> = {};
  for (const key of Object.keys(table)) values[key] = table[key]!.default;
  return values as ReturnType<typeof defaultsOf<Table>>;
}

/** An option whose default depends on others: its value is undefined if unset. */
export function dependent<Value, Default>(
  option: Option<Value, unknown, Default>,
): Option<Value, undefined, Default> {
  return { ...option, unset: undefined };
}

/** An option of any kind; for `words` and `judge` see {@linkcode Option}. */
export function custom<Value, Default extends Value | undefined = undefined>(
  words: string,
  judge: (value: unknown) => ErrorConstructor | undefined,
  byDefault?: Default,
  facts: Facts = { kind: "custom" },
): Option<Value, Default> {
  return {
    ...facts,
    words,
    unset: byDefault as Default,
    default: byDefault as Default,
    judge,
    read: (value, name) => {
      const WrongError = judge(value);
      if (WrongError === undefined) return value as Value;
      // A key in another form than bytes is not for logs.
      const current = facts.kind === "bytes" ? typeof value : shown(value);
      throw new WrongError(
        `'${name}' must be ${words}: current value is ${current}`,
      );
    },
  };
}

/** An integer. */
export function integer<Default extends number | undefined = undefined>(
  min: number,
  max: number,
  byDefault?: Default,
): Option<number, Default> {
  return custom(
    `an integer from ${min} to ${max}`,
    (value) =>
      outside(value, min, max) ??
        (Number.isInteger(value) ? undefined : RangeError),
    byDefault,
    { kind: "integer", min, max },
  );
}

/** A number that may have a fraction. */
export function real<Default extends number | undefined = undefined>(
  min: number,
  max: number,
  byDefault?: Default,
  unit = "",
): Option<number, Default> {
  return custom(
    `a number from ${min} to ${max}${unit}`,
    (value) => outside(value, min, max),
    byDefault,
    { kind: "number", min, max, unit },
  );
}

/** A time in milliseconds, up to a day. */
export function time<Default extends number | undefined = undefined>(
  min: number,
  byDefault?: Default,
): Option<number, Default> {
  return real(min, MAX_MS, byDefault, " ms");
}

/** A number that may also be Infinity, for no limit. */
export function orInfinity<Unset extends number | undefined>(
  number: Option<number, Unset>,
): Option<number, Unset> {
  return custom(
    `${number.words} or Infinity`,
    (value) => value === Infinity ? undefined : number.judge(value),
    number.unset,
    number,
  );
}

/** A boolean. */
export function flag<Default extends boolean | undefined = undefined>(
  byDefault?: Default,
): Option<boolean, Default> {
  const judge = (value: unknown) =>
    typeof value === "boolean" ? undefined : TypeError;
  return custom("a boolean", judge, byDefault, { kind: "boolean" });
}

/** A string. */
export function text<Default extends string | undefined = undefined>(
  byDefault?: Default,
): Option<string, Default> {
  const judge = (value: unknown) =>
    typeof value === "string" ? undefined : TypeError;
  return custom("a string", judge, byDefault, { kind: "string" });
}

/** An IP address or a host name. */
export function host<Default extends string | undefined = undefined>(
  byDefault?: Default,
): Option<string, Default> {
  const judge = (value: unknown) =>
    typeof value === "string" && isHost(value) ? undefined : TypeError;
  const words = "an IP address or a name, without a port";
  return custom(words, judge, byDefault, { kind: "string" });
}

/** A function. */
export function callback<Value, Default extends Value | undefined = undefined>(
  byDefault?: Default,
): Option<Value, Default> {
  const judge = (value: unknown) =>
    typeof value === "function" ? undefined : TypeError;
  return custom("a function", judge, byDefault, { kind: "function" });
}

/** One of a few names. */
export function oneOf<
  Name extends string,
  Default extends Name | undefined = undefined,
>(names: readonly Name[], byDefault?: Default): Option<Name, Default> {
  return custom(
    `one of ${names.join(", ")}`,
    (value) => names.includes(value as Name) ? undefined : TypeError,
    byDefault,
    { kind: "name" },
  );
}

/** An array. */
export function list<
  Value,
  Default extends readonly Value[] | undefined = undefined,
>(
  element: Option<Value, unknown>,
  byDefault?: Default,
): Option<readonly Value[], Default> {
  return custom(
    `an array, each element ${element.words}`,
    (value) =>
      Array.isArray(value)
        ? Array.from(value, element.judge).find((wrong) => wrong !== undefined)
        : TypeError,
    byDefault,
    { kind: "list" },
  );
}

/** An object of any content. */
export function object<Value>(): Option<Value, undefined> {
  const judge = (value: unknown) =>
    typeof value === "object" && value !== null ? undefined : TypeError;
  return custom("an object", judge, undefined, { kind: "object" });
}

/** An option that ends something when aborted. */
export const SIGNAL: Option<AbortSignal, undefined> = custom(
  "an AbortSignal",
  (value) => value instanceof AbortSignal ? undefined : TypeError,
  undefined,
  { kind: "AbortSignal" },
);

/** The longest name that may be a misspelled one. */
const MAX_NAME = 50;
/** The longest time: a day, far from the 24.8 days at which timers overflow. */
export const MAX_MS = 86_400_000;

const ANY_OBJECT = object<Record<string, unknown>>();

function outside(
  value: unknown,
  min: number,
  max: number,
): ErrorConstructor | undefined {
  if (typeof value !== "number") return TypeError;
  return value >= min && value <= max ? undefined : RangeError;
}

/** A value in one short line. */
function shown(value: unknown): string {
  if (typeof value === "string") return JSON.stringify(value).slice(0, 60);
  if (Array.isArray(value)) return `[${value.map(shown)}]`.slice(0, 60);
  if (typeof value === "bigint") return `${value}n`;
  const isLong = typeof value === "function" ||
    (typeof value === "object" && value !== null);
  return isLong ? typeof value : String(value);
}

function unknownOption(name: string, owner: string, table: AnyTable): Error {
  const known = Object.keys(table);
  const limit = Math.min(2, name.length / 2);
  const isNear = (one: string) =>
    name.length <= MAX_NAME &&
    edits(one.toLowerCase(), name.toLowerCase()) <= limit;
  const near = known.find((one) => one.startsWith(name)) ?? known.find(isNear);
  const hint = near === undefined
    ? `there are ${known.join(", ")}`
    : `did you mean '${near}'?`;
  const shownName = name.slice(0, MAX_NAME);
  return new TypeError(`Cannot use option '${shownName}' of ${owner}: ${hint}`);
}

/** The number of letters to insert, remove or replace. */
function edits(one: string, other: string): number {
  let row = Array.from({ length: other.length + 1 }, (_, i) => i);
  for (const [i, letter] of [...one].entries()) {
    const next = [i + 1];
    for (const [j, wanted] of [...other].entries()) {
      const replaced = row[j]! + (letter === wanted ? 0 : 1);
      next.push(Math.min(replaced, row[j + 1]! + 1, next[j]! + 1));
    }
    row = next;
  }
  return row.at(-1)!;
}
