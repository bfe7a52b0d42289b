"""Runs a program on a terminal, and prints its output up to its end or a question."""
import os
import pty
import sys

pid, terminal = pty.fork()
if pid == 0:
    os.execvp(sys.argv[1], sys.argv[1:])
output = b""
while b"requests" not in output and b"reads stdin" not in output:
    try:
        more = os.read(terminal, 4096)
    except OSError:
        break
    if not more:
        break
    output += more
print(output.decode().replace("\r\n", "\n"), end="")
os.kill(pid, 9)
os.waitpid(pid, 0)
