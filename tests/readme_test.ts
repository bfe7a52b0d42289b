import { assertEquals } from "@std/assert";
import { client, programTest, ROOT, server } from "./helpers.ts";

programTest("the README lists the flags as --help does", async () => {
  const readme = await Deno.readTextFile(new URL("README.md", ROOT));
  await using asked = server(["--help", "all"]);
  const helps = {
    server: (await asked.ended()).stdout,
    client: (await client(["--help", "all"])).stdout,
  };
  for (const [program, help] of Object.entries(helps)) {
    const marker = `<!-- deno run ${program}.ts --help all -->`;
    const listed = readme.split(marker)[1]?.split("```")[1];
    assertEquals(
      listed,
      `text\n${help.split("\n").slice(2).join("\n")}`,
      program,
    );
  }
});
