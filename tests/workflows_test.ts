/** Rules of the workflows: who may publish, and what runs beside that right. */
import { assert, assertEquals } from "@std/assert";
import { Program, readTest, ROOT, signalTest, textsBelow } from "./helpers.ts";

/** The real packages replace the stand-ins. */
const WITHOUT_LINKS = `sed -i '/"links": \\[/,/\\]/d' deno.json`;

/** The jobs of a workflow, by their names: their lines. */
function jobsOf(workflow: string): Map<string, string> {
  const [, jobs = ""] = workflow.split(/^jobs:\n/m);
  const parts = jobs.split(/^ {2}(?=\w)/m).slice(1);
  return new Map(parts.map((part) => [part.split(":")[0]!, part]));
}

const workflows = () => textsBelow(".github/workflows/", ".yml");

readTest("workflows: pin each action by its commit", async () => {
  for (const [path, text] of await workflows()) {
    const actions = text.matchAll(/uses: (.*)/g);
    for (const [, action] of actions) {
      assert(/@[0-9a-f]{40} # v\d/.test(action!), `${path}: ${action}`);
    }
  }
});

readTest("publish: only a job without tests has the identity", async () => {
  const text = (await workflows()).get(".github/workflows/publish.yml")!;
  assert(!text.split("jobs:")[0]!.includes("id-token"));
  const jobs = jobsOf(text);
  const commands = (name: string) =>
    [...jobs.get(name)!.matchAll(/run: (.*)/g)].map(([, command]) => command);
  assertEquals([...jobs.keys()], ["ok", "publish"]);
  assert(!jobs.get("ok")!.includes("id-token"));
  assert(commands("ok").some((run) => run!.includes("origin/main")));
  assert(jobs.get("publish")!.includes("needs: ok"));
  assertEquals(commands("publish"), [
    WITHOUT_LINKS,
    "deno publish --allow-dirty",
  ]);
  assert(commands("ok").includes(WITHOUT_LINKS));
});

signalTest(
  "publish: removes the links from deno.json, and no more",
  async () => {
    const deno = JSON.parse(
      await Deno.readTextFile(new URL("deno.json", ROOT)),
    );
    const script = WITHOUT_LINKS.replace("sed -i", "sed");
    await using program = new Program("sh", ["-c", script]);
    const { stdout } = await program.ended();
    const { links, ...rest } = deno;
    assert(links.length > 0);
    assertEquals(JSON.parse(stdout), rest);
  },
);
