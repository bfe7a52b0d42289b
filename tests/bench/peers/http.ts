/** An echo server beside an HTTP server in one process: PORT ENGINE. */
import { type Engine, serve } from "../../../lib/mod.ts";

const [port, engine] = [Number(Deno.args[0]), Deno.args[1] as Engine];
const address = { hostname: "127.0.0.1", port };
serve({ ...address, engine, quiet: true, lend: true }, (data) => data);
Deno.serve({ ...address, onListen() {} }, () => new Response("pong"));
