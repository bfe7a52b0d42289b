/**
 * `deno task install`: installs the programs, to run from any folder. Arguments are
 * further permissions for both, such as `--allow-ffi`.
 */
// deno-lint-ignore-file no-console -- it is a program
const root = new URL("../", import.meta.url).pathname;
const PERMISSIONS = [
  "--allow-net",
  "--allow-env=TERM",
  "--allow-sys=networkInterfaces",
  ...Deno.args,
];

const wrong = Deno.args.find((arg) => !/^--(allow|deny)-/.test(arg));
if (wrong !== undefined) {
  console.error(`install: '${wrong}' is no permission, such as --allow-ffi`);
  Deno.exit(2);
}
for (const program of ["server", "client"]) {
  const { code } = await new Deno.Command(Deno.execPath(), {
    args: [
      ...["install", "--quiet", "-g", "-f", "--no-config"],
      ...["--import-map", `${root}lib/std/import_map.json`],
      ...[...PERMISSIONS, "--unstable-net", "-n", `roundtrip-${program}`],
      // The programs then name themselves in their messages.
      ...[`${root}${program}.ts`, "--", "--installed"],
    ],
  }).spawn().status;
  if (code !== 0) Deno.exit(code);
}
console.log(`Installed roundtrip-server and roundtrip-client.
They may use: ${PERMISSIONS.join(" ")}
For more, add it here: deno task install --allow-ffi (for --engine linux)
They run the code of ${root}: it must stay there.
To undo it: deno uninstall -g roundtrip-server roundtrip-client`);
if (/[\\/]_npx[\\/]/.test(Deno.execPath())) {
  console.log(
    "They need 'deno' on the PATH, which npx does not leave there: npm install -g deno@2",
  );
}
