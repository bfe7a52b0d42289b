"""The seed's loop: a blocking socket, one datagram after another."""
import socket
import sys

server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("127.0.0.1", int(sys.argv[1])))
while True:
    payload, peer = server.recvfrom(65536)
    server.sendto(payload, peer)
