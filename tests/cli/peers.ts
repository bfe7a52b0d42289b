/** Servers for the tests of both programs. */
import { encode } from "../../lib/encoding.ts";
import { openDenoSocket } from "../../lib/socket/deno_socket.ts";
import { portOf, server } from "../helpers.ts";

/** A parsed JSON object. */
export const WALL_TIME_REGEXP = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/;

/** A server of ours, and its address. */
export async function started(args: string[] = []) {
  const program = server(["-p", "0", ...args]);
  const port = await portOf(program);
  return {
    target: `127.0.0.1:${port}`,
    port,
    program,
    [Symbol.asyncDispose]: () => program[Symbol.asyncDispose](),
  };
}

/** A server within the test, with the answers of `onDatagram`. */
export function peer(
  answer: (seq: number, data: Uint8Array) => Array<string | Uint8Array>,
) {
  const socket = openDenoSocket({
    hostname: "127.0.0.1",
    port: 0,
    maxDatagramBytes: 100,
  });
  let seq = 0;
  const finished = socket.start({
    onDatagram(datagram) {
      const data = new Uint8Array(datagram.data);
      for (const reply of answer(seq++, data)) {
        socket.send(encode(reply), datagram.remoteAddr).catch(() => {});
      }
      socket.release(datagram);
    },
  });
  return {
    target: `127.0.0.1:${socket.addr.port}`,
    async [Symbol.asyncDispose]() {
      socket.close();
      await finished;
    },
  };
}

/** An address without a server. */
export async function closedPort(): Promise<string> {
  await using nothing = peer(() => []);
  return nothing.target;
}
