/** The least that a client is: sends a datagram, and prints the reply. */
// deno-lint-ignore-file no-console -- it is a program
const [port] = Deno.args;
const address = { transport: "udp", hostname: "127.0.0.1" } as const;
const socket = Deno.listenDatagram({ ...address, port: 0 });
const payload = new TextEncoder().encode("Hello UDP Server");
await socket.send(payload, { ...address, port: Number(port) });
const [reply] = await socket.receive();
console.log(new TextDecoder().decode(reply));
