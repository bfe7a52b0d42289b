/**
 * The remedy for a flag that a program does not have. Pure.
 *
 * @module
 */

/**
 * The remedy for an unknown flag: that of `foreign`, the flags of other tools, or
 * the known flags that may have been meant; "" for none.
 */
export function remedyFor(
  flag: string,
  known: readonly string[],
  foreign: Readonly<Record<string, string>>,
): string {
  if (Object.hasOwn(foreign, flag)) return foreign[flag]!;
  const near = flag.startsWith("--")
    ? nearMisses(flag.slice(2), known.map((name) => name.slice(2)))
      .map((name) => `--${name}`)
    : known.filter((name) => name.toLowerCase() === flag.toLowerCase());
  return near.length === 0 ? "" : `did you mean ${near.join(" or ")}?`;
}

/** The names that begin with a text, and the nearest ones unless they are far. */
function nearMisses(wrong: string, names: readonly string[]): string[] {
  const text = wrong.toLowerCase().replaceAll("_", "-");
  const longer = names.filter((name) =>
    text.length > 2 && name.startsWith(text)
  );
  const distances = names.map((name) => distance(text, name));
  const least = Math.min(...distances);
  const most = longer.length > 0 ? 1 : Math.min(3, Math.ceil(text.length / 3));
  const near = names.filter((_, i) => distances[i] === least && least <= most);
  return [...new Set([...near, ...longer])].slice(0, MAX_SHOWN);
}

/** The letters to insert, remove or replace; two swapped ones count once. */
function distance(one: string, other: string): number {
  const rows = [Array.from({ length: other.length + 1 }, (_, j) => j)];
  for (let i = 1; i <= one.length; i++) {
    const [row, above, second] = [[i], rows[i - 1]!, rows[i - 2]];
    for (let j = 1; j <= other.length; j++) {
      const isSame = one[i - 1] === other[j - 1];
      const isSwapped = one[i - 2] === other[j - 1] &&
        one[i - 1] === other[j - 2];
      row[j] = Math.min(
        row[j - 1]! + 1,
        above[j]! + 1,
        above[j - 1]! + (isSame ? 0 : 1),
        second && isSwapped ? second[j - 2]! + 1 : Infinity,
      );
    }
    rows.push(row);
  }
  return rows.at(-1)!.at(-1)!;
}

const MAX_SHOWN = 3;
