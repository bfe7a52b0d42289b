/**
 * Network namespaces: two hosts and a cable between them, for tests that may make
 * them (root on Linux, with `ip`).
 */
import { Program, programTest } from "./helpers.ts";

const HOSTS = ["a", "b"].map((name) => `roundtrip-${Deno.pid}-${name}`);
/** The host with `wire0` at 10.0.0.1, fe80::1 and fd00::1. */
export const ASKING = HOSTS[0]!;
/** The host with `wire1` at 10.0.0.2, fe80::2 and fd00::2. */
export const ANSWERING = HOSTS[1]!;

export async function ip(...args: string[]): Promise<string> {
  const { success, stdout, stderr } = await new Deno.Command("ip", { args })
    .output();
  if (!success) throw new Error(new TextDecoder().decode(stderr));
  return new TextDecoder().decode(stdout);
}

/** Both hosts, with a cable between them; removed at disposal. */
export async function cabled(): Promise<AsyncDisposable> {
  for (const host of HOSTS) await ip("netns", "add", host);
  await ip(
    ...["link", "add", "wire0", "netns", ASKING, "type", "veth"],
    ...["peer", "name", "wire1", "netns", ANSWERING],
  );
  for (const [i, host] of HOSTS.entries()) {
    await ip("-n", host, "link", "set", "lo", "up");
    const device = `wire${i}`;
    // Without duplicate address detection, so that there is no wait.
    await ip("-n", host, "addr", "add", `10.0.0.${i + 1}/24`, "dev", device);
    for (const prefix of ["fe80", "fd00"]) {
      const address = `${prefix}::${i + 1}/64`;
      await ip("-n", host, "addr", "add", address, "dev", device, "nodad");
    }
    // The kernel adds no link-local address beside that one.
    const alone = ["addrgenmode", "none"];
    await ip("-n", host, "link", "set", "dev", device, ...alone);
    await ip("-n", host, "link", "set", device, "up");
    await ip("-n", host, "route", "add", "default", "dev", device);
  }
  return {
    async [Symbol.asyncDispose]() {
      for (const host of HOSTS) await ip("netns", "del", host);
    },
  };
}

/** Runs a program in a host. */
export function inHost(host: string, ...command: string[]): Program {
  return new Program("ip", ["netns", "exec", host, ...command]);
}

/** Runs TypeScript in a host; it ends after 20 seconds at the latest. */
export function run(host: string, code: string): Program {
  const bounded = `Deno.unrefTimer(setTimeout(() => Deno.exit(9), 20_000));
    const sh = (script) => {
      const { success, stderr } = new Deno.Command("sh", {
        args: ["-ec", script] }).outputSync();
      if (!success) throw new Error(new TextDecoder().decode(stderr));
    };
    ${code}`;
  return inHost(host, Deno.execPath(), "eval", "--unstable-net", bounded);
}

/** The reason why namespaces cannot be made, if there is one. */
async function missing(): Promise<string | undefined> {
  const { state } = await Deno.permissions.query({ name: "run" });
  if (state !== "granted") return "--allow-run";
  try {
    await ip("netns", "add", ASKING);
    await ip("netns", "del", ASKING);
  } catch {
    return "ip and root";
  }
}

const reason = await missing();

/** A test in namespaces; ignored where they cannot be made. */
export function namespaceTest(
  name: string,
  fn: () => Promise<void>,
  ...needs: string[]
): void {
  programTest(name, fn, [...reason === undefined ? [] : [reason], ...needs]);
}

/** A server that echoes on all addresses, and prints its port. */
export const SERVER = `import { echo, serve } from "./lib/mod.ts";
  const server = serve({ hostname: "::", engine: "linux" }, echo());
  console.log(server.addr.port);`;
