/** The programs that are compared. PORT, WINDOW and SECONDS are replaced. */
import { here, ran } from "./process.ts";

/** A program to compare; `build` compiles it, in one attempt. */
export interface Peer {
  name: string;
  build?: string[];
  command: string[];
}

const DENO = Deno.execPath();
const RUN = [DENO, "run", "--unstable-net", "--allow-net", "--allow-ffi"];
const SERVER = [...RUN, "--allow-read", here("../../server.ts"), "--quiet"];
const CLIENT = here("../../client.ts");

/** A server of ours. */
export function server(...flags: string[]): string[] {
  return [...SERVER, ...flags, "-p", "PORT"];
}

/** Echo servers; the folder is for compiled programs. */
export function peers(out: string): Peer[] {
  return [
    {
      name: "roundtrip linux",
      command: server("--echo", "--engine", "linux"),
    },
    { name: "roundtrip deno", command: server("--echo") },
    {
      name: "C",
      build: ["cc", "-O2", "-o", `${out}/echo`, here("peers/echo.c")],
      command: [`${out}/echo`, "PORT"],
    },
    { name: "C with GRO", command: [`${out}/echo`, "PORT", "gro"] },
    {
      name: "Go",
      build: ["go", "build", "-o", `${out}/go`, here("peers/echo.go")],
      command: [`${out}/go`, "PORT"],
    },
    { name: "Bun", command: ["bun", here("peers/echo_bun.mjs"), "PORT"] },
    { name: "Node", command: ["node", here("peers/echo_node.mjs"), "PORT"] },
    {
      name: "bare Deno",
      command: [...RUN, here("peers/echo_deno.ts"), "PORT"],
    },
    { name: "Python", command: ["python3", here("peers/echo.py"), "PORT"] },
    {
      name: "asyncio",
      command: ["python3", here("peers/echo_asyncio.py"), "PORT"],
    },
  ];
}

/** Our client of a kind, by an engine. */
function ours(kind: string, engine: string): Peer {
  const args = ["PORT", "WINDOW", "SECONDS", kind, engine];
  return {
    name: `${kind} ${engine}`,
    command: [...RUN, here("clients/ours.ts"), ...args],
  };
}

/** Clients under load, whose output is that of `load.c`. */
export function clients(out: string): Peer[] {
  return [
    {
      name: "C",
      command: [`${out}/load`, "PORT", "WINDOW", "16", "1", "SECONDS"],
    },
    {
      name: "Go",
      build: [
        "go",
        "build",
        "-o",
        `${out}/go_client`,
        here("clients/client.go"),
      ],
      command: [`${out}/go_client`, "PORT", "WINDOW", "SECONDS"],
    },
    ...["node", "bun"].map((runtime) => ({
      name: runtime === "node" ? "Node" : "Bun",
      command: [
        ...[runtime, here("clients/node.mjs"), "PORT", "WINDOW", "SECONDS"],
      ],
    })),
    ...["deno", "linux"].flatMap((engine) =>
      ["connect", "request", "requestMany", "load"].map((kind) =>
        ours(kind, engine)
      )
    ),
  ];
}

/** Programs that send one datagram, and print the reply. */
export const STARTS: Peer[] = [
  { name: "bare script", args: [here("clients/bare.ts"), "PORT"] },
  { name: "client.ts", args: [CLIENT, "127.0.0.1", "PORT"] },
  {
    name: "client.ts linux",
    args: ["--allow-ffi", CLIENT, "127.0.0.1", "PORT", "--engine", "linux"],
  },
].map(({ name, args }) => ({
  name,
  command: [DENO, "run", "--unstable-net", "--allow-net", ...args],
}));

/** Our scripts of a case, on the engine that they are given. */
export function script(path: string, ...args: string[]): string[] {
  return [...RUN, here(path), ...args];
}

/** Compiles the load generator; whether that succeeded. */
export async function buildLoad(out: string): Promise<boolean> {
  return await ran(["cc", "-O2", "-o", `${out}/load`, here("load.c")]);
}

/** Compiles what can be compiled. */
export async function build(programs: Peer[]): Promise<void> {
  for (const { build } of programs) if (build !== undefined) await ran(build);
}

/** A command with its values. */
export function filled(
  command: string[],
  values: Record<string, number>,
): string[] {
  return command.map((arg) => `${values[arg] ?? arg}`);
}
