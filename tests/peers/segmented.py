"""Sends datagrams of one flow in one call (UDP_SEGMENT), counts the echoes."""
import socket
import sys

SOL_UDP, UDP_SEGMENT = 17, 103
port, count, size = (int(arg) for arg in sys.argv[1:])
flow = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
flow.setsockopt(SOL_UDP, UDP_SEGMENT, size)
flow.settimeout(10)
datagrams = ["{:04} ".format(i).ljust(size, "x").encode() for i in range(count)]
# The last one may be shorter.
datagrams[-1] = datagrams[-1][:5]
flow.sendto(b"".join(datagrams), ("127.0.0.1", port))
echoes = [flow.recv(65536) for _ in datagrams]
print("alike" if sorted(echoes) == sorted(datagrams) else echoes)
