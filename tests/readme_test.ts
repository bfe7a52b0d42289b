import { assertEquals } from "@std/assert";
import { client, programTest, ROOT, server } from "./helpers.ts";

programTest("the README lists the flags as --help does", async () => {
  const readme = await Deno.readTextFile(new URL("README.md", ROOT));
  await using asked = server(["--help"]);
  const helps = {
    server: (await asked.ended()).stdout,
    client: (await client(["--help"])).stdout,
  };
  for (const [program, help] of Object.entries(helps)) {
    const marker = `<!-- deno run ${program}.ts --help -->`;
    const listed = readme.split(marker)[1]?.split("```")[1];
    // The formatter takes away the indentation that all lines share.
    const flags = help.split("Options:\n")[1]!.replaceAll(/^ {2}/gm, "");
    assertEquals(listed, `\n${flags}`, program);
  }
});
