/** Our programs against the textbook pair in Python, in both roles. */
import { assertEquals, assertMatch } from "@std/assert";
import { client, portOf, Program, programTest, server } from "./helpers.ts";

programTest("client: gets the reply of the seed's server", async () => {
  await using python = new Program("python3", [
    "tests/peers/seed_server.py",
    "Hello UDP Client",
  ]);
  const port = await portOf(python);
  assertEquals(await client([`127.0.0.1:${port}`]), {
    code: 0,
    stdout: 'Message from Server b"Hello UDP Client"\n',
    stderr: "",
  });
  assertEquals(await python.line(), "Message from Client:b'Hello UDP Server'");
}, ["python3"]);

programTest("server: answers the seed's client", async () => {
  await using ours = server(["-p", "0", "-c", "1"]);
  const port = await portOf(ours);
  await using python = new Program("python3", [
    "tests/peers/seed_client.py",
    `${port}`,
    "Hello UDP Server",
  ]);
  const { code, stdout } = await python.ended();
  assertEquals([code, stdout], [
    0,
    "Message from Server b'Hello UDP Client'\n",
  ]);
  const ended = await ours.ended();
  assertEquals(ended.code, 0);
  assertMatch(
    ended.stdout,
    /^UDP server up and listening on 127\.0\.0\.1:\d+\nMessage from Client:b"Hello UDP Server"\nClient IP Address:\("127\.0\.0\.1", \d+\)\n$/,
  );
}, ["python3"]);
