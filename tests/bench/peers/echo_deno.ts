/** The least that a server is: one buffer, and a send that is not awaited. */
const port = Number(Deno.args[0]);
const socket = Deno.listenDatagram({
  ...{ transport: "udp", hostname: "127.0.0.1", port },
});
const buffer = new Uint8Array(65_536);
while (true) {
  const [data, peer] = await socket.receive(buffer);
  socket.send(data, peer).catch(() => {});
}
