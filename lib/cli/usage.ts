/**
 * The flags of a program as one table, and the text of `--help` that is made from
 * it. Pure.
 *
 * @module
 */

/** A kind of value: its name in the usage text, its syntax and its range. */
export interface Kind<T> {
  value: string;
  /** Reads a value; throws a `SyntaxError` that names the correct values. */
  parse(text: string): T;
  /** Writes a default for the usage text; `String` unless given. */
  show?(value: T): string;
  /** All values, or the first ones, where shells can complete them. */
  choices?: readonly string[];
}

/**
 * A flag: a switch, or with a `kind` one that takes a value. Its entry refers to
 * modes of the program, and to other flags by name.
 */
export interface Flag<Mode extends string = string, Name = string> {
  short?: string;
  /** The heading in the usage text. */
  group?: string;
  help: string;
  /** Whether `--help` lists the flag, and not only `--help all`. */
  everyday?: boolean;
  kind?: Kind<unknown>;
  /** The value where none is given. */
  default?: unknown;
  /** The default in words, where it depends on other flags. */
  usual?: string | number;
  /** The modes that the flag has a meaning in; all unless given. */
  modes?: readonly Mode[];
  /** Other flags that rule this one out. */
  excludes?: readonly Name[];
  /** The flag without which this one has no effect, in all modes or in some. */
  needs?: { flag: Name; modes?: readonly Mode[] };
  /** The modes in which the flag needs the linux engine. */
  linux?: readonly Mode[];
  /** Whether the flag allows for one HOST only. */
  oneHost?: boolean;
}

export type Flags<Mode extends string = string, Name = string> = Record<
  string,
  Flag<Mode, Name>
>;

export interface Program<F extends Flags, Mode extends string> {
  flags: F;
  /**
   * The flags that choose a mode, the first match first; the mode without any
   * has a name instead.
   */
  modes: Record<Mode, readonly string[] | string>;
  /** Flags of other tools, with the remedy for each. */
  foreign?: Readonly<Record<string, string>>;
  /** Its task; installed, its name has `roundtrip-` before it. */
  name: string;
  /** Its purpose in a sentence. */
  summary: string;
  /** Its arguments in short. */
  synopsis: string;
  /** Arguments for each group of flags. */
  examples: Readonly<Record<string, string>>;
  /** The meaning of each exit code. */
  exits: Readonly<Record<number, string>>;
  /** The last lines of `--help all`. */
  notes: string;
}

/** A program as its texts describe it. */
export type Described = Omit<Program<Flags, string>, "modes">;

/**
 * The text of `--help`, or `--help all`: the flags in groups, each with an
 * example.
 */
export function usage(
  { flags, name, ...program }: Described,
  isFull: boolean,
): string {
  const command = `deno task ${name}`;
  const heads = new Map(
    Object.entries<Flag>(flags)
      .filter(([, { everyday }]) => isFull || everyday)
      .map(([name, flag]) => {
        const short = flag.short === undefined ? "    " : `-${flag.short}, `;
        const value = flag.kind ? ` ${flag.kind.value}` : "";
        return [flag, `  ${short}--${name}${value}`];
      }),
  );
  const exampleOf = (group: string) => {
    const args = program.examples[group];
    return args === undefined ? [] : [`  Example: ${command} ${args}`];
  };
  const width = Math.max(...[...heads.values()].map((head) => head.length)) + 2;
  const groups = Map.groupBy(heads, ([{ group }]) => group);
  const lines = [...groups].flatMap(([group, heads]) => [
    `${group}:`,
    ...heads.map(([flag, head]) => head.padEnd(width) + helpOf(flag)),
    ...exampleOf(group!),
  ]);
  const exits = Object.entries(program.exits).map((exit) => exit.join(" "));
  return [
    program.summary,
    `Usage: ${command} ${program.synopsis}`,
    ...lines,
    ...isFull ? [program.notes] : [],
    `Exit codes: ${exits.join("; ")}.`,
  ].join("\n");
}

export function helpOf({ help, kind, usual, default: value }: Flag): string {
  const shown = value === undefined ? usual : (kind?.show ?? String)(value);
  return shown === undefined ? help : `${help} (${shown})`;
}
