/**
 * `deno task recipe NAME [ARGUMENT…]`: runs a program of docs/recipes.md as it
 * stands there; without a name, lists the names.
 */
// deno-lint-ignore-file no-console -- it is a program

/** The programs, by their names, in the order of the page. */
export async function recipes(): Promise<Map<string, string>> {
  const path = new URL("../docs/recipes.md", import.meta.url);
  const found = (await Deno.readTextFile(path)).matchAll(
    /<!-- (\w+)\.ts -->\n\n```ts ignore\n([^]*?)```/g,
  );
  return new Map([...found].map(([, name, code]) => [name!, code!]));
}

if (import.meta.main) {
  // The program finds its own arguments in `Deno.args`.
  const name = Deno.args.shift();
  const all = await recipes();
  const code = all.get(name ?? "");
  if (code !== undefined) {
    const started = code.replace("import.meta.main", "true");
    await import(`data:application/typescript,${encodeURIComponent(started)}`);
  } else if (name === undefined) {
    for (const known of all.keys()) console.log(known);
  } else {
    const names = [...all.keys()].join(", ");
    console.error(`recipe: no recipe ${JSON.stringify(name)}: ${names}`);
    Deno.exit(2);
  }
}
