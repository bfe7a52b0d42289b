// Bun.udpSocket.
await Bun.udpSocket({
  hostname: "127.0.0.1",
  port: Number(Bun.argv[2]),
  socket: {
    data: (socket, data, port, address) =>
      void socket.send(data, port, address),
  },
});
