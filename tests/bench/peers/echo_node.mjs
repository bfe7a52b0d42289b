// Node's dgram.
import dgram from "node:dgram";
import process from "node:process";

const socket = dgram.createSocket("udp4");
socket.on(
  "message",
  (data, peer) => socket.send(data, peer.port, peer.address),
);
socket.bind(Number(process.argv[2]), "127.0.0.1");
