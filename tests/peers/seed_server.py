"""The server of the textbook pair: a fixed reply to every datagram."""
import socket
import sys

reply = sys.argv[1].encode()
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("127.0.0.1", 0))
print("listening on port", server.getsockname()[1], flush=True)
while True:
    payload, peer = server.recvfrom(1024)
    print("Message from Client:{}".format(payload), flush=True)
    server.sendto(reply, peer)
