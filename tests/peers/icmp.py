"""Answers each datagram by the ICMP message that it names, or else by an echo.

A payload is "TYPE CODE NUMBER": the number fills the last word of the header, the
MTU or a pointer. Arguments: the own address and the port; needs raw sockets.
"""
import socket
import struct
import sys

here, port = sys.argv[1], int(sys.argv[2])
is6 = ":" in here
family = socket.AF_INET6 if is6 else socket.AF_INET
udp = socket.socket(family, socket.SOCK_DGRAM)
udp.bind((here, port))
protocol = socket.IPPROTO_ICMPV6 if is6 else socket.IPPROTO_ICMP
raw = socket.socket(family, socket.SOCK_RAW, protocol)


def checksum(data):
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total & 0xFFFF) + (total >> 16)
    return ~(total + (total >> 16)) & 0xFFFF


def quoted(peer, payload):
    """The headers of the peer's datagram, as a router would quote them."""
    source = socket.inet_pton(family, peer[0].split("%")[0])
    to = socket.inet_pton(family, here)
    length = 8 + len(payload)
    header = struct.pack("!HHHH", peer[1], port, length, 0)
    if is6:
        ip = struct.pack("!IHBB", 6 << 28, length, 17, 64)
    else:
        ip = struct.pack("!BBHHHBBH", 69, 0, 20 + length, 0, 0, 64, 17, 0)
    return ip + source + to + header + payload


print("listening", flush=True)
while True:
    payload, peer = udp.recvfrom(2048)
    words = payload.split()
    if len(words) != 3:
        udp.sendto(payload, peer)
        continue
    kind, code, number = map(int, words)
    body = quoted(peer, payload)
    body += bytes(len(body) % 2)
    message = struct.pack("!BBHI", kind, code, 0, number) + body
    if not is6:
        sum16 = checksum(message)
        message = message[:2] + struct.pack("!H", sum16) + message[4:]
    raw.sendto(message, (peer[0], 0))
