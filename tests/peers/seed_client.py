"""The client of the textbook pair: sends one datagram, prints the reply."""
import socket
import sys

port, message = int(sys.argv[1]), sys.argv[2].encode()
client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
client.settimeout(10)
client.sendto(message, ("127.0.0.1", port))
print("Message from Server {}".format(client.recvfrom(1024)[0]))
