"""Sends hostile datagrams to a port of 127.0.0.1, from port 0 too if it may."""
import random
import socket
import struct
import sys

port = int(sys.argv[1])
chance = random.Random(1)
payloads = [b"", b"\0", b"join", b"\x1b[2J\x9b", b"\xff" * 65507]
payloads += [bytes([0x1B]) + bytes(47), bytes(12) + b"\xc0\x0c" + bytes(4)]
payloads += [chance.randbytes(chance.randrange(600)) for _ in range(100)]

plain = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for payload in payloads:
    plain.sendto(payload, ("127.0.0.1", port))

try:
    raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_UDP)
except PermissionError:
    print("without port 0")
    sys.exit()
for payload in payloads:
    header = struct.pack("!HHHH", 0, port, 8 + len(payload), 0)
    raw.sendto(header + payload, ("127.0.0.1", port))
print("with port 0")
