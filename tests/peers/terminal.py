"""Runs a program on a terminal, which closes after the first line of its stdout."""
import os
import pty
import sys

reading, writing = os.pipe()
program, terminal = pty.fork()
if program == 0:
    os.dup2(writing, 1)
    os.close(reading)
    os.close(writing)
    os.execvp(sys.argv[1], sys.argv[1:])
os.close(writing)
with os.fdopen(reading, "rb") as stdout:
    first = stdout.readline()
    os.close(terminal)
    sys.stdout.buffer.write(first + stdout.read())
_, status = os.waitpid(program, 0)
sys.exit(abs(os.waitstatus_to_exitcode(status)))
